"""How often a classifier is right on a folder of labelled photographs."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vizlib.dataset.predicting import predict
from vizlib.models.accuracy import wilson
from vizlib.tiny_imagenet import tiny_imagenet20
from vizlib.types import Classifier


@dataclass(frozen=True)
class Evaluation:
    """Shares in [0, 1] over the photographs that could be read; intervals hold the true share 95 times in 100."""

    model: str
    photos: int
    unreadable: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    top5_interval: tuple[float, float]

    def __str__(self) -> str:
        broken = f", {self.unreadable} unreadable" if self.unreadable else ""
        lines = [f"{self.model}: {self.photos} photographs{broken}"]
        for name in ("top1", "top5"):
            low, high = getattr(self, f"{name}_interval")
            share = f"{100 * getattr(self, name):.1f} %"
            lines.append(f"top-{name[-1]} {share:>7}   95 % interval {100 * low:.1f} – {100 * high:.1f} %")
        return "\n".join(lines)


def evaluate(clf: Classifier, data: Any, *, out: str | os.PathLike[str] | None = None, **options: Any) -> Evaluation:
    """Measure the accuracy of any classifier on any labelled photographs.

    Args:
        data: what `predict` takes, or a folder or tar of the photo set with train/ and val/, of which val/ is taken.
        out: folder of the predictions, to go on where a run was cut short; default: they are not kept.
        options: `labels`, `batch`, `workers`, `backend`, `address` of `predict`.

    Raises:
        ValueError: no photographs, none that can be read, or labels that the model does not have.
    """
    with tempfile.TemporaryDirectory() as scratch:
        table = predict(clf, validation(data), out=Path(scratch, "run") if out is None else out, **options)
        unreadable = len(table.attrs["unreadable"])
    top1 = int(table["correct"].sum())
    top5 = sum(label in best for label, best in zip(table["label"], table["top5"], strict=True))
    n = len(table)
    return Evaluation(clf.name, n, unreadable, top1 / n, wilson(top1, n), top5 / n, wilson(top5, n))


def validation(data: Any) -> Any:
    """The validation photographs, where a place holds train/ and val/; anything else as it is."""
    if not isinstance(data, str | os.PathLike) or "://" in os.fspath(data):
        return data
    place = Path(data).expanduser()
    if place.name.endswith((".tar", ".tar.gz", ".tgz", ".zip")):
        return tiny_imagenet20(place) / "val"
    return place / "val" if (place / "train").is_dir() and (place / "val").is_dir() else data
