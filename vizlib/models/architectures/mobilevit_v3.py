"""MobileViTv3: convolutions for what is near, a small Transformer for what is far, fused by 1 × 1.

Paper: Wadekar, Chaurasia 2022, "MobileViTv3: Mobile-Friendly Vision Transformer with Simple and Effective
Fusion of Local, Global and Input Features", arXiv 2209.15159. What it takes over: MV2, the inverted
residual of MobileNetV2 (arXiv 1801.04381), and the unfolding of MobileViT (arXiv 2110.02178).

    local     X_L = Conv₁ₓ₁(DWConv₃ₓ₃(X))                                   c -> d channels
    global    X_G = Conv₁ₓ₁(Fold(Transformer(Unfold(X_L))))                 d -> c channels
    fusion    Y = X + Conv₁ₓ₁([X_L; X_G])

Against MobileViT: the fusing convolution is 1 × 1 and not 3 × 3, it sees the local features and not the
input, the input is added, and the local convolution is depthwise. Unfolding cuts the grid into patches of
2 × 2 cells; the cells at the same position of their patches attend to each other.

Written from the paper alone, with names of our own: the authors' files cannot be loaded. Deviation: the
last convolution has 4, 4 and 3 times the channels of the last stage, chosen to meet the paper's parameter
counts (1.25, 2.5 and 5.8 M). A grid with an odd side is resized for the Transformer and back, as in
MobileViT.

GMACs are 0.332, 0.967 and 1.833; the paper says 0.289, 0.927 and 1.841. The difference is one of counting: with
n · d² for each of the two matrix products of an attention over n tokens, in place of the n² · d that they
cost, this file comes to 0.287, 0.925 and 1.838, and MobileViT to 0.363, 0.984 and 2.006 (published: 0.364,
0.986 and 2.009).

Shapes: b batch, c channels, d channels of the Transformer, h w sides of the feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn

PATCH = 2


class ConvBNAct(nn.Sequential):
    """Convolution, batch normalisation, SiLU: (b, c, h, w) -> (b, out, h / stride, w / stride)."""

    def __init__(self, c: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(c, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out), nn.SiLU())


class InvertedResidual(nn.Module):
    """MV2: widen, depthwise convolution, narrow; the input is added where the shape allows."""

    def __init__(self, c: int, out: int, stride: int = 1, expand: int = 4) -> None:
        super().__init__()
        wide = c * expand
        self.residual = stride == 1 and c == out
        narrow = nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)  # no activation where it is narrow
        depthwise = ConvBNAct(wide, wide, 3, stride, groups=wide)
        self.layers = nn.Sequential(ConvBNAct(c, wide), depthwise, *narrow)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, c, h, w) -> (b, out, h / stride, w / stride)."""
        return x + self.layers(x) if self.residual else self.layers(x)


def unfold(x: Tensor) -> Tensor:
    """(b, d, h, w) -> (b · 4, n, d): n patches of 2 × 2 cells, a group for each place in them."""
    b, d, h, w = x.shape
    x = x.reshape(b, d, h // PATCH, PATCH, w // PATCH, PATCH)  # (b, d, h/2, 2, w/2, 2)
    x = x.permute(0, 3, 5, 2, 4, 1)  # (b, 2, 2, h/2, w/2, d)
    return x.reshape(b * PATCH**2, -1, d)  # (b · 4, h/2 · w/2, d)


def fold(x: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of unfold: (b · 4, n, d) -> (b, d, h, w)."""
    h, w = size
    x = x.reshape(-1, PATCH, PATCH, h // PATCH, w // PATCH, x.shape[-1])  # (b, 2, 2, h/2, w/2, d)
    x = x.permute(0, 5, 3, 1, 4, 2)  # (b, d, h/2, 2, w/2, 2)
    return x.reshape(x.shape[0], -1, h, w)  # (b, d, h, w)


class MobileViTv3Block(nn.Module):
    """Local, global and input features, fused: (b, c, h, w) -> (b, c, h, w)."""

    def __init__(self, c: int, d: int, depth: int, heads: int = 4, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        self.local = nn.Sequential(ConvBNAct(c, c, 3, groups=c), nn.Conv2d(c, d, 1, bias=False))
        style = {"qkv_bias": True, "act_layer": nn.SiLU, "norm_layer": nn.LayerNorm}
        self.transformer = nn.Sequential(*(Block(d, heads, mlp_ratio, **style) for _ in range(depth)))
        self.norm = nn.LayerNorm(d)
        self.project = ConvBNAct(d, c)
        self.fuse = ConvBNAct(d + c, c)

    def forward(self, x: Tensor) -> Tensor:
        near = self.local(x)  # (b, d, h, w)
        size = near.shape[2:]
        even = [side + side % PATCH for side in size]
        far = near if even == list(size) else F.interpolate(near, even, mode="bilinear")
        far = fold(self.norm(self.transformer(unfold(far))), even)  # (b, d, even h, even w)
        far = far if even == list(size) else F.interpolate(far, list(size), mode="bilinear")
        return x + self.fuse(torch.cat([near, self.project(far)], 1))


class MobileViTv3(nn.Module):
    """Five stages on grids of 1/2 to 1/32 of the image; the last three hold a MobileViTv3 block.

    Args:
        channels: of the five stages.
        dims: channels of the Transformers in the last three stages.
        expand: how much wider MV2 blocks are inside.
        last: channels of the last convolution over those of the last stage.
        depths: Transformer blocks in the last three stages.
        num_classes: length of the logits.
        dropout: in front of the head.
    """

    def __init__(
        self,
        channels: Sequence[int],
        dims: Sequence[int],
        expand: int = 4,
        last: int = 4,
        depths: Sequence[int] = (2, 4, 3),
        *,
        num_classes: int = 1000,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = channels

        def mv2(c: int, out: int, stride: int = 1) -> InvertedResidual:
            return InvertedResidual(c, out, stride, expand)

        self.stem = ConvBNAct(3, 16, 3, stride=2)
        self.stage1 = mv2(16, c1)
        self.stage2 = nn.Sequential(mv2(c1, c2, 2), mv2(c2, c2), mv2(c2, c2))
        self.stage3 = nn.Sequential(mv2(c2, c3, 2), MobileViTv3Block(c3, dims[0], depths[0]))
        self.stage4 = nn.Sequential(mv2(c3, c4, 2), MobileViTv3Block(c4, dims[1], depths[1]))
        self.stage5 = nn.Sequential(mv2(c4, c5, 2), MobileViTv3Block(c5, dims[2], depths[2]))
        self.final = ConvBNAct(c5, c5 * last)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(c5 * last, num_classes))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Image (b, 3, h, w) -> logits (b, num_classes)."""
        x = self.stage2(self.stage1(self.stem(x)))  # (b, c2, h/4, w/4)
        x = self.stage5(self.stage4(self.stage3(x)))  # (b, c5, h/32, w/32)
        return self.head(self.final(x).mean((2, 3)))  # (b, last · c5) -> (b, num_classes)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)  # or the photo fades out on the way
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def mobilevitv3_xxs(*, expand: int = 2, **options: Any) -> MobileViTv3:
    """MobileViTv3-XXS: 1.25 M parameters, 0.3 GMACs at 256 pixels."""
    return MobileViTv3((16, 24, 64, 80, 128), (64, 80, 96), expand, **options)


def mobilevitv3_xs(**options: Any) -> MobileViTv3:
    """MobileViTv3-XS: 2.5 M parameters, 1.0 GMACs at 256 pixels."""
    return MobileViTv3((32, 48, 96, 160, 160), (96, 120, 144), **options)


def mobilevitv3_s(*, last: int = 3, **options: Any) -> MobileViTv3:
    """MobileViTv3-S: 5.8 M parameters, 1.8 GMACs at 256 pixels."""
    return MobileViTv3((32, 64, 128, 256, 320), (144, 192, 240), last=last, **options)
