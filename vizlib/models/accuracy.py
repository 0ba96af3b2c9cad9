"""How often a classifier is right, class by class, and whether its confidence means what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Shares in [0, 1] over labelled photos."""

    photos: int
    top1: float
    top1_interval: tuple[float, float]  # 95 %, Wilson
    top5: float
    per_class: Tensor  # (classes,); nan for a class without photos
    ece: float  # expected calibration error
    confusion: Tensor  # (classes, classes) photos of class (row) called class (column)


def accuracy(logits: Tensor, labels: Tensor) -> Accuracy:
    """Return how often the logits (b, classes) name the labels (b,).

    Raises:
        ValueError: if there is no photo.
    """
    if not len(logits):
        raise ValueError("accuracy needs at least one photo; got none. Name a folder with photos.")
    classes = logits.shape[1]
    probability, predicted = logits.float().softmax(dim=1).max(dim=1)
    right = predicted == labels
    best = logits.topk(min(5, classes), dim=1).indices
    confusion = torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)
    return Accuracy(
        photos=len(labels),
        top1=right.double().mean().item(),
        top1_interval=wilson(int(right.sum()), len(labels)),
        top5=(best == labels[:, None]).any(dim=1).double().mean().item(),
        per_class=confusion.diag().double() / confusion.sum(dim=1),
        ece=expected_calibration_error(probability, right),
        confusion=confusion,
    )


def wilson(right: int, photos: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's interval for a share, by default the one that holds it 95 times in 100.

        centre = (p + z²/2n) / (1 + z²/n),   half = z √(p (1 − p)/n + z²/4n²) / (1 + z²/n)

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22.
    """
    share, scale = right / photos, 1 + z * z / photos
    centre = (share + z * z / (2 * photos)) / scale
    half = z * math.sqrt(share * (1 - share) / photos + z * z / (4 * photos**2)) / scale
    return centre - half, centre + half


def expected_calibration_error(probability: Tensor, right: Tensor, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width, weighted by their photos.

    Args:
        probability: (b,) of the predicted class.
        right: (b,) whether it was right.
        bins: how many; (0, 1/bins], …, (1 − 1/bins, 1].

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv 1706.04599.
    """
    place = (probability.double() * bins).ceil().long().clamp(1, bins) - 1
    gap = right.double() - probability.double()
    return gap.new_zeros(bins).index_add(0, place, gap).abs().sum().item() / len(gap)
