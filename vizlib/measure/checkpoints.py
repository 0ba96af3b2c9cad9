"""Tables of classifiers: accuracy beside cost, one row each, the material of `tradeoff` and `choose`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

from vizlib.capture.summary import family
from vizlib.measure.cost import ratios
from vizlib.measure.costs import cost_from_shapes
from vizlib.models import zoo
from vizlib.models.load import load
from vizlib.models.zoo_architectures import IMAGE_SIZE
from vizlib.types import Classifier

COSTS = {
    "gmacs": "multiply-accumulates of one image (10⁹)",
    "params": "parameters",
    "memory_mb": "memory of one forward (10⁶ bytes)",
    "latency_ms": "latency of one image (ms)",
}
IMAGENET = "ImageNet-1k, validation"
UNKNOWN = "unknown"
ACCURACY = ("family", "dataset", "accuracy", "accuracy_px", "more_data", "source")
ZOO = "twenty classes of Tiny-ImageNet, validation"
# Tags of timm that name a larger collection of photographs before ImageNet-1k.
_MORE_DATA = re.compile(r"in2[12]k|in12k|jft|laion|openai|m38m|yfcc|ig1b|swag")


def published() -> pd.DataFrame:
    """Published ImageNet-1k accuracies of timm's checkpoints, with costs measured here from shapes.

    Returns:
        A row per checkpoint and image size: `model` ("timm/NAME.TAG"), `family`, `dataset`, `accuracy` (top-1 in
        [0, 1]), `accuracy_px` (side of the images it was measured on), `more_data` (trained on more than
        ImageNet-1k), `source` of the accuracy; `image_px`, `params`, `gmacs`, `attention_gmacs`, `memory_mb`
        at this size; `latency_ms` NaN, since it belongs to a machine.

    Source: data/imagenet_top1.csv and data/costs.csv; see data/README.md.
    """
    accuracies, costs = _table("imagenet_top1.csv"), _table("costs.csv")
    accuracies["architecture"] = accuracies["model"].str.partition(".")[0]
    joined = accuracies.merge(costs, on="architecture", validate="many_to_many")
    joined = joined[joined["image_px"] >= joined["input_px"]].reset_index(drop=True)
    return pd.DataFrame(
        {
            "model": "timm/" + joined["model"],
            "family": joined["family"],
            "dataset": IMAGENET,
            "accuracy": joined["top1_percent"] / 100,
            "accuracy_px": joined["input_px"],
            "more_data": joined["model"].str.contains(_MORE_DATA),
            "image_px": joined["image_px"],
            "params": joined["params"],
            "gmacs": joined["gmacs"],
            "attention_gmacs": joined["attention_gmacs"],
            "memory_mb": joined["memory_mb"],
            "latency_ms": np.nan,
            "source": joined["source"],
        }
    )


def trained_zoo(*, latency: bool = False) -> pd.DataFrame:
    """The zoo's trained members: accuracies from their cards, costs measured now; columns as in `measured`."""
    return measured([f"zoo/{name}" for name in zoo.trained()], latency=latency)


def measured(models: Iterable[str | Classifier], *, latency: bool = False) -> pd.DataFrame:
    """A row per model, its costs measured now.

    A name is built with random weights (the zoo's come along): they make no difference to what it costs. Its
    accuracy is the zoo's or the published one of the checkpoint, NaN where neither is known.

    Args:
        latency: also run the models in turns, one image at a time, for `latency_ms`: the median of 20 runs.

    Returns:
        Columns as in `published`, and `low` and `high`, the accuracy's bounds at 95 % where photographs were
        counted here.
    """
    classifiers = [m if isinstance(m, Classifier) else _untrained(m) for m in models]
    known = published().query("image_px == accuracy_px").set_index("model")
    rows = [_accuracy(clf, known) | cost_from_shapes(clf) | {"latency_ms": np.nan} for clf in classifiers]
    table = pd.DataFrame(rows)
    if latency:
        table["latency_ms"] = ratios(classifiers)["latency_ms"].to_numpy()
    return table


def front(table: pd.DataFrame, cost: str = "gmacs") -> pd.DataFrame:
    """The rows that no other row beats by being at least as accurate and as cheap, and better in one of the two.

    Args:
        cost: column of the cost.

    Returns:
        Those rows, the cheapest first.

    Source: the Pareto front; Kung, Luccio, Preparata 1975, On Finding the Maxima of a Set of Vectors.
    """
    rows = table.dropna(subset=[cost, "accuracy"]).sort_values([cost, "accuracy"])
    price, good = rows[cost].to_numpy(), rows["accuracy"].to_numpy()
    no_worse = (price[:, None] <= price) & (good[:, None] >= good)
    better = (price[:, None] < price) | (good[:, None] > good)
    return rows[~(no_worse & better).any(0)]


def _accuracy(clf: Classifier, known: pd.DataFrame) -> dict[str, Any]:
    """What is known of a classifier's accuracy, and its family."""
    name = clf.name
    if name in known.index:
        row = known.loc[name]
        return {"model": name} | {column: row[column] for column in ACCURACY}
    if name.startswith("zoo/") and name.removeprefix("zoo/") in zoo.trained():
        card = zoo.card(name)
        low, high = card.top1_interval
        source = f"{card.photos} photographs, counted when it was trained"
        values = (card.family, ZOO, card.top1, IMAGE_SIZE, False, source)
        return {"model": name, "low": low, "high": high} | dict(zip(ACCURACY, values, strict=True))
    unknown: dict[str, Any] = dict.fromkeys(ACCURACY, np.nan)
    return {"model": name} | unknown | {"family": family(clf), "dataset": UNKNOWN, "more_data": False, "source": ""}


def _untrained(name: str) -> Classifier:
    return load(name) if name.startswith("zoo/") else load(name, pretrained=False)


def _table(name: str) -> pd.DataFrame:
    with files("vizlib.tables").joinpath(name).open("r", encoding="utf-8") as file:
        return pd.read_csv(file)
