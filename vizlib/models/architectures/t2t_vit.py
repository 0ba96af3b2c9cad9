"""T2T-ViT: an image becomes tokens in three overlapping steps; neighbours mix before they are merged.

Paper: Yuan, Chen, Wang, Yu, Shi, Jiang, Tay, Feng, Yan 2021, "Tokens-to-Token ViT: Training Vision
Transformers from Scratch on ImageNet", arXiv 2101.11986.

    soft split       T₀ = Unfold₇,₄,₂(image),  Tᵢ₊₁ = Unfold₃,₂,₁(Iᵢ)   (kernel, stride, padding)
    re-structurise   T'ᵢ = MLP(Attention(Tᵢ)),  Iᵢ = Reshape(T'ᵢ)
    backbone         [class token; T_last] + E_sinusoid, then ViT blocks, then a head on the class token

The attention of the two steps is a Performer (arXiv 2009.14794, see performer.py) in t2t_vit_7 and
t2t_vit_14, because it runs over 56 × 56 tokens, and softmax attention in t2t_vit_t_14.

Deviations, from the paper: the authors' published code adds the value v, not the block's input, to the
attention's result (the input is wider than the output), and scales softmax attention by the width before
the projection; this file follows the code, whose checkpoints it takes. From the code: any input size is
taken, positions are interpolated.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import Mlp, resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vizlib.models.architectures.performer import LinearAttention, log_features


def soft_split(x: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, tuple[int, int]]:
    """Overlapping squares of an image (b, c, h, w) as tokens (b, r·s, c·kernel²), and their grid (r, s)."""
    r, s = ((size + 2 * padding - kernel) // stride + 1 for size in x.shape[-2:])
    squares = F.unfold(x, kernel, padding=padding, stride=stride)  # (b, c·kernel², r·s)
    return squares.transpose(1, 2), (r, s)


def restructurise(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (b, r·s, c) back to a grid (b, c, r, s)."""
    return tokens.transpose(1, 2).unflatten(2, grid)  # (b, c, r·s) -> (b, c, r, s)


class TokenPerformer(nn.Module):
    """Attention with random features, then an MLP: (b, n, wide) -> (b, n, dim)."""

    def __init__(self, wide: int, dim: int, features: int = 32) -> None:
        super().__init__()
        self.kqv = nn.Linear(wide, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(wide)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.w = nn.Parameter(torch.empty(features, dim), requires_grad=False)  # drawn, never trained
        with torch.no_grad():
            nn.init.orthogonal_(self.w).mul_(math.sqrt(features))
        self.attend = LinearAttention()

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n, wide) -> (b, n, dim)."""
        k, q, v = self.kqv(self.norm1(x)).unsqueeze(1).chunk(3, -1)  # one head: each (b, 1, n, dim)
        seen = self.attend(log_features(q, self.w).exp(), log_features(k, self.w).exp(), v)
        x = (v + self.proj(seen)).squeeze(1)  # (b, n, dim)
        return x + self.mlp(self.norm2(x))


class TokenAttention(nn.Module):
    """Softmax attention with one head from `wide` to `dim` channels, added to the value."""

    def __init__(self, wide: int, dim: int) -> None:
        super().__init__()
        self.scale = wide**-0.5
        self.qkv = nn.Linear(wide, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n, wide) -> (b, n, dim)."""
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)  # one head: each (b, 1, n, dim)
        seen = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return (v + self.proj(seen)).squeeze(1)  # (b, n, dim)


class TokenTransformer(nn.Module):
    """Softmax attention, then an MLP: (b, n, wide) -> (b, n, dim)."""

    def __init__(self, wide: int, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(wide)
        self.attn = TokenAttention(wide, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n, wide) -> (b, n, dim)."""
        x = self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TokensToToken(nn.Module):
    """Three soft splits, a token block after the first two: image (b, 3, h, w) -> tokens (b, r, s, dim)."""

    def __init__(self, dim: int, block: type[TokenPerformer | TokenTransformer], token_dim: int = 64) -> None:
        super().__init__()
        self.attention1 = block(3 * 7 * 7, token_dim)
        self.attention2 = block(token_dim * 3 * 3, token_dim)
        self.project = nn.Linear(token_dim * 3 * 3, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens, grid = soft_split(x, 7, 4, 2)  # (b, h/4 · w/4, 147)
        x = restructurise(self.attention1(tokens), grid)  # (b, 64, h/4, w/4)
        tokens, grid = soft_split(x, 3, 2, 1)  # (b, h/8 · w/8, 576)
        x = restructurise(self.attention2(tokens), grid)  # (b, 64, h/8, w/8)
        tokens, grid = soft_split(x, 3, 2, 1)  # (b, h/16 · w/16, 576)
        return self.project(tokens).unflatten(1, grid)  # (b, r, s, dim)


def sinusoid(positions: int, dim: int) -> Tensor:
    """Position code (1, positions, dim): sine in even, cosine in odd channels of pos / 10000^(2⌊j/2⌋/dim)."""
    position = torch.arange(positions, dtype=torch.float64)[:, None]  # (positions, 1)
    channel = torch.arange(dim, dtype=torch.float64)
    angle = position / 10000 ** (2 * (channel // 2) / dim)  # (positions, dim)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


class T2TViT(nn.Module):
    """Tokens-to-token module, then ViT blocks without bias in q, k, v.

    Args:
        dim: channels of the backbone.
        depth: blocks of the backbone.
        heads: attention heads.
        mlp_ratio: hidden channels of the MLP over its input's.
        tokens: attention of the token blocks.
        num_classes: length of the logits.
        image_size: pixels of the square image whose grid the stored positions belong to.
        drop_path: stochastic depth of the last block, rising linearly from 0.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        tokens: Literal["performer", "transformer"] = "performer",
        *,
        num_classes: int = 1000,
        image_size: int = 224,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        block = TokenPerformer if tokens == "performer" else TokenTransformer
        self.tokens_to_token = TokensToToken(dim, block)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(sinusoid(1 + (image_size // 16) ** 2, dim), requires_grad=False)
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(
            *(Block(dim, heads, mlp_ratio, drop_path=rate, norm_layer=nn.LayerNorm) for rate in rates)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, num_classes)."""
        x = self.tokens_to_token(x)  # (b, r, s, dim)
        grid = list(x.shape[1:3])
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x.flatten(1, 2)], 1)  # (b, 1 + r·s, dim)
        x = self.blocks(x + resample_abs_pos_embed(self.pos_embed, grid))
        return self.head(self.norm(x)[:, 0])


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def t2t_vit_7(**options: Any) -> T2TViT:
    """T2T-ViT-7: 4.3 M parameters, 1.1 GMACs."""
    return T2TViT(256, 7, 4, 2.0, **options)


def t2t_vit_14(**options: Any) -> T2TViT:
    """T2T-ViT-14: 21.5 M parameters, 4.8 GMACs."""
    return T2TViT(384, 14, 6, 3.0, **options)


def t2t_vit_t_14(*, tokens: Literal["performer", "transformer"] = "transformer", **options: Any) -> T2TViT:
    """T2T-ViT_t-14, softmax attention in the token blocks: 21.5 M parameters, 6.1 GMACs."""
    return T2TViT(384, 14, 6, 3.0, tokens, **options)
