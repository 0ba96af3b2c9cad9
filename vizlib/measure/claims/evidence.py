"""What claims are held against: published accuracies by checkpoint, costs by architecture, and a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import pandas as pd
import torch

from vizlib.measure.checkpoints import published
from vizlib.measure.cost import macs, params_of
from vizlib.models.architectures.registry import architectures, build
from vizlib.types import Classifier

TIMM = "data/imagenet_top1.csv: timm repository, results table for ImageNet-1k, snapshot of August 2026"
COUNTED = "counted here from shapes: data/costs.csv"
SPEED = "for the speeds no machine is named, they are not checkable here: notebook 10b measures their ratio on yours"
Verdict = Literal["holds", "holds in part", "off", "wrong", "not checkable"]


@dataclass(frozen=True)
class Finding:
    """What became of a claim.

    Attributes:
        found: what was measured or published, in words and numbers.
        source: where these come from: the function that counted, the table, or the paper.
        verdict: "holds"; "holds in part" where one of its numbers does, or under a condition that it leaves out;
            "off" where a number is another by more than rounding, "wrong" where it belongs to something else or
            the opposite is so; "not checkable".
        reason: why, in words that follow from what was found.
    """

    found: str
    source: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Claim:
    """A statement as it was read in articles on image classification, and the function that looks into it."""

    id: str
    text: str
    check: Callable[[], Finding]


def top1(checkpoint: str) -> float:
    """Published accuracy of one of timm's checkpoints, in per cent."""
    return float(100 * _at_own_size().loc[f"timm/{checkpoint}", "accuracy"])


def params(name: str) -> float:
    """Parameters in millions: of a checkpoint's architecture, or of "arch/NAME"."""
    return _cost(name)[0] / 1e6


def gmacs(name: str) -> float:
    """10⁹ multiply-accumulates of one image at the size of the published accuracy."""
    return _cost(name)[1]


def at_size(architecture: str, size: int) -> pd.Series:
    """The costs of an architecture of timm at an image size of data/costs.csv."""
    table = published()
    rows = table[table["model"].str.match(rf"timm/{architecture}\.") & (table["image_px"] == size)]
    return rows.iloc[0]


def authors(name: str) -> float:
    """Accuracy that the authors published for an architecture written here, in per cent."""
    found = architectures()[name.removeprefix("arch/")].top1
    if found is None:
        raise ValueError(f"{name} has no published accuracy. Name one whose row in the registry has top1.")
    return found


def points(difference: float) -> str:
    """A difference of accuracies with its sign: "+2.3 points"."""
    return f"{difference:+.1f} points"


@cache
def _at_own_size() -> pd.DataFrame:
    return published().query("image_px == accuracy_px").set_index("model")


@cache
def _cost(name: str) -> tuple[float, float]:
    if name.startswith("arch/"):
        size = architectures()[name.removeprefix("arch/")].input_size
        with torch.device("meta"):
            module = build(name.removeprefix("arch/")).eval()
        clf = Classifier(module, name, lambda photo: photo, (3, size, size))
        return float(params_of(module)), macs(clf) / 1e9
    row = _at_own_size().loc[f"timm/{name}"]
    return float(row["params"]), float(row["gmacs"])
