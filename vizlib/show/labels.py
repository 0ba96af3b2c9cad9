"""Where labels go beside their points so that none covers another label, a point or a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Which part of a label is at its point, best first: (0, 0) its lower left corner, so that it stands above to the right.
# A Pareto front runs below and to the right of its points, so that labels begin above.
SIDES = ((0, 0), (1, 0), (0.5, 0), (0, 0.5), (1, 0.5), (0, 1), (1, 1), (0.5, 1))
BESIDE, AWAY = 1.2, (4.0, 7.0, 10.0)  # distances from a point, in radii of its mark
Box = tuple[float, float, float, float]


class Place(NamedTuple):
    """Where a label stands.

    Attributes:
        x, y: its lower left corner.
        leader: whether it is away from its mark, so that a line must lead to it.
    """

    x: float
    y: float
    leader: bool


def place(
    points: NDArray,
    sizes: NDArray,
    bounds: Box,
    order: Sequence[int],
    *,
    radius: float = 5.0,
    lines: NDArray | None = None,
    important: int = 0,
) -> dict[int, Place]:
    """Places of the labels that fit, by number of their point.

    Each label in turn takes the first side on which it lies within the bounds, off every point, every line and the
    labels before it; one that finds none is left out, so that what is drawn never overlaps. The important ones may
    also stand away from their marks.

    Args:
        points: (n, 2) places, in pixels, x to the right and y up.
        sizes: (n, 2) widths and heights of the labels.
        bounds: left, bottom, right, top of the room there is.
        order: numbers of the points to label, the most important first.
        radius: of the mark that is drawn at a point.
        lines: (m, 4) left, bottom, right, top of lines that run across or up.
        important: how many of `order` may stand away.
    """
    taken = np.column_stack([points - radius, points + radius])
    if lines is not None:
        taken = np.vstack([taken, lines + np.array([-1, -1, 1, 1])])
    placed: dict[int, Place] = {}
    for rank, i in enumerate(order):
        for corner, away in _corners(points[i], sizes[i], radius, rank < important):
            box = np.concatenate([corner, corner + sizes[i]])
            leader = _leader(points[i], box, radius) if away else np.empty((0, 4))
            if _inside(box, bounds) and not any(_overlap(part, taken) for part in (box, *leader)):
                taken = np.vstack([taken, box, leader])
                placed[i] = Place(float(corner[0]), float(corner[1]), away)
                break
    return placed


def unique(models: Sequence[str]) -> list[str]:
    """The shortest names that tell models apart: without source and tag, with the tag, or the whole."""
    forms = [[short(model), model.partition("/")[2] or model, model] for model in models]
    counts = [[form[level] for form in forms].count for level in range(3)]
    return [next((f for f, count in zip(form, counts, strict=True) if count(f) == 1), form[-1]) for form in forms]


def short(model: str) -> str:
    """A model's name without where it comes from and without its tag."""
    return (model.partition("/")[2] or model).partition(".")[0]


def _corners(point: NDArray, size: NDArray, radius: float, far: bool) -> Iterator[tuple[NDArray, bool]]:
    """Lower left corners to try, the best first, and whether a line must lead there."""
    for distance in (BESIDE, *AWAY) if far else (BESIDE,):
        for side in SIDES:
            hang = np.array(side)
            yield point - hang * size + (0.5 - hang) * 2 * distance * radius, distance > BESIDE


def _leader(point: NDArray, box: NDArray, radius: float) -> NDArray:
    """The line from a mark's edge to a label, as boxes (12, 4) round its pieces."""
    end = np.clip(point, box[:2], box[2:])
    start = point + 1.5 * radius * (end - point) / np.linalg.norm(end - point)
    steps = np.linspace(start, end, 13)
    return np.hstack([np.minimum(steps[:-1], steps[1:]) - 0.5, np.maximum(steps[:-1], steps[1:]) + 0.5])


def _inside(box: NDArray, bounds: Box) -> bool:
    left, bottom, right, top = bounds
    return bool(box[0] >= left and box[1] >= bottom and box[2] <= right and box[3] <= top)


def _overlap(box: NDArray, others: NDArray) -> bool:
    """Whether a box (4,) shares more than an edge with any of the others (n, 4)."""
    return bool(((box[:2] < others[:, 2:]) & (others[:, :2] < box[2:])).all(1).any())
