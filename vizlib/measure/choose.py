"""Which classifier to take: the rows of a table that keep to limits, and how they were found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from numbers import Real
from typing import Any

import pandas as pd
from tqdm import tqdm

from vizlib.measure.advice import DEVICES, FEW, cases, compared, for_few
from vizlib.measure.checkpoints import COSTS, published
from vizlib.measure.latency import fast_enough
from vizlib.measure.own_table import completed
from vizlib.measure.sizes import Tell, at_size

Steps = tuple[tuple[str, int], ...]
WHOLE = ("resolution", "photographs")


@dataclass(frozen=True, eq=False)
class Chosen:
    """The classifiers that keep to the limits.

    Attributes:
        rows: those that qualify, the best first; columns as in `Tradeoff.table`; costs are for `image_px`.
        steps: what was asked, one after the other and why, and how many classifiers were left.
        first: what the order goes by: "accuracy", or a cost.
        notes: what to know about these rows.
        advice: what articles advise in this case, and how it stands to the answer.
    """

    rows: pd.DataFrame
    steps: Steps
    first: str
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def best(self) -> pd.Series:
        return self.rows.iloc[0]

    @property
    def shown(self) -> list[str]:
        """The columns worth showing."""
        known = [name for name in ("image_px", *COSTS) if self.rows[name].notna().any()]
        return ["model", "family", "accuracy", *known]

    def __str__(self) -> str:
        steps = [f"{left:4d}  {step}" for step, left in self.steps]
        order = "the most accurate first" if self.first == "accuracy" else f"the smallest {self.first} first"
        text = self.rows[self.shown].head(10).to_string(index=False, float_format="{:.4g}".format)
        more = [f"… and {len(self.rows) - 10} more"] if len(self.rows) > 10 else []
        return "\n".join([*steps, f"      {order}:", "", text, *more, *self.notes, *self.advice])


def choose(
    *,
    device: str | None = None,
    photographs: int | None = None,
    latency_ms: float | None = None,
    params: float | None = None,
    gmacs: float | None = None,
    memory_mb: float | None = None,
    accuracy: float | None = None,
    resolution: int | None = None,
    more_data: bool = True,
    first: str | None = None,
    table: pd.DataFrame | None = None,
    tell: Tell | None = None,
) -> Chosen:
    """The classifiers of a table that keep to all limits, the best first.

    Latency is measured on this machine where the table does not know it: a few small models of each family tell
    what to expect of the others; then those that may keep to the limit are timed in their order until one does, for
    half a minute at most.

    Args:
        device: where it will run, if not here: "phone" (few operations) or "server" (no limit of its own).
        photographs: how many labelled ones of your own there are to fine-tune on.
        latency_ms: most milliseconds for one image on this machine.
        params: most parameters, e.g. 25e6.
        gmacs: most multiply-accumulates of one image, in 10⁹.
        memory_mb: most memory of one forward, in 10⁶ bytes.
        accuracy: least top-1 accuracy, in [0, 1].
        resolution: the image must be seen at this many pixels a side, or more; see `sizes.at_size`.
        more_data: False: only checkpoints that were trained on ImageNet-1k alone.
        first: "accuracy" or a cost; default: "accuracy", but "gmacs" where accuracy is the only limit.
        table: rows to choose from, by default `measure.checkpoints.published`; see `own_table.completed`.
        tell: called with a line about what is being measured; default: a bar on the standard error.

    Raises:
        TypeError: a limit is no number.
        ValueError: a limit makes no sense, or nothing keeps to all of them; the message names the nearest row.
    """
    limits = {"params": params, "gmacs": gmacs, "memory_mb": memory_mb, "accuracy": accuracy}
    asked = limits | {"latency_ms": latency_ms, "resolution": resolution, "photographs": photographs}
    _check(asked)
    given = {name: value for name, value in limits.items() if value is not None}
    first = first or ("gmacs" if [k for k, v in asked.items() if v is not None] == ["accuracy"] else "accuracy")
    _check_names(first, device)
    rows = (published() if table is None else completed(table)).dropna(subset=["accuracy"])
    steps = [(f"with a known accuracy ({'; '.join(rows['source'].unique()[:2])})", rows["model"].nunique())]
    with _told(tell) as say:
        rows = everything = _at_size(rows, resolution, given, steps, say)
        rows = _for_case(rows, device, photographs, more_data, steps)
        rows = _within(rows, given, steps)
        notes = _notes(rows, resolution)
        rows = rows.sort_values(first, ascending=first != "accuracy", kind="stable")
        if latency_ms is not None or first == "latency_ms":
            rows, note = _fast_enough(rows, latency_ms, first, steps, say)
            notes.append(note)
    rows = rows.reset_index(drop=True)
    few = photographs is not None and photographs < FEW
    limited = latency_ms is not None or bool(given.keys() & COSTS.keys())
    path = cases(first, limited, device, few, latency_ms, resolution)
    advice = tuple(compared(case, everything, rows) for case in path)
    return Chosen(rows, tuple(steps), first, tuple(filter(None, notes)), advice)


def _check(asked: dict[str, Any]) -> None:
    for name, value in asked.items():
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name} needs a number; got {value!r}. Leave it out for no limit.")
        number = float(value)
        if not number > 0 or (name in WHOLE and not number.is_integer()):
            kind = "a positive whole number" if name in WHOLE else "a positive number"
            raise ValueError(f"{name} needs {kind}; got {value}. Leave it out for no limit.")
    share = asked["accuracy"]
    if share is not None and share > 1:
        raise ValueError(f"accuracy needs a share in [0, 1]; got {share}. For 82 % pass 0.82.")


def _check_names(first: str, device: str | None) -> None:
    if first != "accuracy" and first not in COSTS:
        raise ValueError(f"first needs accuracy or a cost; got {first!r}. Name one of: accuracy, {', '.join(COSTS)}.")
    if device is not None and device not in DEVICES:
        raise ValueError(
            f"device needs one of {', '.join(DEVICES)}; got {device!r}. "
            f"For this machine leave it out and pass latency_ms."
        )


@contextmanager
def _told(tell: Tell | None) -> Iterator[Tell]:
    """Where lines about what is measured go: as told, or to a bar that appears with the first of them."""
    if tell is not None:
        yield tell
        return
    with tqdm(bar_format="{desc} ({elapsed})", leave=False, delay=0.1) as bar:
        yield bar.set_description_str


def _at_size(
    rows: pd.DataFrame, resolution: int | None, limits: dict[str, float], steps: list[tuple[str, int]], say: Tell
) -> pd.DataFrame:
    """One row per model: at the size of its accuracy, or at that which is asked for."""
    if resolution is None:
        return rows[(rows["image_px"] == rows["accuracy_px"]) | rows["image_px"].isna()]
    sized = at_size(rows, int(resolution), limits, say)
    text = f"with costs at {resolution:g} pixels or more"
    if sized.empty:
        largest = rows["image_px"].max()
        known = "no size (column image_px)" if isnan(largest) else f"{largest:g} pixels at most"
        raise ValueError(
            f"{text}: none of the {rows['model'].nunique()} classifiers has that; the table knows {known}. "
            f"Take a smaller resolution, or measure one model: vl.cost(vl.load(NAME, input_size={resolution:g}))."
        )
    steps.append((text, len(sized)))
    return sized


def _for_case(
    rows: pd.DataFrame, device: str | None, photographs: int | None, more_data: bool, steps: list[tuple[str, int]]
) -> pd.DataFrame:
    """What the device and the photographs at hand ask for."""
    everything = rows
    if device is not None:
        most, why = DEVICES[device]
        rows = _keep(rows, ~(rows["gmacs"] > most), f"for a {device}: {why}", steps, ("gmacs", False))
    if not more_data:
        rows = _keep(rows, ~rows["more_data"].astype(bool), "trained on ImageNet-1k alone", steps)
    if photographs is not None and photographs < FEW:
        suits, why = for_few(everything, int(photographs), more_data)
        rows = _keep(rows, suits[rows.index], why, steps)
    elif photographs is not None:
        steps.append((f"{photographs:,} photographs of yours: enough to fine-tune any of them", len(rows)))
    return rows


def _within(rows: pd.DataFrame, limits: dict[str, float], steps: list[tuple[str, int]]) -> pd.DataFrame:
    for name, limit in limits.items():
        at_least = name == "accuracy"
        fits = rows[name] >= limit if at_least else rows[name] <= limit
        rows = _keep(rows, fits, f"{name} at {'least' if at_least else 'most'} {limit:g}", steps, (name, at_least))
    return rows


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
        if nearest is not None and rows[nearest[0]].notna().any():
            column, at_least = nearest
            best = rows.loc[rows[column].idxmax() if at_least else rows[column].idxmin()]
            found = f" The nearest is {best['model']} with {column} {best[column]:.4g}."
        before = " and ".join(step for step, _ in steps)
        raise ValueError(f"{text}: none of the {len(rows)} classifiers {before} is that.{found} Loosen a limit.")
    steps.append((text, len(kept)))
    return kept


def _notes(rows: pd.DataFrame, resolution: int | None) -> list[str]:
    """At which sizes the costs are, where a size was asked for."""
    if resolution is None:
        return []
    own, asked = rows["image_px"] == rows["accuracy_px"], rows["image_px"] == resolution
    sizes = {
        f"at {resolution:g} pixels": asked,
        "at the size of their accuracy, which is larger": own & ~asked,
        "at the next larger size in the table": ~own & ~asked,
    }
    counts = [f"{those.sum()} {where}" for where, those in sizes.items() if those.any()]
    notes = [f"Costs are for image_px: {', '.join(counts)}."]
    if not own.all():
        notes.append("Accuracies were published at accuracy_px; at another size they are not known.")
    return notes


def _fast_enough(
    rows: pd.DataFrame, limit: float | None, first: str, steps: list[tuple[str, int]], say: Tell
) -> tuple[pd.DataFrame, str]:
    timed, note = fast_enough(rows, limit, first, say)
    if limit is not None:
        kept = timed[timed["latency_ms"] <= limit]
        if kept.empty:
            nearest = timed.loc[timed["latency_ms"].idxmin()]
            raise ValueError(
                f"latency_ms at most {limit:g} is needed; none of {len(timed)} that are known or were timed here is. "
                f"The nearest is {nearest['model']} with latency_ms {nearest['latency_ms']:.4g}. {note} Loosen a limit."
            )
        steps.append((f"latency_ms at most {limit:g}, of {len(timed)} that are known or were timed here", len(kept)))
        timed = kept
    return timed.sort_values(first, ascending=first != "accuracy", kind="stable"), note
