"""The method for a model's family, taken from the measured table of the zoo."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from torch import Tensor

from vizlib.capture.summary import family, obstacles
from vizlib.types import Classifier

TABLE = "faithfulness.csv"
RANKED_BY = "insertion - deletion"


@dataclass(frozen=True)
class Standing:
    """How a method did on the members of a family: means over them.

    Attributes:
        low, high: the 95 % interval.
        seconds: of processor time for a map.
    """

    method: str
    mean: float
    low: float
    high: float
    seconds: float


def choose(clf: Classifier, x: Tensor, methods: dict[str, Any]) -> tuple[str, str]:
    """The most faithful method for a classifier, and why.

    Of the methods that speak about a class and apply to the classifier, the one with the largest mean difference of
    insertion and deletion over the zoo's members of the same family (over all of them, for a family that the zoo does
    not have). Where the intervals of others overlap with its own, so that the table cannot tell them apart, the
    quickest of these.

    Args:
        x: (b, c, h, w), prepared.
        methods: METHODS.

    Returns:
        The method's name and a sentence.

    Raises:
        RuntimeError: no method of the table applies.

    Source: data/faithfulness.csv, made by `python -m vizlib.measure.benchmark`.
    """
    own, rows = family(clf), _rows()
    known = own in {row["family"] for row in rows}
    of_family = [row for row in rows if row["family"] == own or not known]
    barred = obstacles(clf, x)
    fit = [s for s in _standings(of_family) if _applies(methods[s.method], barred)]
    if not fit:
        raise RuntimeError(f"a method of {TABLE} that applies to {clf.name} is needed; none does. Name a method.")
    level = [s for s in fit if s.high >= fit[0].low]
    taken = min(level, key=lambda s: s.seconds)
    whose = f"the zoo's {own}s" if known else f"all members of the zoo, none of which is a {own}"
    chance = fmean(float(row["random"]) for row in of_family)
    why = (
        f"auto took {taken.method}: of the methods that speak about a class and apply to {clf.name}, a {own}, "
        f"{_beside(taken, level, fit)} {RANKED_BY} over {whose} on {rows[0]['photos']} photographs, judged in squares "
        f"of 8 × 8: {_number(taken)}; a random map has {chance:.2f}."
    )
    if methods[taken.method].kind == "attribution":
        why += " Its map is of single pixels: read it by areas, as it was judged."
    return taken.method, why


def _beside(taken: Standing, level: list[Standing], fit: list[Standing]) -> str:
    """How the method taken stands to the others, in words that `RANKED_BY` follows."""
    if len(level) > 1:
        others = ", ".join(_number(s, s.method) for s in level if s is not taken)
        return f"it is the quickest of {len(level)} that cannot be told apart (others: {others}) by"
    if len(fit) > 1:
        return f"it is ahead of {_number(fit[1], fit[1].method)} by"
    return "it is the only one in the table of"


def _number(standing: Standing, name: str = "") -> str:
    return f"{name} {standing.mean:.2f} ({standing.low:.2f} to {standing.high:.2f})".strip()


def _standings(rows: list[dict[str, str]]) -> list[Standing]:
    """The methods, the best first."""
    of_method: dict[str, list[list[float]]] = defaultdict(list)
    for row in rows:
        seconds = float(row["seconds"]) / float(row["photos"])
        of_method[row["method"]].append([*(float(row[name]) for name in ("mean", "low", "high")), seconds])
    found = [Standing(name, *map(fmean, zip(*each, strict=True))) for name, each in of_method.items()]
    return sorted(found, key=lambda standing: -standing.mean)


def _applies(method: Any, barred: dict[str, str]) -> bool:
    return not method.class_blind and not barred.get(_kind(method.kind))


def _kind(kind: str) -> str:
    """The kind of obstacle that stands in a method's way; attributions to pixels have none."""
    return "cam" if kind == "perturbation" else kind


@cache
def _rows() -> list[dict[str, str]]:
    with (files("vizlib.tables") / TABLE).open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == RANKED_BY]
