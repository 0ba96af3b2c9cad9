"""One ViT, four attentions: exact, Linformer, Performer, BigBird. Everything but the attention is the same.

Paper: Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", arXiv 2010.11929, in the size of DeiT-Ti (Touvron et al. 2020, arXiv 2012.12877). The attentions
stand in their own files: linformer.py (arXiv 2006.04768), performer.py (2009.14794), bigbird.py
(2007.14062).

    tokens    X = [class token; patches of 16 × 16 pixels, projected] + positions
    block     X ← X + MultiHead(LN(X));  X ← X + MLP(LN(X))
    head      W LN(X)₀, on the class token

Each attention is a module `attend` with `forward(q, k, v)` and `implied_matrix(q, k)`: the (n, n) matrix
that it applies to v, whether it makes it or not, so that an approximation can be seen and its error
measured. Names and shapes of all else are timm's, so that one set of weights fits all four.

Deviation: none of these attentions was published on these tokens; the models are for teaching.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, resample_abs_pos_embed
from torch import Tensor, nn

from vizlib.models.architectures.bigbird import BigBirdAttention
from vizlib.models.architectures.linformer import LinformerAttention
from vizlib.models.architectures.performer import PerformerAttention

# (channels of a head, token grid (r, s), index of the layer) -> the layer's attention
MakeAttention = Callable[[int, tuple[int, int], int], nn.Module]

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class ExactAttention(nn.Module):
    """softmax(q kᵀ / √d) v."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (b, a, n, d) -> (b, a, n, d)."""
        return F.scaled_dot_product_attention(q, k, v)

    def implied_matrix(self, q: Tensor, k: Tensor) -> Tensor:
        """q, k (b, a, n, d) -> (b, a, n, n), rows sum to 1."""
        return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)  # k as (b, a, d, n)


class MultiHead(nn.Module):
    """Projections to queries, keys, values and back, round any attention."""

    def __init__(self, dim: int, heads: int, attend: nn.Module) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attend = attend
        self.proj = nn.Linear(dim, dim)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (b, n, c) -> q, k, v, each (b, a, n, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (b, n, 3, a, d)
        return qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (3, b, a, n, d) apart

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n, c) -> (b, n, c)."""
        seen = self.attend(*self.split(x))  # (b, a, n, d)
        return self.proj(seen.transpose(1, 2).flatten(2))  # (b, n, a, d) -> (b, n, a·d = c)


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, attend: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = MultiHead(dim, heads, attend)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n, c) -> (b, n, c)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class EfficientViT(nn.Module):
    """ViT with a class token whose attention is made by the caller.

    Args:
        make_attention: (channels of a head, token grid (r, s), index of the layer) -> attention module.
        dim, depth, heads, mlp_ratio, patch: of the ViT.
        num_classes: length of the logits.
        image_size: pixels, a side or (rows, columns). Exact and Performer take other sizes too (positions are
            interpolated), Linformer and BigBird do not.
        drop_path: stochastic depth of the last block, rising linearly from 0.
    """

    def __init__(
        self,
        make_attention: MakeAttention,
        *,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        patch: int = 16,
        num_classes: int = 1000,
        image_size: int | tuple[int, int] = 224,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        h, w = (image_size, image_size) if isinstance(image_size, int) else image_size
        self.grid = (h // patch, w // patch)
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, dim, patch, stride=patch)))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], dim))
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(
            *(
                Block(dim, heads, mlp_ratio, make_attention(dim // heads, self.grid, layer), rate)
                for layer, rate in enumerate(rates)
            )
        )
        self.norm = LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)
        self.apply(_initialise)

    def embed(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> tokens with positions (b, 1 + r·s, c)."""
        x = self.patch_embed(x)  # (b, c, r, s)
        positions = resample_abs_pos_embed(self.pos_embed, list(x.shape[2:]), list(self.grid))
        x = x.flatten(2).transpose(1, 2)  # (b, c, r·s) -> (b, r·s, c)
        return torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + positions

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, num_classes)."""
        return self.head(self.norm(self.blocks(self.embed(x)))[:, 0])

    def implied_matrix(self, x: Tensor, layer: int) -> Tensor:
        """The (n, n) matrix that one layer applies to its values: image (b, 3, h, w) -> (b, a, n, n)."""
        x = self.blocks[:layer](self.embed(x))
        block: Any = self.blocks[layer]
        q, k, _ = block.attn.split(block.norm1(x))
        return block.attn.attend.implied_matrix(q, k)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def vit_exact(**options: Any) -> EfficientViT:
    """Exact attention: time O(n²)."""
    return EfficientViT(lambda d, grid, layer: ExactAttention(), **options)


def vit_linformer(*, projected: int = 64, **options: Any) -> EfficientViT:
    """Linformer with `projected` keys: time O(n)."""
    return EfficientViT(lambda d, grid, layer: LinformerAttention(1 + grid[0] * grid[1], projected), **options)


def vit_performer(*, features: int = 128, seed: int = 0, **options: Any) -> EfficientViT:
    """Performer with `features` random features, drawn anew for each layer: time O(n)."""
    return EfficientViT(lambda d, grid, layer: PerformerAttention(d, features, seed=seed + layer), **options)


def vit_bigbird(*, window: int = 3, random: int = 6, seed: int = 0, **options: Any) -> EfficientViT:
    """BigBird's pattern, its random part drawn anew for each layer: O(n) entries of the matrix are used."""
    return EfficientViT(lambda d, grid, layer: BigBirdAttention(grid, window, random, seed=seed + layer), **options)
