"""Which part of a photograph a classifier sees, found by sending coordinates through its preprocessing."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vizlib.types import Classifier

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the photograph
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


def window(clf: Classifier, size: tuple[int, int]) -> Box | None:
    """The box of a photograph that ends up in the model's input.

    An image whose red is the column and whose green is the row is preprocessed like a photograph. A line
    fitted to what comes out says where the first and the last pixel came from.

    Args:
        size: (width, height) of the photograph in pixels.

    Returns:
        The box, or None where the input is no upright rectangle of the photograph (channels mixed, flipped,
        warped).
    """
    width, height = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).round()[None]
    ramp[..., 1] = np.linspace(0, 255, height).round()[:, None]
    seen = clf.picture(clf.prepare(Image.fromarray(ramp)))[0].cpu()
    if len(seen) != 3:
        return None
    spans = [_span(seen[channel].double(), axis) for channel, axis in ((0, 0), (1, 1))]
    if None in spans:
        return None
    (left, right), (top, bottom) = spans  # type: ignore[misc]
    return left, top, right, bottom


def sharp(clf: Classifier, photo: Image.Image, longest: int = 420) -> Tensor | None:
    """What the model sees of a photograph, at the own resolution: (3, h, w) in [0, 1], or None."""
    return seen_part(clf, photo, longest)[0]


def seen_part(clf: Classifier, photo: Image.Image | Tensor, longest: int = 420) -> tuple[Tensor | None, Box]:
    """As `sharp`, and the box of the photograph that this is; (None, WHOLE) where there is no such box."""
    box = window(clf, photo.size) if isinstance(photo, Image.Image) else None
    if box is None or not isinstance(photo, Image.Image):
        return None, WHOLE
    _, h, w = clf.input_size
    scale = longest / max(h, w)
    pixels = tuple(share * size for share, size in zip(box, photo.size * 2, strict=True))
    shape = (round(w * scale), round(h * scale))
    crop = photo.resize(shape, Image.Resampling.LANCZOS, box=pixels)  # type: ignore[arg-type]
    return torch.from_numpy(np.array(crop)).permute(2, 0, 1) / 255, box


def _span(seen: Tensor, across: int) -> tuple[float, float] | None:
    """Where a line through what came out starts and ends; None unless it changes along one axis only."""
    line = seen.mean(across).numpy()
    if float(seen.std(across).max()) > 0.02 or len(line) < 4:
        return None
    places = (np.arange(len(line)) + 0.5) / len(line)
    inner = slice(1, -1)  # resampling bends the ends
    slope, start = np.polyfit(places[inner], line[inner], 1)
    misfit = np.abs(slope * places[inner] + start - line[inner]).max()
    if slope <= 0 or misfit > 0.02 or start < -0.02 or start + slope > 1.02:
        return None
    return max(float(start), 0.0), min(float(start + slope), 1.0)
