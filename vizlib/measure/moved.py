"""How far a map has moved from another one of the same photographs, and how much of it lies on the object."""

from __future__ import annotations

from torch import Tensor

from vizlib.measure.ranking import spearman
from vizlib.types import Heatmap

SHARE = 0.2  # of the cells: 13 of a grid of 8 × 8


def moved(before: Heatmap, after: Heatmap, share: float = SHARE) -> tuple[Tensor, Tensor]:
    """Rank correlation of two maps in [-1, 1] and overlap of their strongest cells in [0, 1]: (b,) each.

    The overlap of maps that know nothing of each other is `share` on average. Maps of different grids are compared
    pixel by pixel.

    Args:
        share: of the cells that count as the strongest.
    """
    same = before.values.shape == after.values.shape
    a, b = (heat.values if same else heat.pixels(mode="nearest") for heat in (before, after))
    return spearman(a, b), top_overlap(a, b, share)


def top_overlap(a: Tensor, b: Tensor, share: float = SHARE) -> Tensor:
    """Share of the strongest cells of one map that are among those of the other: maps (…, r, s) -> (…)."""
    if not 0 < share <= 1:
        raise ValueError(f"the strongest cells are a share in (0, 1]; got {share}. Take {SHARE}.")
    count = max(1, round(share * a.shape[-2] * a.shape[-1]))
    first, second = (t.flatten(-2).float().topk(count, -1).indices for t in (a, b))
    return (first[..., :, None] == second[..., None, :]).any(-1).float().mean(-1)


def on_object(heat: Heatmap, objects: Tensor) -> Tensor:
    """Share of a map's positive values on the object (b, h, w) bool: (b,) in [0, 1]; 0 without positive values.

    A map that is the same everywhere has the object's share of the area.

    Source: Wang et al. 2020, Score-CAM, arXiv 1910.01279, section 4.3 (energy-based pointing game).
    """
    positive = heat.pixels((objects.shape[-2], objects.shape[-1]), mode="nearest").relu()
    return (positive * objects).sum((1, 2)) / positive.sum((1, 2)).clamp_min(1e-30)
