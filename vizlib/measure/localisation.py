"""Whether the map lies on the object. That is the right answer only where the model, too, looks at the object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vizlib import data
from vizlib.measure.evaluation import Evaluation, must_count
from vizlib.types import Classifier

Pixels = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax, both ends included, as in boxes.csv


def pointing_game(ask: Evaluation, *, tolerance: int = 0) -> Tensor:
    """1 where the map's largest value lies on the object, else 0: (b,).

    Where several places share the largest value, the share of them on the object, which is what one of them, picked at
    random, would score. So a flat map has the object's share of the picture, which is chance.

    Args:
        tolerance: how far beside the object still counts, in pixels of the model's input.

    Source: Zhang et al. 2016, Top-down Neural Attention by Excitation Backprop, arXiv 1608.00507.
    Deviation: the paper's tolerance is 15 pixels of the photograph; here it is 0 unless given.
    """
    must_count(0, tolerance=tolerance)
    masks, values = _grown(_masks(ask), tolerance).flatten(1), ask.maps.flatten(1)
    top = values == values.amax(1, keepdim=True)
    return (masks & top).sum(1) / top.sum(1)


def energy_in_box(ask: Evaluation) -> Tensor:
    """Share of the map's positive values on the object: (b,) in [0, 1]; 0 for a map without positive values.

    Source: Wang et al. 2020, Score-CAM, arXiv 1910.01279, section 4.3 (energy-based pointing game).
    """
    positive = ask.maps.relu()
    return (positive * _masks(ask)).sum((1, 2)) / positive.sum((1, 2)).clamp_min(1e-30)


def box_masks(clf: Classifier, photos: Any, boxes: Sequence[Pixels]) -> Tensor:
    """Where boxes drawn in photographs lie in the model's input: (b, h, w) bool.

    A white box on black goes through the classifier's own preprocessing, so that every crop and scale is followed.

    Args:
        photos: as for `explain`, at the size in which the boxes were drawn.
        boxes: per photograph xmin, ymin, xmax, ymax in pixels, both ends included.

    Raises:
        ValueError: not one box per photograph, or a box that lies outside of what the model sees.
    """
    opened = data.open_photos(photos)
    if len(opened) != len(boxes):
        raise ValueError(f"one box per photograph is needed; got {len(boxes)} for {len(opened)}. Add or drop some.")
    drawn = []
    for photo, (left, top, right, bottom) in zip(opened, boxes, strict=True):
        white = np.zeros((photo.height, photo.width, 3), np.uint8)
        white[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = 255
        drawn.append(Image.fromarray(white))
    masks = clf.picture(clf.prepare(drawn))[:, 0] > 0.5
    empty = (~masks.any(2).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"boxes need to lie in what the model sees of the photographs; those of photographs {empty} do not. "
            f"Leave these photographs out."
        )
    return masks


def _grown(masks: Tensor, reach: int) -> Tensor:
    """Masks (b, h, w) and what lies at most `reach` pixels beside them."""
    steps = torch.arange(-reach, reach + 1, device=masks.device)
    disc = (steps[:, None] ** 2 + steps**2 <= reach**2).float()[None, None]
    return F.conv2d(masks[:, None].float(), disc, padding=reach)[:, 0] > 0.5


def _masks(ask: Evaluation) -> Tensor:
    if ask.masks is None:
        raise ValueError("this metric needs to know where the object lies; got no masks. Pass where=box_masks(…).")
    return ask.masks
