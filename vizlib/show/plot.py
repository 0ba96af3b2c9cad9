"""Drawings with matplotlib, axes in, axes out.

Values are drawn as they are; only the limits of the colours are chosen, and the colour bar says them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from vizlib.attention import Attention
from vizlib.show.axes import (
    Interpolation,
    axes_grid,
    draw_bar,
    draw_map,
    draw_mark,
    draw_photograph,
    draw_reason,
    flat,
)
from vizlib.show.caption import caption, subject
from vizlib.show.colour import Limits, Scale, scale_of, shared_scale
from vizlib.show.kept import kept as kept
from vizlib.show.trust import benchmark as benchmark
from vizlib.show.trust import curves as curves
from vizlib.show.trust import planted as planted
from vizlib.show.trust import scores as scores
from vizlib.types import Gate, Heatmap, Trace

Query = tuple[float, float] | int | Literal["mean"]


def overlay(
    heatmap: Heatmap,
    photo: int = 0,
    ax: Axes | None = None,
    *,
    target: int = 0,
    background: Tensor | None = None,
    colour: bool = False,
    alpha: float = 0.6,
    interpolation: Interpolation = "bilinear",
    scale: Scale | Limits = "zero",
    signed: bool | None = None,
    bar: bool = True,
    title: str | None = None,
) -> Axes:
    """A map over its photograph, with a numbered colour bar. `ax.images` are the photograph and the raw map.

    Args:
        heatmap: values (b, r, s) or (b, t, r, s).
        photo: which of the batch.
        target: which of t targets.
        background: another photograph (3, h', w') in [0, 1] of the same part of the scene, e.g. sharper.
        colour: the photograph in colour; grey by default, so that all colour belongs to the map.
        alpha: opacity of the map.
        interpolation: "nearest" shows the cells the method really has, "bilinear" blends them.
        scale: limits of this map's own scale, or a `Scale` shared with others.
        signed: diverging colours (True) or sequential (False) for its own scale; None: diverging where a value is
            negative.
        bar: draw the colour bar.
        title: instead of model, method, label and score.
    """
    ax = plt.subplots(layout="constrained")[1] if ax is None else ax
    _must_be(heatmap, Heatmap, "Pass what vl.explain returns; of several layers, one of its list")
    values = one_map(heatmap, photo, target)
    shades = scale if isinstance(scale, Scale) else scale_of(values, scale, signed=signed)
    draw_photograph(ax, heatmap.image[photo] if background is None else background, colour)
    draw_map(ax, values, shades, alpha, interpolation)
    if bar:
        draw_bar(ax, shades, heatmap.unit)
    ax.set_title(caption(heatmap, photo, target) if title is None else title, fontsize=8, y=1.0)
    return ax


def contrast(heatmap: Heatmap, photo: int = 0, ax: Axes | None = None, **options: Any) -> Axes:
    """What speaks for a class (red) and what against it (blue): diverging colours, symmetric round zero.

    Args:
        heatmap: a signed map, e.g. from `vizlib.contrast`.
        options: as in `overlay`.
    """
    _must_be(heatmap, Heatmap, "Pass what vl.contrast returns; of several layers, one of its list")
    return overlay(heatmap, photo, ax, **{"signed": True} | options)


def grid(
    heatmaps: Sequence[Sequence[Heatmap | str]],
    photo: int = 0,
    axes: NDArray | None = None,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    backgrounds: Sequence[Tensor] = (),
    shared: bool = False,
    **options: Any,
) -> NDArray:
    """Models × methods: a row of maps per model, after the photograph as that model saw it.

    Args:
        heatmaps: a row per model, a map per method; a text in place of a map is the reason why there is none.
        axes: (rows, 1 + columns) axes to draw into.
        rows: names of the rows, by default those of the models.
        columns: names of the columns, by default those of the methods.
        backgrounds: a photograph (3, h', w') per row to lay the maps over, instead of the model's input.
        shared: one colour scale per column instead of one per map.
        options: as in `overlay`.

    Returns:
        The axes (rows, 1 + columns).

    Raises:
        ValueError: the rows differ in length, or there is no map at all.
    """
    if isinstance(heatmaps, Heatmap) or any(isinstance(row, Heatmap | str) for row in heatmaps):
        raise TypeError("a grid needs a list of maps per model; got maps alone. Pass a list of lists, [[map, map], …].")
    found = [cell for row in heatmaps for cell in row if isinstance(cell, Heatmap)]
    lengths = {len(row) for row in heatmaps}
    if len(lengths) != 1 or not (found or backgrounds):
        raise ValueError(
            f"a grid needs rows of equal length with at least one map; got rows of {sorted(lengths)} cells "
            f"and {len(found)} maps. Put the reason, a text, where there is no map."
        )
    axes = axes_grid(len(heatmaps), lengths.pop() + 1) if axes is None else axes
    scales = [_common_scale(cells) if shared else {} for cells in zip(*heatmaps, strict=True)]
    signed = {cell.method for cell in found if bool((cell.values < 0).any())}  # maps of a method are coloured alike
    for i, row in enumerate(heatmaps):
        seen = next((cell for cell in (*row, *found) if isinstance(cell, Heatmap)), None)
        own = {"background": backgrounds[i]} if backgrounds else {}
        draw_photograph(axes[i, 0], backgrounds[i] if seen is None else seen.image[photo], colour=True)
        axes[i, 0].set_ylabel(rows[i] if rows else seen.model if seen else "", fontsize=8)
        for j, cell in enumerate(row):
            if isinstance(cell, str):
                draw_reason(axes[i, j + 1], cell)
            else:
                about: dict[str, Any] = {"title": subject(cell, photo), "signed": cell.method in signed}
                overlay(cell, photo, axes[i, j + 1], **about | own | scales[j] | options)
    for j, cells in enumerate(zip(*heatmaps, strict=True)):
        named = (cell.method for cell in cells if isinstance(cell, Heatmap))
        _head(axes[0, j + 1], columns[j] if columns else next(named, ""))
    return axes


def heads(
    attention: Attention,
    query: Query | None = None,
    photo: int = 0,
    axes: NDArray | None = None,
    *,
    shared: bool = True,
    **options: Any,
) -> list[Axes]:
    """Every head of an attention operation, for one query.

    Args:
        query: an image point (row, column) in [0, 1], the number of a prefix token, or "mean"; by default the
            class token, or the mean of the queries where there is none.
        axes: at least as many axes as heads.
        shared: one colour scale for all heads (a uniform head then looks uniform) instead of one each.
        options: as in `overlay`.

    Returns:
        One axes per head; those left over are switched off.
    """
    _must_be(attention, Attention, "Pass one operation, vl.trace(clf, photo).attentions[NAME]")
    asked = _default_query(attention) if query is None else query
    maps = [attention.heatmap(asked, head)[photo] for head in range(attention.heads)]
    if axes is None:
        columns = min(len(maps), 6 if len(maps) % 6 == 0 else 4)
        axes = axes_grid(-(-len(maps) // columns), columns, 1.8)
        axes[0, 0].figure.suptitle(f"{attention.model} · {attention.name} · {_words(asked)}", fontsize=10)
    places = flat(axes)
    scale = shared_scale(maps)
    common = {"scale": scale, "bar": False} if shared else {}
    for head, (ax, heatmap) in enumerate(zip(places, maps, strict=False)):
        own: dict[str, Any] = {"title": f"head {head}", "interpolation": "nearest"}
        overlay(heatmap, 0, ax, **own | common | options)
        if isinstance(asked, tuple):
            draw_mark(ax, asked)
    for ax in places[len(maps) :]:
        ax.set_axis_off()
    if shared:
        draw_bar(places, scale, maps[0].unit)
    return places


def query(
    attention: Attention,
    point: tuple[float, float],
    photo: int = 0,
    ax: Axes | None = None,
    *,
    head: int | None = None,
    **options: Any,
) -> Axes:
    """What the token at one point of the image attends to, with the point marked.

    Args:
        point: (row, column) in [0, 1].
        head: one head, or None for the mean over heads.
        options: as in `overlay`.
    """
    _must_be(attention, Attention, "Pass one operation, vl.trace(clf, photo).attentions[NAME]")
    heatmap = attention.heatmap(point, head)[photo]
    which = "mean of heads" if head is None else f"head {head}"
    title = f"{attention.model} · {attention.name}\n{_words(point)}, {which}"
    return draw_mark(overlay(heatmap, 0, ax, **{"title": title, "interpolation": "nearest"} | options), point)


def gates(
    trace: Trace,
    photo: int = 0,
    axes: NDArray | None = None,
    *,
    style: Literal["strips", "bars"] = "strips",
    **options: Any,
) -> list[Axes]:
    """What every gate lets through, in execution order, one axes per gate.

    A channel gate is a heat strip, one column a channel, or its values as bars from the most open to the most
    closed; an axis gate a strip per channel; a spatial gate a map over the photograph, a full one the mean
    map of its channels.

    Args:
        axes: at least as many axes as there are gates.
        style: how channel and path gates are drawn.
        options: of the maps, as in `overlay`.

    Raises:
        ValueError: the trace has no gates.
    """
    _must_be(trace, Trace, "Pass what vl.trace returns")
    if not trace.gates:
        raise ValueError(
            f"a drawing of gates needs a model with gates (SE, ECA, CBAM …); {trace.model} has none. "
            f"Look at trace.attentions, or take zoo/seresnet."
        )
    found = list(trace.gates.values())
    if axes is None:
        heights = [2.4 if gate.kind in ("spatial", "full") else 0.6 for gate in found]
        inches = (8, sum(heights) + 0.6)
        shape: dict[str, Any] = {"height_ratios": heights, "figsize": inches, "squeeze": False, "layout": "constrained"}
        axes = plt.subplots(len(found), 1, **shape)[1]
        axes[0, 0].figure.suptitle(f"{trace.model} · gates", fontsize=10)
    places = flat(axes)
    for ax, gate in zip(places, found, strict=False):
        _gate(ax, gate, trace, photo, style, options)
    for ax in places[len(found) :]:
        ax.set_axis_off()
    return places


def one_map(heatmap: Heatmap, photo: int = 0, target: int = 0) -> Tensor:
    """The map (r, s) of one photograph and one target.

    Raises:
        ValueError: the heatmap has no such photograph or target.
    """
    values = heatmap.values
    if not (-len(values) <= photo < len(values) and (values.ndim == 3 or target < values.shape[1])):
        raise ValueError(
            f"this heatmap holds {tuple(values.shape[:-2])} maps; got photo {photo}, target {target}. Count from 0."
        )
    return values[photo] if values.ndim == 3 else values[photo, target]


def _must_be(given: Any, kind: type, do: str) -> None:
    """Raises TypeError for anything else; of a trace in place of an operation, with the names of its operations."""
    if isinstance(given, kind):
        return
    several = isinstance(given, Trace) and kind is Attention and given.attentions
    names = f", one of: {', '.join(given.attentions)}" if several else ""
    raise TypeError(f"this drawing needs a {kind.__name__}; got {type(given).__name__}. {do}{names}.")


def _gate(ax: Axes, gate: Gate, trace: Trace, photo: int, style: str, options: dict[str, Any]) -> None:
    values = gate.values[photo if len(gate.values) > 1 else 0].detach().float().cpu()
    low, high = float(values.min()), float(values.max())
    scale = Scale(min(0.0, low), max(1.0, high), signed=False)
    if gate.kind in ("spatial", "full"):
        picture = trace.image[photo][None]
        one = Heatmap(values.mean(0)[None], picture, "gate", trace.model, unit=gate.activation)
        own: dict[str, Any] = {"title": "", "scale": scale}
        overlay(one, 0, ax, **own | options).set_anchor("W")
    elif gate.kind != "axis" and style == "bars":
        ordered = values.flatten().sort(descending=True).values
        ax.bar(range(len(ordered)), ordered.numpy(), width=1.0, color="tab:blue")
        ax.set(ylim=(scale.low, scale.high), xlim=(-0.5, len(ordered) - 0.5))
    else:
        strips = values.flatten(1).T if gate.kind == "axis" else values.flatten()[None]
        limits = {"cmap": scale.colours, "vmin": scale.low, "vmax": scale.high}
        ax.imshow(strips.numpy(), aspect="auto", interpolation="nearest", **limits)  # type: ignore[arg-type]
        ax.set_yticks([])
        draw_bar(ax, scale, ticks=1, width=0.012)
    ax.tick_params(labelsize=7)
    title = f"{gate.name} · {gate.kind} · mean {values.mean():.2f}, from {low:.2f} to {high:.2f}"
    ax.set_title(title, fontsize=8, loc="left", y=1.0, pad=5)


def _common_scale(cells: Sequence[Heatmap | str]) -> dict[str, Scale]:
    maps = [cell for cell in cells if isinstance(cell, Heatmap)]
    return {"scale": shared_scale(maps)} if maps else {}


def _head(ax: Axes, name: str) -> None:
    """The name of a column, above the title of its first picture."""
    above: dict[str, Any] = {"xycoords": "axes fraction", "xytext": (0, 18), "textcoords": "offset points"}
    ax.annotate(name, (0.5, 1.0), ha="center", weight="bold", size=10, **above)


def _default_query(attention: Attention) -> Query:
    where = attention.outputs if attention.outputs.grid else attention.queries
    return 0 if where.prefix else "mean"


def _words(query: Query) -> str:
    if isinstance(query, tuple):
        return f"query at ({query[0]:.2f}, {query[1]:.2f})"
    if query == "mean":
        return "mean over queries"
    return "class token" if query == 0 else f"prefix token {query}"
