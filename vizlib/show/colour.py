"""Which colours a map is drawn in, and from which value to which. The data stay raw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib import colormaps
from torch import Tensor

from vizlib.types import Heatmap

SEQUENTIAL = "inferno"
DIVERGING = "RdBu_r"
Limits = tuple[float, float] | Literal["zero", "range"]


@dataclass(frozen=True)
class Scale:
    """Colours from `low` to `high`. Signed: diverging colours, the neutral one at zero, `low` = -`high`."""

    low: float
    high: float
    signed: bool

    @property
    def colours(self) -> str:
        return DIVERGING if self.signed else SEQUENTIAL


def scale_of(maps: Tensor | Iterable[Tensor], limits: Limits = "zero", *, signed: bool | None = None) -> Scale:
    """One scale for a map, or one shared by several.

    Args:
        maps: raw values of any shape.
        limits: "zero" draws from 0 to the largest value, "range" from the smallest to the largest, a pair
            from its first number to its second. Signed maps are drawn symmetrically round zero in any case.
        signed: diverging colours (True) or sequential (False); None: diverging where a value is negative.

    Raises:
        ValueError: a value is not finite, or a pair of limits is not in rising order.
    """
    maps = [maps] if isinstance(maps, Tensor) else list(maps)
    low = min(float(m.min()) for m in maps)
    high = max(float(m.max()) for m in maps)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"a drawing needs finite values; the map goes from {low} to {high}. Compute it in float32, or "
            f"look for the layer that overflows."
        )
    signed = low < 0 if signed is None else signed
    if not isinstance(limits, str):
        low, high = limits
        if not low < high:
            raise ValueError(f"limits need a smaller and a larger number; got {limits}. Swap them.")
    elif limits == "zero":
        low = min(low, 0.0)
    if signed:
        high = max(abs(low), abs(high))
        low = -high
    if high == low:  # all zeros, drawn in the colour of zero
        high = low + 1.0
    return Scale(low, high, signed)


def shared_scale(heatmaps: Iterable[Heatmap], limits: Limits = "zero") -> Scale:
    """The scale that shows all these maps in the same colours."""
    return scale_of([h.values for h in heatmaps], limits)


def table(name: str) -> bytes:
    """A colour map as 256 RGB triples, 768 bytes: what the browser draws with."""
    colours = colormaps[name](np.linspace(0, 1, 256))[:, :3]
    return (colours * 255).round().astype(np.uint8).tobytes()
