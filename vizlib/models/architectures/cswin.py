"""CSWin Transformer: attention inside cross-shaped windows.

Paper: Dong, Bao, Chen, Zhang, Yu, Yuan, Chen, Guo 2021, "CSWin Transformer: A General Vision Transformer
Backbone with Cross-Shaped Windows", arXiv 2107.00652.

A token attends to its own stripe of the grid: half of the heads see a vertical stripe (all rows, `sw`
columns), the other half a horizontal one (`sw` rows, all columns), so that together they see a cross.

    stripes      X = [X¹, …, Xᴹ],  Yᵢ = Attention(Xⁱ W_Q, Xⁱ W_K, Xⁱ W_V),  head_k(X) = [Y₁, …, Y_M]
    CSWin        CSWin-Attention(X) = Concat(head_1, …, head_K) W_O, the two halves with their own stripes
    LePE         Attention(Q, K, V) = softmax(Q Kᵀ / √d) V + DWConv₃ₓ₃(V), zero-padded inside each window
    block        X ← X + CSWin-Attention(LN(X));  X ← X + MLP(LN(X))

Deviations, from the paper: the authors' published code gives the first half of the channels to the
vertical stripes (the paper writes the horizontal ones first); this file follows the code, whose
checkpoints it takes. From the code: any input size is taken; where a grid is no multiple of the stripe
width it is padded, and padding is never attended to.

Tokens stay a grid (b, r, s, c) from end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn


class StripeAttention(nn.Module):
    """Self-attention with LePE in windows of `stripe` = (rows, columns) cells; None is the whole extent."""

    def __init__(self, dim: int, heads: int, stripe: tuple[int | None, int | None]) -> None:
        super().__init__()
        self.heads, self.stripe = heads, stripe
        self.get_v = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)  # LePE; the name is the checkpoints'

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (b, r, s, c) -> (b, r, s, c)."""
        b, r, s, c = q.shape
        rows, columns = self.stripe[0] or r, self.stripe[1] or s
        below, right = -r % rows, -s % columns
        if below or right:
            q, k, v = (F.pad(t, (0, 0, 0, right, 0, below)) for t in (q, k, v))  # padded on two sides
        bands, lanes = (r + below) // rows, (s + right) // columns  # windows down and across, g together

        def windows(t: Tensor) -> Tensor:
            t = t.view(b, bands, rows, lanes, columns, c)  # r = bands · rows, s = lanes · columns
            t = t.permute(0, 1, 3, 5, 2, 4)  # (b, bands, lanes, c, rows, columns)
            return t.reshape(-1, c, rows, columns)  # (b·g, c, rows, columns)

        def split_heads(t: Tensor) -> Tensor:
            t = t.reshape(-1, self.heads, c // self.heads, rows * columns)  # (b·g, a, d, n)
            return t.transpose(2, 3)  # (b·g, a, n, d)

        q, k, v = windows(q), windows(k), windows(v)
        mask = None
        if below or right:
            mask = real_keys((r, s), (bands, rows, lanes, columns), q.device).repeat(b, 1, 1, 1)
        out = F.scaled_dot_product_attention(split_heads(q), split_heads(k), split_heads(v), attn_mask=mask)
        out = out + split_heads(self.get_v(v))
        out = out.transpose(1, 2).reshape(b, bands, lanes, rows, columns, c)  # from (b·g, n, a, d)
        out = out.transpose(2, 3).reshape(b, bands * rows, lanes * columns, c)  # from (b, bands, rows, lanes, …)
        return out[:, :r, :s]


def real_keys(grid: tuple[int, int], split: tuple[int, int, int, int], device: torch.device) -> Tensor:
    """Which slots of each window hold a token of the grid (r, s) and not padding: (g, 1, 1, n) bool."""
    bands, rows, lanes, columns = split
    row = torch.arange(bands * rows, device=device).view(bands, 1, rows, 1) < grid[0]  # (bands, 1, rows, 1)
    column = torch.arange(lanes * columns, device=device).view(1, lanes, 1, columns) < grid[1]  # (1, lanes, 1, columns)
    return (row & column).reshape(bands * lanes, 1, 1, rows * columns)  # (g, 1, 1, n) of (bands, lanes, rows, columns)


class CSWinBlock(nn.Module):
    """Cross-shaped attention, then an MLP; `stripe` None is full attention in one branch (last stage)."""

    def __init__(self, dim: int, heads: int, stripe: int | None, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.norm1 = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, dim)
        if stripe is None:
            branches = [StripeAttention(dim, heads, (None, None))]
        else:
            shapes = (None, stripe), (stripe, None)
            branches = [StripeAttention(dim // 2, heads // 2, shape) for shape in shapes]
        self.attns = nn.ModuleList(branches)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.norm2 = nn.LayerNorm(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, r, s, c) -> (b, r, s, c)."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)  # each (b, r, s, c)
        parts = zip(*(t.chunk(len(self.attns), -1) for t in (q, k, v)), strict=True)  # by branch: (b, r, s, c/2)
        seen = [attend(*part) for attend, part in zip(self.attns, parts, strict=True)]
        x = x + self.drop_path(self.proj(torch.cat(seen, -1)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ToGrid(nn.Module):
    """Convolution features (b, c, r, s) -> tokens (b, r, s, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)  # (b, r, s, c)


class Merge(nn.Module):
    """Between stages: half the rows and columns, twice the channels."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, out, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, r, s, c) -> (b, ⌈r/2⌉, ⌈s/2⌉, out)."""
        x = self.conv(x.permute(0, 3, 1, 2))  # (b, out, ⌈r/2⌉, ⌈s/2⌉)
        return self.norm(x.permute(0, 2, 3, 1))  # (b, ⌈r/2⌉, ⌈s/2⌉, out)


class CSWin(nn.Module):
    """Four stages of blocks on grids of 1/4, 1/8, 1/16 and 1/32 of the image, then the mean over tokens.

    Args:
        dim: channels of the first stage; each stage has twice those of the one before.
        depths: blocks per stage.
        heads: attention heads per stage.
        stripes: stripe width per stage in cells; the last stage attends to its whole grid and needs none.
        num_classes: length of the logits.
        mlp_ratio: hidden channels of the MLP over its input's.
        drop_path: stochastic depth of the last block, rising linearly from 0.
    """

    def __init__(
        self,
        dim: int,
        depths: Sequence[int],
        heads: Sequence[int],
        stripes: Sequence[int] = (1, 2, 7),
        *,
        num_classes: int = 1000,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        dims = [dim * 2**stage for stage in range(4)]
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        widths = (*stripes, None)

        def stage(i: int) -> nn.Sequential:
            shape = dims[i], heads[i], widths[i], mlp_ratio
            return nn.Sequential(*(CSWinBlock(*shape, next(rates)) for _ in range(depths[i])))

        stem = nn.Conv2d(3, dim, 7, stride=4, padding=2)
        self.stage1_conv_embed = nn.Sequential(stem, ToGrid(), nn.LayerNorm(dim))
        self.stage1, self.stage2, self.stage3, self.stage4 = (stage(i) for i in range(4))
        self.merge1, self.merge2, self.merge3 = (Merge(dims[i], dims[i + 1]) for i in range(3))
        self.norm = nn.LayerNorm(dims[-1])
        self.head = nn.Linear(dims[-1], num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, num_classes)."""
        x = self.stage1(self.stage1_conv_embed(x))  # (b, h/4, w/4, dim)
        x = self.stage2(self.merge1(x))  # (b, h/8, w/8, 2·dim)
        x = self.stage3(self.merge2(x))  # (b, h/16, w/16, 4·dim)
        x = self.norm(self.stage4(self.merge3(x)))  # (b, h/32, w/32, 8·dim)
        return self.head(x.mean((1, 2)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def cswin_t(**options: Any) -> CSWin:
    """CSWin-T: 22 M parameters, 4.3 GMACs."""
    return CSWin(64, (1, 2, 21, 1), (2, 4, 8, 16), **options)


def cswin_s(**options: Any) -> CSWin:
    """CSWin-S: 35 M parameters, 6.8 GMACs."""
    return CSWin(64, (2, 4, 32, 2), (2, 4, 8, 16), **options)


def cswin_b(**options: Any) -> CSWin:
    """CSWin-B: 77 M parameters, 15.0 GMACs."""
    return CSWin(96, (2, 4, 32, 2), (4, 8, 16, 32), **options)
