"""Accuracy against cost for the browser: what tradeoff.js draws, and one HTML file that needs no network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vizlib.measure.checkpoints import COSTS
from vizlib.show.assets import asset, page
from vizlib.show.labels import unique
from vizlib.show.scatter import FAMILIES, OTHER

TEXTS = ("model", "short", "family", "dataset", "source")
NUMBERS = ("accuracy", "low", "high", "accuracy_px", "image_px", *COSTS, "attention_share")
LEGEND = (
    "Filled: trained on this data set alone; hollow: on more photographs. Lines: the Pareto front of the filled marks "
    "(solid) and of all (dashed). Bars: 95 % intervals, where photographs were counted here."
)


UNMEASURED = "this cost was not measured here; name models that are to be measured"


def tradeoff_state(table: pd.DataFrame, cost: str, hint: str) -> dict[str, Any]:
    """What the browser needs, as JSON can hold it.

    Args:
        table: columns as `measure.checkpoints.measured` gives.
        cost: what is drawn first.
        hint: what stands where the details will be.
    """
    known = table.dropna(subset=["accuracy"]).copy()
    known["attention_share"] = known["attention_gmacs"] / known["gmacs"]
    drawn = [name for name in COSTS if known[name].notna().any()]
    known["short"] = known.groupby("dataset")["model"].transform(lambda models: unique(list(models)))
    rows = [_row(row) for row in known.to_dict("records")]
    return {
        "rows": rows,
        "datasets": list(dict.fromkeys(row["dataset"] for row in rows)),
        "present": sorted(known["family"].unique(), key=[*FAMILIES, *known["family"]].index),
        "families": FAMILIES | {"other": OTHER},
        "costs": {name: COSTS[name] for name in drawn},
        "cost": cost,
        "unmeasured": UNMEASURED,
        "legend": LEGEND,
        "hint": hint,
    }


def tradeoff_page(table: pd.DataFrame, cost: str) -> str:
    """One self-contained HTML file."""
    return page(
        "What accuracy costs",
        about=asset("tradeoff.html"),
        main=f'<div data-plots></div>\n<h2>All numbers</h2>\n<div class="vl-scroll">{html_table(table)}</div>',
        styles=("maps.css", "tradeoff.css"),
        script="tradeoff.js",
        mount="mountTradeoff",
        state=tradeoff_state(table, cost, "Click a mark for its numbers, their source and a line of code."),
    )


def html_table(table: pd.DataFrame) -> str:
    """All rows, the most accurate of each data set first."""
    known = [name for name in ("accuracy_px", "image_px", *COSTS) if table[name].notna().any()]
    shown = ["dataset", "model", "family", "accuracy", *known]
    formats = {"accuracy": "{:.2%}".format, "params": "{:,.0f}".format, "accuracy_px": "{:.0f}".format}
    ordered = table.sort_values(["dataset", "accuracy"], ascending=[True, False])[shown]
    return str(
        ordered.to_html(
            index=False, border=0, classes="vl-table", formatters=formats, float_format="{:.4g}".format, na_rep="–"
        )
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers that are not known are null."""
    numbers = {name: float(row.get(name, np.nan)) for name in NUMBERS}
    return {
        "more_data": bool(row["more_data"]),
        **{name: str(row[name]) for name in TEXTS},
        **{name: None if np.isnan(value) else value for name, value in numbers.items()},
    }
