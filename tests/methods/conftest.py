"""Tiny classifiers of every kind that the methods tell apart, with weights that are nowhere zero."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from vizlib.types import Classifier

# options with which a method takes few runs, where a test is not about its values
CHEAP = {
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"samples": 4},
    "occlusion": {"window": 16, "stride": 16},
    "gradientshap": {"samples": 4},
}
LABELS = ("cat", "coffee", "dog", "rocket", "tea")


class TinyCNN(nn.Module):
    """Two convolutions, average pooling, one linear layer; stem and head can be called by themselves."""

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()]
        self.stem = nn.Sequential(*first, nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def head(self, features: Tensor) -> Tensor:
        return self.fc(features.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x))


def classifier(module: nn.Module, name: str, size: int = 32) -> Classifier:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(0.3 * noise if p.ndim > 1 else 0.5 + 0.1 * noise)
    transform = lambda photo: torch.zeros(3, size, size)  # noqa: E731 - the tests give tensors
    return Classifier(module.eval(), name, transform, (3, size, size), labels=LABELS)


def _vit() -> nn.Module:
    return timm.models.VisionTransformer(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=5)


def _swin() -> nn.Module:
    return timm.models.SwinTransformer(
        img_size=32, patch_size=2, embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4, num_classes=5
    )


@pytest.fixture
def cheap(request: pytest.FixtureRequest) -> dict[str, int]:
    """For the test's parameter `method`."""
    return CHEAP.get(request.getfixturevalue("method"), {})


@pytest.fixture(scope="session")
def cnn() -> Classifier:
    return classifier(TinyCNN(), "cnn")


@pytest.fixture(scope="session")
def vit() -> Classifier:
    return classifier(_vit(), "vit")


@pytest.fixture(scope="session")
def swin() -> Classifier:
    return classifier(_swin(), "swin")


@pytest.fixture(params=["cnn", "vit", "swin"])
def clf(request: pytest.FixtureRequest) -> Classifier:
    found: Classifier = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
