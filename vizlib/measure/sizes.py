"""What the rows of a table cost at an image size that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pandas as pd
import torch
from timm.models import split_model_name_tag

from vizlib.measure.costs import classifier_of, cost_from_shapes

Tell = Callable[[str], object]
SECONDS = 20.0  # after which no other row is counted


def at_size(table: pd.DataFrame, resolution: int, limits: dict[str, float], tell: Tell) -> pd.DataFrame:
    """One row per model, with its costs where an image is seen at `resolution` or, if that is larger, `accuracy_px`.

    The table knows costs at some sizes. At a size between two of them a row has the costs of the next larger one;
    where these break a limit and those of the next smaller one do not, they are counted at the size itself, the most
    accurate first, for `SECONDS`.

    Args:
        table: a row per model and size, as `checkpoints.published` gives.
        limits: least accuracy, most of each cost.
        tell: called with a line about each row that is counted.

    Returns:
        Rows of the table, `image_px` the size that their costs are for; without the models that have no size as large.
    """
    found, end = [], time.monotonic() + SECONDS
    for _, rows in table.sort_values("accuracy", ascending=False, kind="stable").groupby("model", sort=False):
        asked = max(resolution, rows["accuracy_px"].iloc[0])
        larger, smaller = rows[rows["image_px"] >= asked], rows[rows["image_px"] < asked]
        if larger.empty:
            continue
        row = larger.loc[larger["image_px"].idxmin()]
        between = row["image_px"] > asked and not smaller.empty and not _keeps(row, limits)
        if between and _keeps(smaller.loc[smaller["image_px"].idxmax()], limits) and time.monotonic() < end:
            row = _counted(row, int(asked), tell)
        found.append(row)
    return pd.DataFrame(found, columns=table.columns).astype(table.dtypes)


def _keeps(row: pd.Series, limits: dict[str, float]) -> bool:
    return all(row[name] >= limit if name == "accuracy" else row[name] <= limit for name, limit in limits.items())


def _counted(row: pd.Series, size: int, tell: Tell) -> pd.Series:
    """The row with costs counted at this size; as it is, where the model is none of timm's or cannot take the size."""
    source, _, name = row["model"].partition("/")
    if source != "timm":
        return row
    tell(f"counting {row['model']} at {size} pixels")
    costs = _costs(split_model_name_tag(name)[0], size)
    return pd.Series({**row, **costs}, name=row.name) if costs else row


@cache
def _costs(architecture: str, size: int) -> dict[str, Any] | None:
    """Costs from shapes; None for a size that an architecture cannot take."""
    try:
        with torch.device("meta"):
            return cost_from_shapes(classifier_of(architecture, size))
    except (RuntimeError, ValueError, TypeError, AssertionError):
        return None
