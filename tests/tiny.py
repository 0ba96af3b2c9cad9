"""Tiny classifiers of every family, at weights that hide nothing: no bias table, LayerScale or head is zero."""

from __future__ import annotations

import timm
import torch
from timm.models import cait, pvt_v2, swin_transformer, swin_transformer_v2, vision_transformer
from torch import Tensor, nn

from vizlib.models.architectures.cswin import CSWin
from vizlib.models.architectures.dynamic_vit import DynamicViT
from vizlib.types import Classifier

LABELS = ("cat", "coffee", "dog", "rocket", "tea")
CLASSES = len(LABELS)


def randomise(module: nn.Module, seed: int = 1) -> nn.Module:
    """Every parameter and running statistic drawn anew, at a size that keeps activations and attention lively."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            fan_in = p[0].numel() if p.ndim > 1 else 1
            if "bias_table" in name or "attention_biases" in name:
                p.copy_(noise)
            elif p.ndim > 1:
                p.copy_(noise * 1.5 / max(fan_in, 1) ** 0.5)
            else:
                p.copy_(0.2 * noise if name.endswith("bias") else 0.8 + 0.2 * noise)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.copy_(0.2 * torch.randn(m.num_features, generator=generator))
                m.running_var.copy_(0.5 + torch.rand(m.num_features, generator=generator))
    return module


def classifier(module: nn.Module, size: int | tuple[int, int] = 32, name: str = "tiny") -> Classifier:
    """In evaluation mode, randomised; it takes tensors only. With labels where it has a head of as many classes."""
    h, w = (size, size) if isinstance(size, int) else size
    labels = LABELS if any(p.shape == (CLASSES,) for p in module.parameters()) else None
    return Classifier(randomise(module).eval(), name, lambda photo: torch.zeros(3, h, w), (3, h, w), labels=labels)


def images(b: int = 2, size: int | tuple[int, int] = 32, seed: int = 2) -> Tensor:
    h, w = (size, size) if isinstance(size, int) else size
    return torch.randn(b, 3, h, w, generator=torch.Generator().manual_seed(seed))


class CNN(nn.Module):
    """Two convolutions with BatchNorm and ReLUs in place, average pooling, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.body(self.stem(x)).mean((2, 3))))


def vit(**changes: object) -> nn.Module:
    """Grid 4 × 4 at 32 px, 3 heads, a class token."""
    options = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
        "init_values": 0.5,
    }
    return vision_transformer.VisionTransformer(num_classes=CLASSES, **(options | changes))  # type: ignore[arg-type]


def distilled() -> nn.Module:
    """A class and a distillation token."""
    return timm.models.deit.VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=CLASSES
    )


def swin(img_size: int | tuple[int, int] = 32, **changes: object) -> nn.Module:
    """Grids 16 × 16 and 8 × 8 at 32 px, windows of 4, the second block of each stage shifted by 2."""
    options = {"patch_size": 2, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "window_size": 4}
    return swin_transformer.SwinTransformer(img_size, num_classes=CLASSES, **(options | changes))  # type: ignore[arg-type]


def swin_v2() -> nn.Module:
    """Cosine attention, biases from an MLP."""
    return swin_transformer_v2.SwinTransformerV2(
        32, 2, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4, num_classes=CLASSES
    )


def pvt() -> nn.Module:
    """Grids 8 × 8 and 4 × 4 at 32 px, keys pooled to 2 × 2 and 4 × 4."""
    return pvt_v2.PyramidVisionTransformerV2(
        num_classes=CLASSES,
        depths=(2, 1),
        embed_dims=(12, 16),
        num_heads=(2, 4),
        sr_ratios=(4, 1),
        mlp_ratios=(2, 2),
    )


def cait_with_class_attention() -> nn.Module:
    """Talking heads over 4 × 4 patches, then two blocks in which a class token reads them."""
    return cait.Cait(32, 8, embed_dim=24, depth=2, num_heads=3, num_classes=CLASSES, init_values=0.5)


def cswin() -> nn.Module:
    """Stripes along rows and along columns side by side in the first three of four stages."""
    return CSWin(16, (1, 1, 1, 1), (2, 2, 2, 2), stripes=(1, 2, 2), num_classes=CLASSES)


def dynamic_vit() -> nn.Module:
    """Half of 4 × 4 patches dropped before the second of three blocks."""
    return DynamicViT(24, 3, 3, 2.0, keep=0.5, stages=(1,), num_classes=CLASSES, image_size=64)
