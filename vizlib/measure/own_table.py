"""A table of the user's own: what it must say, and what stands where it says nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vizlib.measure.checkpoints import COSTS, UNKNOWN

# Columns of `checkpoints.published` that a table may lack, and what stands for them then.
MISSING: dict[str, Any] = {
    "family": UNKNOWN,
    "dataset": "the data set of this table",
    "accuracy_px": np.nan,
    "image_px": np.nan,
    "more_data": False,
    "attention_gmacs": np.nan,
    "source": "a table of yours",
    **dict.fromkeys(COSTS, np.nan),
}


def completed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with all columns of `checkpoints.published`.

    Args:
        table: a row per classifier: `model`, `accuracy` in [0, 1] and a cost at least.

    Raises:
        ValueError: a column is missing, or the accuracy is not a share.
    """
    lacking = [name for name in ("model", "accuracy") if name not in table]
    if not lacking and not set(COSTS) & set(table):
        lacking = [f"a cost ({', '.join(COSTS)})"]
    if lacking:
        raise ValueError(
            f"a table needs model, accuracy and a cost; {' and '.join(lacking)} not found among its columns: "
            f"{', '.join(map(str, table.columns)) or 'none'}. Rename or add columns."
        )
    numbers = [name for name in ("accuracy", *COSTS) if name in table]
    wrong = [name for name in numbers if not pd.api.types.is_numeric_dtype(table[name])]
    if wrong:
        raise ValueError(f"{wrong[0]} needs numbers; got a column of {table[wrong[0]].dtype}. Convert it with astype.")
    if not table["accuracy"].dropna().between(0, 1).all():
        found = f"{table['accuracy'].min():g} to {table['accuracy'].max():g}"
        raise ValueError(f"accuracy needs shares in [0, 1]; got {found}. For 82 % write 0.82.")
    return table.assign(**{name: value for name, value in MISSING.items() if name not in table})
