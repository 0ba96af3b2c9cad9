"""Which patches a model that drops tokens still looks at, stage by stage."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from vizlib.show.axes import axes_grid, draw_photograph, flat
from vizlib.types import Trace


def kept(
    trace: Trace,
    photo: int = 0,
    axes: NDArray | None = None,
    *,
    background: Tensor | None = None,
    veil: float = 0.8,
) -> list[Axes]:
    """The photograph, and again for each stage with the patches veiled that were dropped before it.

    Args:
        trace: of a model that drops tokens (DynamicViT …).
        photo: which of the batch.
        axes: at least one more than there are stages.
        background: another photograph (3, h', w') in [0, 1] of the same part of the scene, e.g. sharper.
        veil: how white a dropped patch is, in [0, 1].

    Returns:
        One axes for the photograph and one for each stage.

    Raises:
        ValueError: the model dropped nothing.
    """
    found = stages(trace)
    if not found:
        raise ValueError(
            f"a drawing of kept patches needs a model that drops some; {trace.model} keeps all. "
            f"Take arch/dynamicvit_deit_s_07."
        )
    places = flat(axes_grid(1, 1 + len(found)) if axes is None else axes)[: 1 + len(found)]
    image = trace.image[photo] if background is None else background
    draw_photograph(places[0], image, colour=True)
    places[0].set_title(f"{trace.model}\nall patches", fontsize=8)
    for ax, (name, (r, s), left) in zip(places[1:], found, strict=True):
        draw_photograph(ax, image, colour=True)
        gone = torch.ones(r * s).scatter(0, left[photo].cpu(), 0.0).view(r, s)
        white = np.ones((r, s, 4), dtype=np.float32)
        white[..., 3] = veil * gone.numpy()
        ax.imshow(white, extent=(0, 1, 1, 0), interpolation="nearest", aspect=ax.get_aspect())
        ax.set_title(f"from {name} on\n{left.shape[1]} of {r * s} patches", fontsize=8)
    return places


def stages(trace: Trace) -> list[tuple[str, tuple[int, int], Tensor]]:
    """Where patches were dropped: the first operation that lacks them, the grid (r, s), what is left (b, n)."""
    found: list[tuple[str, tuple[int, int], Tensor]] = []
    for name, left in trace.kept.items():
        grid = trace.attentions[name].outputs.grid
        if grid is not None and not (found and torch.equal(found[-1][2], left)):
            found.append((name, grid, left))
    return found
