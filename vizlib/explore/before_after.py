"""Maps of the same photographs before and after a classifier was changed: how far they moved, and a picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from vizlib.measure.moved import moved, on_object
from vizlib.methods.table import explain
from vizlib.models.compress import multiplies_integers
from vizlib.models.export import OnnxRuntime
from vizlib.show.axes import axes_grid, draw_photograph, draw_reason
from vizlib.show.caption import subject
from vizlib.show.plot import overlay
from vizlib.types import Classifier, Heatmap

METHODS = ("rollout", "gradcam")
WHOLE = "as it is"
LEGEND = (
    "rank: correlation of ranks with the map as it is, −1 to 1; top: share of its strongest fifth that still is in the "
    "strongest fifth, 0.2 by chance"
)

Maps = dict[str, Heatmap | str]  # by method, the map of the photographs or the reason why there is none


def maps_of(clf: Classifier, x: Tensor, target: Tensor) -> Maps:
    """The maps of METHODS of prepared photographs (b, c, h, w) for the classes (b,)."""
    reason = no_derivative(clf)
    if reason:
        return dict.fromkeys(METHODS, reason)
    found: Maps = {}
    for method in METHODS:
        try:
            found[method] = explain(clf, x, method, target=target)  # type: ignore[assignment]
        except RuntimeError as error:  # does not apply to this classifier
            found[method] = str(error)
    return found


def no_derivative(clf: Classifier) -> str:
    """Why maps, which follow derivatives, cannot be made of a classifier; "" where they can."""
    if isinstance(clf.module, OnnxRuntime):
        return "No maps: ONNX Runtime gives no derivative, which they need."
    if multiplies_integers(clf):
        return "No maps: products of integers have no derivative, which they need."
    return ""


def shifts(before: Maps, after: Maps) -> dict[str, float]:
    """For each method `…_rank` and `…_top` of `moved`, mean over the photographs; NaN where a map is missing."""
    found: dict[str, float] = {}
    for method, map_before in before.items():
        map_after = after[method]
        rank = top = np.nan
        if isinstance(map_before, Heatmap) and isinstance(map_after, Heatmap):
            rank, top = (float(v.mean()) for v in moved(map_before, map_after))
        found |= {f"{method}_rank": rank, f"{method}_top": top}
    return found


def draw(maps: Mapping[str, Maps], photo: int = 0, objects: Tensor | None = None) -> Figure:
    """A block of maps for each method: the photograph once, the map as it is, and each other with how far it moved.

    Args:
        maps: by way, the first of them WHOLE.
        photo: which of the photographs.
        objects: (b, h, w) bool, where the object lies: each map says how much of it lies there.

    Raises:
        ValueError: no method has a map of the classifier as it is.
    """
    wholes = {method: found for method, found in maps[WHOLE].items() if isinstance(found, Heatmap)}
    if not wholes:
        reasons = " ".join(map(str, maps[WHOLE].values()))
        raise ValueError(f"a picture needs a map of the model as it is; there is none: {reasons} Take the table.")
    cells = len(maps) + 1
    columns = math.ceil(cells / math.ceil(cells / 7))
    high = math.ceil(cells / columns)
    axes = axes_grid(high * len(wholes), columns, 1.75)
    for block, (method, whole) in enumerate(wholes.items()):
        places = list(axes[block * high : (block + 1) * high].flat)
        _first(places[0], whole, photo, first=block == 0)
        for ax, (way, found) in zip(places[1:], maps.items(), strict=False):
            _cell(ax, way, found[method], whole, photo, objects)
        for ax in places[cells:]:
            ax.set_axis_off()
    figure: Figure = axes[0, 0].figure
    return figure


def _first(ax: Axes, whole: Heatmap, photo: int, *, first: bool) -> None:
    """The photograph; in the blocks below, what the numbers mean."""
    if first:
        draw_photograph(ax, whole.image[photo], colour=True)
    else:
        ax.set(xticks=[], yticks=[], frame_on=False)
        ax.text(0.5, 0.5, textwrap.fill(LEGEND, 26), ha="center", va="center", fontsize=7, transform=ax.transAxes)
    ax.set_ylabel(whole.method, fontsize=10, weight="bold")


def _cell(ax: Axes, way: str, found: Heatmap | str, whole: Heatmap, photo: int, objects: Tensor | None) -> None:
    above = textwrap.fill(way, 24)
    if isinstance(found, str):
        draw_reason(ax, found)
        ax.set_title(above, fontsize=8)
        return
    if found is whole:
        below = textwrap.fill(subject(found, photo), 28)
    else:
        rank, top = (float(v) for v in moved(whole[photo], found[photo]))
        below = f"rank {rank:.2f} · top {top:.2f}"
    if objects is not None:
        below += f"\n{float(on_object(found[photo], objects[photo][None])):.0%} on the object"
    overlay(found, photo, ax, title=f"{above}\n{below}", signed=bool((whole.values < 0).any()))
