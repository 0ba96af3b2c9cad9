"""The method for a model's family, taken from the measured table of the zoo."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from torch import Tensor

from vizlib.capture.summary import family, obstacles
from vizlib.types import Classifier

TABLE = "faithfulness.csv"
RANKED_BY = "insertion - deletion"


def choose(clf: Classifier, x: Tensor, methods: dict[str, Any]) -> tuple[str, str]:
    """The most faithful method for a classifier, and why.

    Of the methods that speak about a class and apply to the classifier, the one with the largest mean difference of
    insertion and deletion over the zoo's members of the same family; over all of them, for a family that the zoo does
    not have.

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
    scores: dict[str, list[float]] = defaultdict(list)
    for row in of_family:
        scores[row["method"]].append(float(row["mean"]))
    means = {name: fmean(each) for name, each in sorted(scores.items(), key=lambda item: -fmean(item[1]))}
    barred = obstacles(clf, x)
    fit = [n for n in means if not methods[n].class_blind and not barred.get(_kind(methods[n].kind))]
    if not fit:
        raise RuntimeError(f"a method of {TABLE} that applies to {clf.name} is needed; none does. Name a method.")
    best, chance = fit[0], fmean(float(row["random"]) for row in of_family)
    whose = f"the zoo's {own}s" if known else f"all members of the zoo, none of which is a {own}"
    after = f", before {fit[1]} with {means[fit[1]]:.2f}" if len(fit) > 1 else ""
    why = (
        f"auto took {best}: of the methods that speak about a class and apply to {clf.name}, a {own}, it has the "
        f"largest {RANKED_BY} over {whose}: {means[best]:.2f}, mean of {len(scores[best])}{after}; "
        f"a random map has {chance:.2f}."
    )
    return best, why


def _kind(kind: str) -> str:
    """The kind of obstacle that stands in a method's way; attributions to pixels have none."""
    return "cam" if kind == "perturbation" else kind


@cache
def _rows() -> list[dict[str, str]]:
    with (files("vizlib.tables") / TABLE).open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["metric"] == RANKED_BY]
