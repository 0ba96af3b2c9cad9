"""Drawings of how faithful maps are: curves with their references, and the table of methods and models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from vizlib.methods.table import METHODS
from vizlib.types import Curve

REFERENCES = {"random": ("random map", "0.55", "--"), "centre": ("centre Gaussian", "0.55", ":")}
FAMILIES = {
    "CNN": "tab:blue",
    "hybrid": "tab:green",
    "Transformer": "tab:orange",
    "MLP": "tab:purple",
    "RNN": "tab:brown",
}


def curves(found: Curve | Mapping[str, Curve], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Mean curves over the photographs with a 95 % band (1.96 standard errors), beside random map and centre Gaussian.

    Args:
        found: a curve, or several of one kind by name. The references of the first are drawn.
        title: instead of the kind and the baseline.
    """
    ax = plt.subplots(figsize=(6.8, 3.4), layout="constrained")[1] if ax is None else ax
    several = dict(found) if isinstance(found, Mapping) else {found.kind: found}
    first = next(iter(several.values()))
    for name, curve in several.items():
        x, mean, half = _band(curve)
        blind = " (class-blind)" if name in METHODS and METHODS[name].class_blind else ""
        label = f"{name}{blind}, mean {float(curve.auc.mean()):.2f}"
        (line,) = ax.plot(x, mean, label=label, marker="." if len(x) < 12 else "")
        ax.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.15, linewidth=0)
    for name, reference in first.references.items():
        label, colour, style = REFERENCES[name]
        x, mean, _ = _band(reference)
        ax.plot(x, mean, style, color=colour, label=f"{label}, mean {float(reference.auc.mean()):.2f}", zorder=1)
    better = "higher is better" if first.higher_is_better else "lower is better"
    about = f" · {first.baseline}" if first.baseline else ""
    ax.set_title(f"{first.kind.replace('_', ' ')}{about}\n{better}" if title is None else title, fontsize=9)
    what = "layers with random weights" if first.kind == "parameter_randomisation" else "pixels"
    ax.set(xlabel=f"share of the {what}", ylabel=first.unit)
    ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def benchmark(table: pd.DataFrame, metric: str = "insertion - deletion", ax: Axes | None = None) -> Axes:
    """Every method on every model with its 95 % interval: a row per method, the best above, a colour per family.

    Args:
        table: from `vizlib.benchmark`.
        metric: one of its metrics.

    Raises:
        ValueError: the table has no such metric.
    """
    rows = table[table.metric == metric]
    if rows.empty:
        known = ", ".join(sorted(set(table.metric) - {""}))
        raise ValueError(f"a metric of the table is needed; got {metric!r}. There are: {known}.")
    order = list(rows.groupby("method")["mean"].mean().sort_values().index)
    models = list(dict.fromkeys(rows.sort_values("family").model))
    if ax is None:
        ax = plt.subplots(figsize=(7.2, 0.9 + 0.42 * len(order)), layout="constrained")[1]
    for i, model in enumerate(models):
        own = rows[rows.model == model]
        place = own.method.map(order.index) + (0.5 - (i + 0.5) / len(models)) * 0.7
        spread = np.array([own["mean"] - own.low, own.high - own["mean"]])
        family = own.family.iloc[0]
        style: dict[str, Any] = {"fmt": "osD^vP*Xh"[i % 9], "ms": 4, "lw": 1, "color": FAMILIES[family]}
        ax.errorbar(own["mean"], place, xerr=spread, label=f"{model} ({family})", **style)
    if "random" in rows:
        ax.axvline(rows.random.mean(), color="0.55", ls="--", lw=1, label="random map", zorder=0)
        ax.axvline(rows.centre.mean(), color="0.55", ls=":", lw=1, label="centre Gaussian", zorder=0)
    blind = set(rows[rows.class_blind].method)
    ax.set_yticks(range(len(order)), [f"{m}\n(class-blind)" if m in blind else m for m in order], fontsize=8)
    ax.set_xlabel(f"{metric}, {rows.photos.iloc[0]} photographs, 95 % intervals", fontsize=8)
    ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _band(curve: Curve) -> tuple[NDArray, NDArray, NDArray]:
    """Fractions, means over the photographs and 1.96 standard errors."""
    score = curve.score.detach().double().cpu().numpy()
    error = score.std(0, ddof=1) / len(score) ** 0.5 if len(score) > 1 else np.zeros(score.shape[1])
    return curve.fraction.cpu().numpy(), score.mean(0), 1.96 * error
