"""Which classifier to take: the rows of a table that keep to limits, and how they were found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
from tqdm import tqdm

from vizlib.measure.checkpoints import COSTS, published
from vizlib.measure.cost import forward_ms, product_rate
from vizlib.models.load import load

Steps = tuple[tuple[str, int], ...]
# Winograd's convolutions need up to 4 times fewer multiplications than are counted (Lavin, Gray 2015).
WINOGRAD = 4.0


@dataclass(frozen=True, eq=False)
class Chosen:
    """The classifiers that keep to the limits.

    Attributes:
        rows: those that qualify, the best first; columns as in `Tradeoff.table`.
        steps: what was asked, one after the other, and how many rows were left.
        first: what the order goes by: "accuracy", or a cost.
        notes: what to know about these rows.
    """

    rows: pd.DataFrame
    steps: Steps
    first: str
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> pd.Series:
        return self.rows.iloc[0]

    def __str__(self) -> str:
        steps = [f"{left:4d}  {step}" for step, left in self.steps]
        order = "the most accurate first" if self.first == "accuracy" else f"the smallest {self.first} first"
        shown = ["model", "family", "accuracy", "image_px", *(c for c in COSTS if self.rows[c].notna().any())]
        text = self.rows[shown].head(10).to_string(index=False, float_format="{:.4g}".format)
        more = [f"… and {len(self.rows) - 10} more"] if len(self.rows) > 10 else []
        return "\n".join([*steps, f"      {order}:", "", text, *more, *self.notes])


def choose(
    *,
    latency_ms: float | None = None,
    params: float | None = None,
    gmacs: float | None = None,
    memory_mb: float | None = None,
    accuracy: float | None = None,
    resolution: int | None = None,
    more_data: bool = True,
    first: str | None = None,
    table: pd.DataFrame | None = None,
) -> Chosen:
    """The classifiers of a table that keep to all limits, the best first.

    Latency is measured on this machine, for the rows that the other limits leave, from the best on until one keeps
    to it; what cannot keep to it, even if all its products ran at the rate of one large matrix product with
    Winograd's savings, is left out without running it.

    Args:
        latency_ms: most milliseconds for one image on this machine.
        params: most parameters, e.g. 25e6.
        gmacs: most multiply-accumulates of one image, in 10⁹.
        memory_mb: most memory of one forward, in 10⁶ bytes.
        accuracy: least top-1 accuracy, in [0, 1].
        resolution: the image must be seen at this many pixels a side, or more; costs are those at that size.
        more_data: False: only checkpoints that were trained on ImageNet-1k alone.
        first: "accuracy" or a cost; default: "accuracy", but "gmacs" where accuracy is the only limit.
        table: rows to choose from, by default `measure.checkpoints.published`.

    Raises:
        ValueError: a limit makes no sense, or nothing keeps to all of them; the message names the nearest row.
    """
    limits = {"params": params, "gmacs": gmacs, "memory_mb": memory_mb, "accuracy": accuracy}
    _check(limits | {"latency_ms": latency_ms, "resolution": resolution})
    given = {name: value for name, value in limits.items() if value is not None}
    alone = set(given) == {"accuracy"} and latency_ms is None
    first = first or ("gmacs" if alone else "accuracy")
    if first != "accuracy" and first not in COSTS:
        raise ValueError(f"first needs accuracy or a cost; got {first!r}. Name one of: accuracy, {', '.join(COSTS)}.")
    rows = published() if table is None else table
    rows = rows.dropna(subset=["accuracy"])
    steps = [(f"with a known accuracy ({'; '.join(rows['source'].unique()[:2])})", rows["model"].nunique())]
    rows = _at_size(rows, resolution, steps)
    if not more_data:
        rows = _keep(rows, ~rows["more_data"].astype(bool), "trained on ImageNet-1k alone", steps)
    for name, limit in given.items():
        at_least = name == "accuracy"
        fits = rows[name] >= limit if at_least else rows[name] <= limit
        sign = "at least" if at_least else "at most"
        rows = _keep(rows, fits, f"{name} {sign} {limit:g}", steps, nearest=(name, at_least))
    notes = _notes(rows)
    rows = rows.sort_values(first, ascending=first != "accuracy", kind="stable")
    if latency_ms is not None or first == "latency_ms":
        rows, notes = _fast_enough(rows, latency_ms, first, steps, notes)
    return Chosen(rows.reset_index(drop=True), tuple(steps), first, notes)


def _check(limits: dict[str, Any]) -> None:
    for name, value in limits.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} needs a positive number; got {value}. Leave it out for no limit.")
    share = limits["accuracy"]
    if share is not None and share > 1:
        raise ValueError(f"accuracy needs a share in [0, 1]; got {share}. For 82 % pass 0.82.")


def _at_size(rows: pd.DataFrame, resolution: int | None, steps: list[tuple[str, int]]) -> pd.DataFrame:
    """One row per model: at the size of its accuracy, or at the smallest of its sizes that is large enough."""
    if resolution is None:
        return rows[rows["image_px"] == rows["accuracy_px"]]
    text = f"with costs counted at {resolution} pixels or more"
    large = _keep(rows, rows["image_px"] >= resolution, text, steps, nearest=("image_px", True))
    return large.loc[large.groupby("model")["image_px"].idxmin()]


def _keep(
    rows: pd.DataFrame,
    fits: pd.Series,
    text: str,
    steps: list[tuple[str, int]],
    nearest: tuple[str, bool] | None = None,
) -> pd.DataFrame:
    """Those that fit, with a line about it; where none does, the nearest is named."""
    kept = rows[fits]
    if kept.empty:
        found = ""
        if nearest is not None:
            column, at_least = nearest
            best = rows.loc[rows[column].idxmax() if at_least else rows[column].idxmin()]
            found = f" The nearest is {best['model']} with {column} {best[column]:.4g}."
        before = " and ".join(step for step, _ in steps)
        raise ValueError(f"{text}: none of the {len(rows)} rows {before} is that.{found} Loosen a limit.")
    steps.append((text, kept["model"].nunique()))
    return kept


def _notes(rows: pd.DataFrame) -> tuple[str, ...]:
    if (rows["image_px"] == rows["accuracy_px"]).all():
        return ()
    return ("Accuracies were published at accuracy_px; at another size they are not known.",)


def _fast_enough(
    rows: pd.DataFrame, limit: float | None, first: str, steps: list[tuple[str, int]], notes: tuple[str, ...]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Measures the rows in their order until one keeps to the limit; all of them where the order is the latency."""
    if limit is not None:
        most = limit / 1e3 * product_rate() * WINOGRAD
        text = f"could take {limit:g} ms at most at this machine's fastest ({most:.3g} GMACs)"
        rows = _keep(rows, rows["gmacs"] <= most, text, steps, nearest=("gmacs", False))
    found = []
    for row in tqdm(rows.to_dict("records"), desc="latency", disable=None, leave=False):
        row["latency_ms"] = _latency(row["model"], int(row["image_px"]), limit)
        found.append(row)
        if limit is not None and row["latency_ms"] <= limit and first != "latency_ms":
            break
    timed = pd.DataFrame(found)
    if limit is not None:
        text = f"measured here, {len(timed)} in all: latency_ms at most {limit:g}"
        timed = _keep(timed, timed["latency_ms"] <= limit, text, steps, nearest=("latency_ms", False))
    if len(found) < len(rows):
        notes = (*notes, f"Measuring ended at the first within the limit; {len(rows) - len(found)} were not measured.")
    return timed.sort_values(first, ascending=first != "accuracy", kind="stable"), notes


@cache
def _latency(model: str, size: int, limit: float | None) -> float:
    """Median milliseconds of one image; a model twice too slow is run only twice."""
    options: dict[str, Any] = {} if model.startswith("zoo/") else {"pretrained": False, "input_size": (3, size, size)}
    clf = load(model, **options)
    if limit is not None and (quick := forward_ms(clf, times=2)) > 2 * limit:
        return quick
    return forward_ms(clf, times=10)
