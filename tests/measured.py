"""A classifier whose right answer is known: only the upper left quarter counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vizlib.types import Classifier

SIZE = 16


class Corner(nn.Module):
    """The logit of class 1 is the sum of the upper left quarter, less that of class 0, which is 0."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1))
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        quarter = x[..., : SIZE // 2, : SIZE // 2].mean(1).sum((1, 2)) * self.scale
        return torch.stack([torch.zeros_like(quarter), quarter], 1)


def corner() -> Classifier:
    return Classifier(Corner(), "corner", lambda p: torch.zeros(3, SIZE, SIZE), (3, SIZE, SIZE), (0, 0, 0), (1, 1, 1))


def truth(b: int = 1) -> Tensor:
    """The map of the corner model: each pixel of the quarter counts alike."""
    maps = torch.zeros(b, SIZE, SIZE)
    maps[:, : SIZE // 2, : SIZE // 2] = 1
    return maps
