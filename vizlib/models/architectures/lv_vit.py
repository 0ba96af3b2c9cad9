"""LV-ViT: a ViT in which every patch learns to name what it shows (token labelling).

Paper: Jiang, Hou, Yuan, Zhou, Shi, Jin, Wang, Feng 2021, "All Tokens Matter: Token Labeling for Training
Better Vision Transformers", arXiv 2104.10858.

    tokens          [X_cls, X₁ … X_N] = ViT(image); X_cls goes to one linear head, every Xᵢ to another
    token labels    L = H(X_cls, y_cls) + 0.5 · 1/N Σᵢ H(Xᵢ, yᵢ), yᵢ from a teacher's dense map; the caller's
    MixToken        X̂ = X ⊙ M + X' ⊙ (1 - M) on the patch embeddings of two photos, M a random box
    residual        X ← X + Attention(LN(X)) / λ;  X ← X + MLP(LN(X)) / λ
    evaluation      class logits = head(X_cls) + 0.5 · maxᵢ aux_head(Xᵢ)

The output of `aux_head` (b, r·s, num_classes) is a map: which class each patch of the image speaks for.

Deviation, from the authors' code: any input size is taken, positions are interpolated.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DropPath, Mlp, resample_abs_pos_embed
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

Box = tuple[int, int, int, int]  # rows from, to; columns from, to; in cells of the token grid


class PatchEmbed(nn.Module):
    """Three convolutions, then patches of 8 × 8: (b, 3, h, w) -> (b, dim, h/16, w/16)."""

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.proj = nn.Conv2d(width, dim, 8, stride=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()  # (b, width, h/2, w/2)
        x = self.bn2(self.conv2(x)).relu()
        x = self.bn3(self.conv3(x)).relu()
        return self.proj(x)


class Block(nn.Module):
    """Pre-norm attention and MLP, each divided by `skip` before it is added."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, skip: float, drop_path: float) -> None:
        super().__init__()
        self.skip = skip
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, n, c) -> (b, n, c)."""
        x = x + self.drop_path(self.attn(self.norm1(x))) / self.skip
        return x + self.drop_path(self.mlp(self.norm2(x))) / self.skip


def random_box(r: int, s: int) -> Box:
    """A box in a grid (r, s) whose share of the grid, before the border cuts it, is uniform in [0, 1]."""
    side = float(torch.rand(())) ** 0.5
    edges = []
    for size in (r, s):
        half = int(size * side) // 2
        centre = int(torch.randint(size, ()))
        edges += [max(centre - half, 0), min(centre + half, size)]
    return edges[0], edges[1], edges[2], edges[3]


def mix(x: Tensor, box: Box) -> Tensor:
    """Grids x (b, r, s, c) with the box taken from the batch in reverse order; twice is the identity."""
    top, bottom, left, right = box
    mixed = x.clone()
    mixed[:, top:bottom, left:right] = x.flip(0)[:, top:bottom, left:right]
    return mixed


class LVViT(nn.Module):
    """ViT with a class head and a dense head.

    Args:
        dim, depth, heads, mlp_ratio: of the ViT.
        skip: λ, what residual branches are divided by.
        num_classes: length of the logits.
        image_size: pixels of the square image whose grid the stored positions belong to.
        mix_token: mix patches of two photos in training; draws random numbers.
        drop_path: stochastic depth of the last block, rising linearly from 0.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 3.0,
        skip: float = 1.0,
        *,
        num_classes: int = 1000,
        image_size: int = 224,
        mix_token: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.mix_token = mix_token
        self.patch_embed = PatchEmbed(dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (image_size // 16) ** 2, dim))
        rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio, skip, rate) for rate in rates))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.aux_head = nn.Linear(dim, num_classes)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Box]:
        """Image (b, 3, h, w) -> logits (b, num_classes).

        In training: class logits (b, num_classes), patch logits (b, r·s, num_classes) and the box that
        MixToken took from the batch in reverse order; the patch logits are back in their own photos.
        """
        x = self.patch_embed(x).permute(0, 2, 3, 1)  # (b, r, s, c)
        r, s = x.shape[1:3]
        box = random_box(r, s) if self.training and self.mix_token else (0, 0, 0, 0)
        if self.training:
            x = mix(x, box)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x.flatten(1, 2)], 1)  # (b, 1 + r·s, c)
        x = self.norm(self.blocks(x + resample_abs_pos_embed(self.pos_embed, [r, s])))
        logits, dense = self.head(x[:, 0]), self.aux_head(x[:, 1:])
        if self.training:
            dense = mix(dense.unflatten(1, (r, s)), box)  # (b, r, s, num_classes)
            return logits, dense.flatten(1, 2), box  # patches in a row again: (b, r·s, num_classes)
        return logits + 0.5 * dense.amax(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def lvvit_t(**options: Any) -> LVViT:
    """LV-ViT-T: 8.5 M parameters, 2.9 GMACs."""
    return LVViT(240, 12, 4, **options)


def lvvit_s(*, skip: float = 2.0, **options: Any) -> LVViT:
    """LV-ViT-S: 26.2 M parameters, 6.6 GMACs."""
    return LVViT(384, 16, 6, skip=skip, **options)
