"""Which rows of a table keep to a latency on this machine: few of them are timed, in bounded time."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from vizlib.measure.cost import forward_ms
from vizlib.measure.sizes import Tell
from vizlib.models.load import load

SECONDS = 20.0  # after which no other row is begun
SLACK = 1.5  # a row of which more than this times the limit is expected is not timed
ENOUGH = 10  # rows, where the fastest are asked for
PROBES = 3  # rows of a family that tell what to expect of the others


class Timing:
    """Rows that are timed one by one, and what is expected of the others.

    A row is expected to take as long as the timed one of its family with the most similar number of operations,
    scaled by this number.

    Attributes:
        ms: milliseconds of the rows that are known, by their index.
    """

    def __init__(self, rows: pd.DataFrame, limit: float | None, tell: Tell) -> None:
        self.rows, self.limit, self.tell = rows, limit, tell
        self.ms: dict[Any, float] = rows["latency_ms"].dropna().to_dict()
        self._end = time.monotonic() + SECONDS

    @property
    def over(self) -> bool:
        return time.monotonic() > self._end

    def time(self, index: Any) -> float:
        if index not in self.ms:
            row = self.rows.loc[index]
            self.tell(f"timing {row['model']}, {row['gmacs']:.3g} GMACs")
            self.ms[index] = model_ms(row["model"], row["image_px"], self.limit)
        return self.ms[index]

    def probe(self) -> None:
        """Times the smallest row of each family, then those near to where the family should reach the limit.

        Half of the time at most goes into this.
        """
        half = time.monotonic() + SECONDS / 2
        families = [family["gmacs"] for _, family in self.rows.dropna(subset=["gmacs"]).groupby("family")]
        targets = [gmacs.min() for gmacs in families]
        for _ in range(PROBES if self.limit else 1):
            for number, gmacs in enumerate(families):
                index = _nearest(gmacs, targets[number])
                if time.monotonic() > half:
                    return
                if index not in self.ms:
                    targets[number] = gmacs[index] * (self.limit or 1) / self.time(index)

    def expected(self, index: Any) -> float:
        """Milliseconds; 0 where nothing is known to compare with."""
        if index in self.ms:
            return self.ms[index]
        row, known = self.rows.loc[index], self.rows.loc[list(self.ms)].dropna(subset=["gmacs"])
        kin = known.loc[known["family"] == row["family"], "gmacs"]
        others = known["gmacs"] if kin.empty else kin
        if others.empty or np.isnan(row["gmacs"]):
            return 0.0
        nearest = _nearest(others, row["gmacs"])
        return self.ms[nearest] * float(row["gmacs"] / others[nearest])

    def too_slow(self, index: Any) -> bool:
        return self.limit is not None and self.expected(index) > SLACK * self.limit


def fast_enough(rows: pd.DataFrame, limit: float | None, first: str, tell: Tell) -> tuple[pd.DataFrame, str]:
    """Times rows until the first in their order keeps to the limit, or time is up.

    Args:
        rows: in the order of `first`; where that is "latency_ms", the ten fastest are sought.
        limit: most milliseconds for one image; None: no limit.
        tell: called with a line about each row that is timed.

    Returns:
        The rows that are known, within the limit or not, with their `latency_ms`; a note on the others, or "".
    """
    timing = Timing(rows, limit, tell)
    timing.probe()
    fastest = first == "latency_ms"
    waiting, hits = list(rows.index), 0
    while waiting and hits < (ENOUGH if fastest else 1) and not timing.over:
        index = min(waiting, key=timing.expected) if fastest else waiting[0]
        waiting.remove(index)
        if not timing.too_slow(index):
            spent = timing.time(index)
            hits += limit is None or spent <= limit
    known = rows.loc[list(timing.ms)]
    return known.assign(latency_ms=list(timing.ms.values())), _note(timing)


def _note(timing: Timing) -> str:
    left = [index for index in timing.rows.index if index not in timing.ms]
    if not left:
        return ""
    slow = sum(map(timing.too_slow, left))
    reasons = [f"{slow} since others of their family make one expect over {timing.limit:g} ms"] if slow else []
    if slow < len(left):
        why = f"time was up after {SECONDS:g} s (ask for less)" if timing.over else "the answer was found before"
        reasons.append(f"{len(left) - slow} since {why}")
    return f"Not timed: {'; '.join(reasons)}."


def _nearest(gmacs: pd.Series, target: float) -> Any:
    """Index of the number of operations that is nearest in ratio."""
    return np.log(gmacs / target).abs().idxmin()


@cache
def model_ms(model: str, size: float, limit: float | None) -> float:
    """Median milliseconds of as many images as take a second, at most ten; of one if that is twice too slow.

    Args:
        size: side of the image in pixels; members of the zoo take their own.
    """
    options: dict[str, Any] = {} if model.startswith("zoo/") else {"pretrained": False, "input_size": int(size)}
    clf = load(model, **options)
    once = forward_ms(clf, times=1)
    times = min(int(1e3 / once), 10)
    too_slow = limit is not None and once > 2 * limit
    return once if too_slow or times < 2 else forward_ms(clf, times=times)
