"""Where labels go beside their points so that none covers another label or a point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Which part of a label is at its point, best first: (0, 0) its lower left corner, so that it stands above to the right.
# A Pareto front runs below and to the right of its points, so that labels begin above.
SIDES = ((0, 0), (1, 0), (0.5, 0), (0, 0.5), (1, 0.5), (0, 1), (1, 1), (0.5, 1))
Box = tuple[float, float, float, float]


def place(
    points: NDArray, sizes: NDArray, bounds: Box, order: Sequence[int], *, radius: float = 5.0
) -> dict[int, tuple[float, float]]:
    """Lower left corners of the labels that fit, by number of their point.

    Each label in turn takes the first side on which it lies within the bounds, off every point and off the labels
    before it; one that finds none is left out, so that what is drawn never overlaps.

    Args:
        points: (n, 2) places, in pixels, x to the right and y up.
        sizes: (n, 2) widths and heights of the labels.
        bounds: left, bottom, right, top of the room there is.
        order: numbers of the points to label, the most important first.
        radius: of the mark that is drawn at a point.
    """
    taken = np.column_stack([points - radius, points + radius])
    placed: dict[int, tuple[float, float]] = {}
    for i in order:
        for hang in SIDES:
            corner = points[i] - np.array(hang) * sizes[i] + (0.5 - np.array(hang)) * 2.4 * radius
            box = np.concatenate([corner, corner + sizes[i]])
            if _inside(box, bounds) and not _overlap(box, taken):
                taken = np.vstack([taken, box])
                placed[i] = (float(corner[0]), float(corner[1]))
                break
    return placed


def _inside(box: NDArray, bounds: Box) -> bool:
    left, bottom, right, top = bounds
    return bool(box[0] >= left and box[1] >= bottom and box[2] <= right and box[3] <= top)


def _overlap(box: NDArray, others: NDArray) -> bool:
    """Whether a box (4,) shares more than an edge with any of the others (n, 4)."""
    return bool(((box[:2] < others[:, 2:]) & (others[:, :2] < box[2:])).all(1).any())
