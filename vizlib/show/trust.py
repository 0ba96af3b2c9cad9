"""Drawings of how faithful maps are: curves with their references, scores, tables of methods and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from vizlib.measure.sanity import BLIND
from vizlib.measure.verdict import FEW, interval
from vizlib.methods.table import METHODS
from vizlib.types import Curve, Score

REFERENCES = {"random": ("random map", "0.55", "--"), "centre": ("centre Gaussian", "0.55", ":")}
FAMILIES = {
    "CNN": "tab:blue",
    "hybrid": "tab:green",
    "Transformer": "tab:orange",
    "MLP": "tab:purple",
    "RNN": "tab:brown",
}


def curves(found: Curve | Mapping[str, Curve], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """Mean curves over the photographs, beside random map and centre Gaussian where these are known.

    From 6 photographs on with a 95 % band (1.96 standard errors); of fewer it would say nothing. The title says how
    many there are, and which maps are class-blind.

    Args:
        found: a curve, or several of one kind by name. The references of the first are drawn.
        title: instead of the kind and the baseline.
    """
    ax = plt.subplots(figsize=(6.8, 3.4), layout="constrained")[1] if ax is None else ax
    several = _named(found)
    first = next(iter(several.values()))
    for name, curve in several.items():
        x, mean, half = _band(curve)
        label = f"{name}{' (class-blind)' * _blind(name, curve)}, mean {float(curve.auc.mean()):.2f}"
        (line,) = ax.plot(x, mean, label=label, marker="." if len(x) < 12 else "")
        if len(curve.score) >= FEW:
            ax.fill_between(x, mean - half, mean + half, color=line.get_color(), alpha=0.15, linewidth=0)
    for name, reference in first.references.items():
        label, colour, style = REFERENCES[name]
        x, mean, _ = _band(reference)
        ax.plot(x, mean, style, color=colour, label=f"{label}, mean {float(reference.auc.mean()):.2f}", zorder=1)
    about = f"{first.kind.replace('_', ' ')}{' · ' * bool(first.baseline)}{first.baseline}"
    ax.set_title(_title(about if title is None else title, several, "95 % bands"), fontsize=9)
    what = "layers with random weights" if first.kind == "parameter_randomisation" else "pixels"
    ax.set(xlabel=f"share of the {what}", ylabel=first.unit)
    ax.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def scores(found: Score | Mapping[str, Score], ax: Axes | None = None, *, title: str | None = None) -> Axes:
    """A dot for each photograph and the mean with its 95 % interval, a row per score; from 6 photographs on.

    Args:
        found: a score, e.g. from `sanity.class_dependence`, or several of one kind by name.
        title: instead of the kind.
    """
    several = _named(found)
    first = next(iter(several.values()))
    if ax is None:
        ax = plt.subplots(figsize=(6.0, 1.3 + 0.36 * len(several)), layout="constrained")[1]
    for row, score in enumerate(several.values()):
        values = score.value.detach().double().cpu()
        mean = float(values.mean())
        low, high = interval(values) if len(values) >= FEW else (mean, mean)
        ax.plot(values, [row] * len(values), "o", color="0.7", ms=4, mew=0)
        ax.errorbar(mean, row, xerr=[[mean - low], [high - mean]], fmt="D", ms=5, lw=1.5, color="tab:blue")
    names = [f"{name}\n(class-blind)" if _blind(name, score) else name for name, score in several.items()]
    ax.set_yticks(range(len(several)), names, fontsize=8)
    ax.set_ylim(len(several) - 0.5, -0.5)
    ax.set_xlabel(first.unit, fontsize=8)
    about = first.kind.replace("_", " ") if title is None else title
    ax.set_title(_title(about, several, "95 % intervals"), fontsize=9)
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


def planted(table: pd.DataFrame, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """How much of each method's map lies on what decided: a panel for each thing that decides, as in `benchmark`.

    Args:
        table: from `vizlib.planted`.
    """
    tasks = {f"share on the {decides} that decides": rows for decides, rows in table.groupby("decides")}
    if axes is None:
        inches = (7.2, (0.9 + 0.42 * table.method.nunique()) * len(tasks))
        axes = list(plt.subplots(len(tasks), 1, figsize=inches, layout="constrained", squeeze=False)[1][:, 0])
    for ax, (metric, rows) in zip(axes, tasks.items(), strict=True):
        known = rows[rows.share.notna()].rename(columns={"share": "mean"})
        benchmark(known.assign(metric=metric), metric, ax)
    return list(axes)


def _named(found: Any) -> dict[str, Any]:
    """One result by its method, or several by the names that they were given."""
    return dict(found) if isinstance(found, Mapping) else {found.method or found.kind: found}


def _blind(name: str, found: Curve | Score) -> bool:
    """Whether the map does not change with the class: as was measured, else by its method."""
    if found.kind == "class_dependence":
        return bool((found.value > BLIND).all())
    method = found.method or name
    return method in METHODS and METHODS[method].class_blind


def _title(about: str, several: Mapping[str, Curve | Score], spread: str) -> str:
    """What is drawn, which way is better, of how many photographs, and which maps are class-blind."""
    first = next(iter(several.values()))
    count = len(first.value)
    better = "higher is better" if first.higher_is_better else "lower is better"
    many = f"{count} photograph{'s' * (count > 1)}" + (f", {spread}" if count >= FEW else "")
    blind = ", ".join(name for name, found in several.items() if _blind(name, found))
    return "\n".join([about, f"{better} · {many}", *([f"class-blind: {blind}"] if blind else [])])


def _band(curve: Curve) -> tuple[NDArray, NDArray, NDArray]:
    """Fractions, means over the photographs and 1.96 standard errors."""
    score = curve.score.detach().double().cpu().numpy()
    error = score.std(0, ddof=1) / len(score) ** 0.5 if len(score) > 1 else np.zeros(score.shape[1])
    return curve.fraction.cpu().numpy(), score.mean(0), 1.96 * error
