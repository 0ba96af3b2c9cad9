"""Published multiply-accumulates against those counted here: data/gmacs_published.csv.

    python -m vizlib.measure.claims.gmacs data/gmacs_published.csv

reads model, size, published figure, source and reason of each row and counts the others again, from shapes.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from tqdm import tqdm

from vizlib.measure.costs import classifier_of
from vizlib.measure.flops import count
from vizlib.types import Classifier

_NORMS = {F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm}


def published() -> pd.DataFrame:
    """The table as it was stored, a row per published figure.

    Returns:
        `model` of timm, `input_px`, `published` (10⁹ multiply-accumulates), `counted` here, `off` (counted over
        published, less 1), `with_norms` (see `norm_operations`), `source`, and `why` they differ by over 2 %.
    """
    with files("vizlib.tables").joinpath("gmacs_published.csv").open("r", encoding="utf-8") as file:
        return pd.read_csv(file).fillna({"why": ""})


def readable(figures: pd.DataFrame) -> pd.DataFrame:
    """The same as it is read: published · counted here · difference · with norms · source · why, as text."""
    return pd.DataFrame(
        {
            "model": figures["model"],
            "px": figures["input_px"],
            "published": figures["published"].map("{:g}".format),
            "counted here": figures["counted"].map("{:.3f}".format),
            "difference": figures["off"].map("{:+.1%}".format),
            "with norms": figures["with_norms"].map("{:.3f}".format),
            "source": figures["source"],
            "why over 2 %": figures["why"],
        }
    )


def counted_again(figures: pd.DataFrame) -> pd.DataFrame:
    """The same rows with `counted`, `off` and `with_norms` counted now; a second or two a row."""
    rows = []
    for row in tqdm(figures.to_dict("records"), desc="GMACs", disable=None, leave=False):
        counted, norms = count_both(row["model"], row["input_px"])
        off = round(counted / row["published"] - 1, 4)
        rows.append(row | {"counted": round(counted, 4), "off": off, "with_norms": round(counted + norms, 4)})
    return pd.DataFrame(rows, columns=figures.columns)


def count_both(architecture: str, size: int) -> tuple[float, float]:
    """10⁹ multiply-accumulates of a timm architecture, and 10⁹ operations of its norms, on the meta device."""
    with torch.device("meta"):
        clf = classifier_of(architecture, size)
    return count(clf).total / 2e9, norm_operations(clf) / 1e9


def norm_operations(clf: Classifier) -> int:
    """What fvcore counts of norms and adds to the multiply-accumulates; timm's benchmark table was made with it.

    2 an element where the statistics are stored (x · scale + shift), 5 where mean and variance are computed as
    well, 4 of them without scale and shift (weights that are standardised, as in BiT's ResNets).

    Source: `batchnorm_flop_jit` and `norm_flop_counter` of fvcore.nn.jit_handles.
    """
    with torch.no_grad(), _NormOperations() as norms:
        clf.module(torch.empty(1, *clf.input_size, device=clf.device, dtype=clf.dtype))
    return norms.total


class _NormOperations(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _NORMS:
            given = signature(func).bind(*args, **kwargs).arguments
            stored = func is F.batch_norm and not given.get("training", False)
            each = (1 if stored else 4) + (given.get("weight") is not None)
            self.total += each * given["input"].numel()
        return func(*args, **kwargs)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    counted_again(pd.read_csv(file)).to_csv(file, index=False, lineterminator="\n")
