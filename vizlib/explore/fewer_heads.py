"""How many attention heads a classifier can miss, chosen by importance, by mean score and by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vizlib.capture.trace import ablate
from vizlib.explore.compression import measured_on, ranges_from
from vizlib.measure.head_importance import head_importance, least
from vizlib.models.accuracy import wilson
from vizlib.show.files import save
from vizlib.types import Classifier

RULES = ("importance", "mean_score")
SHARES = (0.125, 0.25, 0.375, 0.5, 0.75)


@dataclass(frozen=True, eq=False)
class FewerHeads:
    """What is left without some of a classifier's heads.

    Attributes:
        table: a row per rule and share of heads (per seed for "random"): `rule`, `seed`, `share`, `heads` (how many are
            silenced), and `measure` with its 95 % interval `low` and `high`.
        measure: "accuracy", or "agreement" with the whole classifier where there are no labels.
        whole: that of the whole classifier.
    """

    table: pd.DataFrame = field(repr=False)
    measure: str
    whole: float

    def figure(self) -> Figure:
        """A curve for each rule, and the span of the random choices as a band."""
        figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
        for rule, colour in zip(RULES, ("tab:blue", "tab:red"), strict=True):
            rows = self.table[self.table["rule"] == rule]
            ax.plot(100 * rows["share"], rows[self.measure], "o-", color=colour, label=f"by {rule.replace('_', ' ')}")
        by_share = self.table[self.table["rule"] == "random"].groupby("share")[self.measure]
        low, middle, high = by_share.min(), by_share.mean(), by_share.max()
        ax.fill_between(100 * low.index, low, high, color="0.8", label="random, least to greatest")
        ax.plot(100 * middle.index, middle, color="0.45", ls="--", label="random, mean")
        ax.axhline(self.whole, color="0.2", lw=0.8, ls=":", label="all heads")
        ax.set(xlabel="heads silenced (%)", ylabel=self.measure, ylim=(0, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(fontsize=8, frameon=False)
        return figure

    def save(self, path: str | Path) -> Path:
        """Write the curves (.png, .pdf, .svg) or the table (.csv) to one file.

        Raises:
            ValueError: another ending.
        """
        return save(path, figure=self.figure, table=self.table)

    def __str__(self) -> str:
        return self.table.round(3).to_string(index=False, na_rep="–")

    def _repr_html_(self) -> str:
        html: str = self.table.round(3).to_html(index=False, na_rep="–")
        return html


def fewer_heads(
    clf: Classifier,
    data: Any = None,
    *,
    seen: Any = None,
    shares: Sequence[float] = SHARES,
    seeds: int = 3,
    most: int = 200,
) -> FewerHeads:
    """Silence growing shares of the heads: least important first, lowest mean score first, and at random.

    Works for every attention that `vl.ablate` silences, windows too. A head of each operation always stays.

    Args:
        data: labelled photographs as `vl.dataset.evaluate` takes them. None: agreement is measured, as `vl.compressed`
            does.
        seen: photographs that importance and scores come from, as for `vl.compressed`. Never those of `data`.
        shares: of all heads, in (0, 1).
        seeds: random choices for each share.
        most: photographs of `data`, evenly spread.

    Raises:
        ValueError: the classifier has no spatial attention, or labels that the model does not have.

    Source: Michel, Levy, Neubig 2019, Are Sixteen Heads Really Better than One?, arXiv 1905.10650, section 4.
    """
    heads = head_importance(clf, ranges_from(clf, seen))
    x, labels = measured_on(clf, data, most)
    parts = x.split(64)
    said = [clf(part).argmax(1).cpu() for part in parts]
    wanted = said if labels is None else labels.split(64)
    right = sum(int((a == b).sum()) for a, b in zip(said, wanted, strict=True))
    measure = "agreement" if labels is None else "accuracy"
    choices = [(rule, np.nan, share, least(heads, share, rule)) for rule in RULES for share in shares]
    for draw in range(seeds):
        order = heads.assign(random=np.random.default_rng(draw).permutation(len(heads)))
        choices += [("random", draw, share, least(order, share, "random")) for share in shares]
    rows = []
    for rule, seed, share, gone in choices:
        with ablate(clf, gone):
            kept = sum(int((clf(p).argmax(1).cpu() == w).sum()) for p, w in zip(parts, wanted, strict=True))
        low, high = wilson(kept, len(x))
        number = sum(map(len, gone.values()))
        rows.append((rule, seed, share, number, kept / len(x), low, high))
    columns = ["rule", "seed", "share", "heads", measure, "low", "high"]
    return FewerHeads(pd.DataFrame(rows, columns=columns), measure, right / len(x))
