"""Performer: softmax attention estimated with positive orthogonal random features (FAVOR+).

Paper: Choromanski, Likhosherstov, Dohan, Song, Gane, Sarlos, Hawkins, Davis, Mohiuddin, Kaiser, Belanger,
Colwell, Weller 2020, "Rethinking Attention with Performers", arXiv 2009.14794.

    kernel       exp(qᵀk) = E[ exp(wᵀq - |q|²/2) · exp(wᵀk - |k|²/2) ],  w ~ N(0, I)
    features     φ(x)ⱼ = exp(wⱼᵀx - |x|²/2) / √m,  j = 1 … m, so that E[ φ(q)ᵀφ(k) ] = exp(qᵀk)
    error        independent wⱼ: mean squared error exp(|q + k|²) · exp(2 qᵀk) · (1 - exp(-|q + k|²)) / m;
                 orthogonal wⱼ: smaller
    attention    Att(Q, K, V) = D⁻¹ (φ(Q) (φ(K)ᵀ V)),  D = diag(φ(Q) (φ(K)ᵀ 1)),  on q and k divided by d^¼

Time and memory are linear in the number of tokens: the (n, n) matrix is never made.

Deviation: the features are drawn once, at construction, and kept in a buffer (the paper redraws them
while training), so that a forward pass uses no random numbers. Against overflow, what cancels in D⁻¹ is
subtracted in the exponents.

Shapes: b batch, a heads, n tokens, d channels of a head, m random features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def orthogonal_gaussian(m: int, d: int, generator: torch.Generator | None = None) -> Tensor:
    """m vectors, each distributed as N(0, I_d), orthogonal to each other within blocks of d: (m, d)."""
    gaussian = torch.randn(-(-m // d), d, d, generator=generator, device="cpu")  # (blocks, d, d)
    q, r = torch.linalg.qr(gaussian)
    signs = r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # (blocks, 1, d); or q's would not be drawn evenly
    directions = (q * signs).transpose(1, 2).reshape(-1, d)[:m]  # (m, d), rows orthonormal within blocks
    lengths = torch.randn(m, d, generator=generator, device="cpu").norm(dim=1, keepdim=True)
    return directions * lengths


def log_features(x: Tensor, w: Tensor) -> Tensor:
    """log φ(x) in float32: x (b, a, n, d), w (m, d) -> (b, a, n, m)."""
    x, w = x.float(), w.float()
    return x @ w.T - x.square().sum(-1, keepdim=True) / 2 - math.log(len(w)) / 2


class LinearAttention(nn.Module):
    """Attention whose kernel is a product of features: keys and values are summed before a query is seen."""

    epsilon = 1e-8  # a query that matches no key at all gives zero and not NaN

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Positive features q, k (b, a, n, m) and values v (b, a, n, d) -> (b, a, n, d)."""
        summary = k.transpose(2, 3) @ v.to(k.dtype)  # (b, a, m, d)
        norm = q @ k.sum(2).unsqueeze(3)  # (b, a, n, 1)
        return (q @ summary / (norm + self.epsilon)).to(v.dtype)

    def implied_matrix(self, q: Tensor, k: Tensor) -> Tensor:
        """What `forward` applies to v, made: features (b, a, n, m) -> (b, a, n, n), rows sum to 1."""
        product = q @ k.transpose(2, 3)  # (b, a, n, n)
        return product / (product.sum(-1, keepdim=True) + self.epsilon)


class PerformerAttention(nn.Module):
    """FAVOR+ in the place of softmax attention.

    Args:
        head_dim: d, channels of a head.
        features: m, random features; the error falls as 1/√m.
        seed: of the draw.
    """

    w: Tensor

    def __init__(self, head_dim: int, features: int = 128, *, seed: int = 0) -> None:
        super().__init__()
        w = orthogonal_gaussian(features, head_dim, torch.Generator("cpu").manual_seed(seed))
        self.register_buffer("w", w.to(torch.get_default_device()))
        self.linear = LinearAttention()

    def features(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """φ of scaled q and k (b, a, n, d), each up to a factor that cancels: two tensors (b, a, n, m)."""
        root = q.shape[-1] ** -0.25
        q, k = log_features(q * root, self.w), log_features(k * root, self.w)
        return (q - q.amax(-1, keepdim=True)).exp(), (k - k.amax((-2, -1), keepdim=True)).exp()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (b, a, n, d) -> (b, a, n, d)."""
        return self.linear(*self.features(q, k), v)

    def implied_matrix(self, q: Tensor, k: Tensor) -> Tensor:
        """The matrix applied to v, an estimate of softmax(q kᵀ / √d): q, k (b, a, n, d) -> (b, a, n, n)."""
        return self.linear.implied_matrix(*self.features(q, k))
