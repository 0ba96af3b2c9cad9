"""What a device and a number of photographs ask of a classifier, and what articles advise for the same case."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan

import pandas as pd

# What a device that cannot be timed here can bear: most GMACs, in words and why.
DEVICES: dict[str, tuple[float, str]] = {
    "phone": (
        2.1,
        "gmacs at most 2.1; MobileViT-S, made for phones, has 2.0 (Mehta, Rastegari 2021, arXiv 2110.02178)",
    ),
    "server": (inf, "no limit by itself"),
}
# The HyperRule of Kolesnikov et al. 2019, Big Transfer, arXiv 1912.11370: fewer labelled images are a small task.
FEW = 20_000


@dataclass(frozen=True)
class Advice:
    """What articles of 2023 to 2025 advise for a case.

    Attributes:
        case: in words.
        named: the architectures they name.
        pattern: regular expression of their names in a table, or of the family.
    """

    case: str
    named: str
    pattern: str


ACCURACY_FIRST = Advice("accuracy first", "ViT-Huge or CSWin", r"/vit_huge|/cswin")
EFFICIENCY_FIRST = Advice("efficiency first", "MobileViT or EfficientFormer", r"/mobilevit|/efficientformer")
NEITHER_FIRST = Advice("accuracy within a budget", "Swin-Base", r"/swin_base")
PHONE = Advice("a phone", "EfficientNet", r"/(?:tf_)?efficientnet")
SERVER = Advice("a server", "a Transformer", r" Transformer$")
REAL_TIME = Advice("real time, under 50 ms", "MobileViT", r"/mobilevit")
FEW_PHOTOGRAPHS = Advice("few photographs", "a hybrid", r" hybrid$")
LARGE_IMAGES = Advice("images of 1024 pixels and more", "Swin Transformer", r"/swin")


def cases(
    first: str, limited: bool, device: str | None, few: bool, latency_ms: float | None, resolution: int | None
) -> list[Advice]:
    """The cases that a question falls under: its path through the articles' decision trees.

    Args:
        first: what the order goes by.
        limited: whether a cost has a limit.
        few: whether there are few photographs to fine-tune on.
    """
    efficient = first != "accuracy" or device == "phone"
    path = [EFFICIENCY_FIRST if efficient else NEITHER_FIRST if limited else ACCURACY_FIRST]
    asked = {
        PHONE: device == "phone",
        SERVER: device == "server",
        REAL_TIME: latency_ms is not None and latency_ms <= 50,
        FEW_PHOTOGRAPHS: few,
        LARGE_IMAGES: resolution is not None and resolution >= 1024,
    }
    return path + [advice for advice, holds in asked.items() if holds]


def compared(advice: Advice, rows: pd.DataFrame, kept: pd.DataFrame) -> str:
    """How the best of the architectures that are advised stands to the answer.

    Args:
        rows: all rows, before any limit.
        kept: those that keep to the limits, the best first.
    """
    told = f"{advice.case}: articles advise {advice.named}"
    if not _named(advice, rows).any():
        return f"{told}; no row is one of them."
    inside = kept[_named(advice, kept)]
    if inside.empty:
        return f"{told}; none of their {_named(advice, rows).sum()} rows keeps to the limits."
    place = kept.index.get_loc(inside.index[0]) + 1
    if place == 1:
        return f"{told}; so is the answer."
    best, answer = inside.iloc[0], kept.iloc[0]
    points = 100 * (best["accuracy"] - answer["accuracy"])
    times = best["gmacs"] / answer["gmacs"]
    operations = "" if isnan(times) else f" and {times:.2g} times the operations"
    return f"{told}; their best, {best['model']}, is number {place} of {len(kept)}: {points:+.1f} points{operations}."


def for_few(rows: pd.DataFrame, photographs: int, more_data: bool) -> tuple[pd.Series, str]:
    """Which rows suit few photographs of one's own, and why in words."""
    few = f"few photographs to learn from ({photographs:,}; below {FEW:,})"
    if more_data:
        pairs = gains_of_more_data(rows)
        measured = (
            f"; on ImageNet-1k itself {pairs.median():+.1f} points, the middle of {len(pairs)} architectures here"
        )
        return rows["more_data"].astype(bool), (
            f"{few}: trained on more than ImageNet-1k, which then transfers better (Kolesnikov et al. 2019, "
            f"arXiv 1912.11370){measured if len(pairs) else ''}"
        )
    return rows["family"].isin(["CNN", "hybrid"]), (
        f"{few} and no larger collection before: with convolutions, whose bias helps small sets "
        f"(Dosovitskiy et al. 2020, arXiv 2010.11929, section 4.3)"
    )


def gains_of_more_data(rows: pd.DataFrame) -> pd.Series:
    """Points of accuracy between the best checkpoints of an architecture with and without more photographs."""
    architecture = rows["model"].str.partition(".")[0]
    best = rows.groupby([architecture, "accuracy_px", rows["more_data"].astype(bool)])["accuracy"].max().unstack()
    return 100 * (best[True] - best[False]).dropna() if {True, False} <= set(best) else pd.Series(dtype=float)


def _named(advice: Advice, rows: pd.DataFrame) -> pd.Series:
    return (rows["model"] + " " + rows["family"]).str.contains(advice.pattern)
