"""Accuracy against cost, drawn with matplotlib: one axes per data set, since accuracies on two do not compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from vizlib.measure.checkpoints import COSTS, front
from vizlib.show.labels import place, unique

# Okabe, Ito 2008: told apart by the colour-blind too; the shapes tell the same without colours.
FAMILIES = {
    "CNN": ("#0072B2", "o"),
    "Transformer": ("#D55E00", "s"),
    "hybrid": ("#009E73", "D"),
    "MLP": ("#CC79A7", "^"),
    "RNN": ("#555555", "v"),
}

OTHER = ("#555555", "X")  # a family without a colour of its own
HALO = withStroke(linewidth=2, foreground="white")


def scatter(table: pd.DataFrame, cost: str, ax: Axes) -> None:
    """The models of one data set: accuracy in per cent against a cost on a logarithmic axis.

    A filled mark was trained on the data set alone, a hollow one on more photographs. The lines are the Pareto
    fronts of the filled ones (solid) and of all (dashed). A bar is the accuracy's 95 % interval where the table
    has one (`low`, `high`).

    Args:
        table: columns as `measure.checkpoints.measured` gives.
        cost: column of the cost.
    """
    ax.set(xscale="log", xlabel=COSTS[cost], ylabel="top-1 accuracy")
    ax.set_title(", ".join(table["dataset"].unique()), fontsize=10)
    own = _alone(table)
    for part, style in ((own, "-"), (table, "--")):
        if style == "-" or len(own) < len(table):
            best = front(part, cost)
            ax.plot(best[cost], 100 * best["accuracy"], style, color="0.55", lw=1, zorder=1, drawstyle="steps-post")
    for kind, group in table.groupby("family", sort=False):
        _marks(ax, group, cost, *FAMILIES.get(str(kind), OTHER))
    _axes(ax, table[cost])


def names(table: pd.DataFrame, cost: str, ax: Axes) -> None:
    """Names beside the points of `scatter`, as many as fit without covering anything; those on a front first.

    A name on a front that finds no room at its mark stands away from it, with a line between the two. They are placed
    in the pixels of the axes as they are now: call it when the layout is settled.
    """
    rows = table.reset_index(drop=True)
    best = [front(_alone(rows), cost), front(rows, cost)]
    fronts = dict.fromkeys([*best[0].index, *best[1].index])
    size = 6.5 if len(rows) > 20 else 8.5
    style: dict[str, Any] = {"fontsize": size, "color": "0.15", "zorder": 4, "path_effects": [HALO]}
    points = _pixels(ax, rows, cost)
    texts = [ax.text(0, 0, name, **style) for name in unique(rows["model"])]
    sizes = np.array([text.get_window_extent().size for text in texts])
    placed = place(
        points,
        sizes,
        ax.bbox.extents,
        list(dict.fromkeys([*fronts, *rows.index])),
        lines=np.vstack([_stairs(_pixels(ax, part, cost)) for part in best]),
        important=len(fronts),
    )
    inverse = ax.transData.inverted()
    for i, text in enumerate(texts):
        if i not in placed:
            text.remove()
            continue
        corner = np.array(placed[i][:2])
        x, y = inverse.transform(corner)
        text.set_position((x, y))
        if placed[i].leader:
            ends = inverse.transform([points[i], np.clip(points[i], corner, corner + sizes[i])])
            ax.plot(*ends.T, color="0.6", lw=0.6, zorder=1.5, scalex=False, scaley=False)


def figure(table: pd.DataFrame, cost: str = "gmacs") -> Figure:
    """An axes per data set, with one legend.

    Raises:
        ValueError: no row has both the cost and an accuracy.
    """
    drawn = table.dropna(subset=[cost, "accuracy"])
    if drawn.empty:
        raise ValueError(
            f"a trade-off needs models with an accuracy and {cost}; none of {len(table)} has both. "
            f"Name models of the zoo or checkpoints with a published accuracy, or another cost: {', '.join(COSTS)}."
        )
    groups = [group for _, group in drawn.groupby("dataset", sort=False)]
    wide = [3 if len(group) > 20 else 2 for group in groups]
    plot = Figure(figsize=(3.2 * sum(wide) + 1, 6.4 if max(wide) > 2 else 4.4), layout="constrained")
    axes = plot.subplots(1, len(groups), width_ratios=wide, squeeze=False)[0]
    plot.legend(handles=_legend(drawn), loc="outside lower center", ncols=8, frameon=False, fontsize=8)
    for ax, group in zip(axes, groups, strict=True):
        scatter(group, cost, ax)
    plot.draw_without_rendering()
    plot.set_layout_engine("none")
    for ax, group in zip(axes, groups, strict=True):
        names(group, cost, ax)
    return plot


def _pixels(ax: Axes, rows: pd.DataFrame, cost: str) -> NDArray:
    return np.asarray(ax.transData.transform(np.column_stack([rows[cost], 100 * rows["accuracy"]])))


def _stairs(corners: NDArray) -> NDArray:
    """The lines of a front through corners (n, 2), across and then up: (2n - 2, 4) left, bottom, right, top."""
    start, end = corners[:-1], corners[1:]
    across = np.column_stack([start, end[:, 0], start[:, 1]])
    up = np.column_stack([end[:, 0], start[:, 1], end])
    return np.vstack([across, up])


def _marks(ax: Axes, group: pd.DataFrame, cost: str, colour: str, shape: str) -> None:
    x, y = group[cost], 100 * group["accuracy"]
    more = group["more_data"].astype(bool)
    style: dict[str, Any] = {"marker": shape, "s": 26, "edgecolors": colour, "linewidths": 1.1, "zorder": 3}
    ax.scatter(x[~more], y[~more], facecolors=colour, **style)
    ax.scatter(x[more], y[more], facecolors="white", **style)
    if "low" in group and group["low"].notna().any():
        reach = np.vstack([y - 100 * group["low"], 100 * group["high"] - y])
        ax.errorbar(x, y, reach, fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.6, zorder=2)


def _axes(ax: Axes, costs: pd.Series) -> None:
    """Round numbers at 1, 2 and 5 of each power of ten, light lines behind the points, room at the sides."""
    low, high = float(costs.min()), float(costs.max())
    margin = max((high / low) ** 0.07, 1.15)
    ax.set_xlim(low / margin, high * margin)
    wide = high / low > 20
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(6, steps=(1, 2, 5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: amount(value)))
    ax.yaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    ax.margins(y=0.06)
    ax.grid(color="0.92", lw=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)


def amount(value: float) -> str:
    """A cost in few characters: 25.6 M, 4.09, 0.085."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, None)):
        if value >= size:
            return f"{value / size:.3g}{letter}" if letter else f"{value:,.0f}"
    return f"{value:.3g}"


def _alone(rows: pd.DataFrame) -> pd.DataFrame:
    """Those that were trained on the data set alone."""
    return rows[~rows["more_data"].astype(bool)]


def _legend(rows: pd.DataFrame) -> list[Any]:
    present = [kind for kind in FAMILIES if kind in set(rows["family"])]
    marks = [
        Line2D([], [], ls="", marker=FAMILIES[kind][1], color=FAMILIES[kind][0], ms=5, label=kind) for kind in present
    ]
    if not rows["more_data"].astype(bool).any():
        return [*marks, Line2D([], [], color="0.55", lw=1, label="Pareto front")]
    return [
        *marks,
        Line2D([], [], ls="", marker="o", mfc="white", mec="0.4", ms=5, label="trained on more photographs"),
        Line2D([], [], color="0.55", lw=1, label="Pareto front"),
        Line2D([], [], color="0.55", lw=1, ls="--", label="front of all"),
    ]
