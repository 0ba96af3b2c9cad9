"""A classifier taught new classes, by its head alone, by low-rank changes (LoRA) or by all weights: what each way costs
and how far it moves what the classifier looks at.

    python -m vizlib.explore.adaptation data/adaptation.csv

writes the table of some members of the zoo on rendered pictures, whose objects are known to the pixel.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from vizlib import data
from vizlib.data import Shortcuts
from vizlib.explore.before_after import METHODS, WHOLE, Maps, draw, maps_of, shifts
from vizlib.measure.moved import on_object
from vizlib.models.accuracy import wilson
from vizlib.models.adapt import Adapted, How, adapt
from vizlib.models.compress import saved
from vizlib.models.load import load
from vizlib.show.files import save
from vizlib.types import Classifier, Heatmap

MEMBERS = ("zoo/vit", "zoo/hybrid", "zoo/resnet", "zoo/swin")
WAYS: dict[How, str] = {"head": "head alone", "lora": "LoRA", "full": "all weights"}


@dataclass(frozen=True, eq=False)
class Adaptation:
    """A classifier taught new classes in several ways.

    Attributes:
        table: a row per way, see `adapted`.
        classifiers: by way, the classifier of the new classes.
        maps: by way and method, the map of the held-out pictures or the reason why there is none.
        objects: (b, h, w) bool, where the object lies in these.
        reasons: ways that could not be taken, and why.
    """

    table: pd.DataFrame
    classifiers: dict[str, Classifier] = field(repr=False)
    maps: dict[str, Maps] = field(repr=False)
    objects: Tensor = field(repr=False)
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def area(self) -> float:
        """The objects' share of the pictures: `…_on_object` of a map that is the same everywhere."""
        return float(self.objects.float().mean())

    def figure(self, photo: int = 0) -> Figure:
        """A block of maps for each method, as it is and after each way, how far each moved and its share on the object.

        Raises:
            ValueError: there is no map of the classifier as it is.
        """
        return draw(self.maps, photo, self.objects)

    def save(self, path: str | Path, photo: int = 0) -> Path:
        """Write the maps of a picture (.png, .pdf, .svg) or the table (.csv) to one file.

        Raises:
            ValueError: another ending.
        """
        return save(path, figure=partial(self.figure, photo), table=self.table)

    def __str__(self) -> str:
        return "\n".join([self.table.round(3).to_string(index=False, na_rep="–"), *self._lines()])

    def _repr_html_(self) -> str:
        html: str = self.table.round(3).to_html(index=False, na_rep="–")
        return html + "".join(f"<p>{line}</p>" for line in self._lines())

    def _lines(self) -> list[str]:
        area = f"Objects cover {self.area:.1%} of the pictures, which is on_object of a map that says nothing."
        return [area, *(f"{way}: {reason}" for way, reason in self.reasons.items())]


def adapted(
    clf: Classifier,
    new: Shortcuts | None = None,
    held_out: Shortcuts | None = None,
    *,
    ways: Sequence[How] = tuple(WAYS),
    rank: int = 4,
    epochs: int = 8,
    seed: int = 0,
    shown: int = 32,
) -> Adaptation:
    """Teach copies of a classifier new classes in several ways and measure each: accuracy, cost, how far maps moved.

    Args:
        new: pictures to learn from, with `labels` and `classes`; default: 400 rendered ones, of four shapes.
        held_out: pictures to measure on, with `objects`; default: 400 rendered ones.
        ways: "head", "lora" (of `rank`), "full"; see `vizlib.models.adapt.adapt`.
        epochs, seed: of the training.
        shown: held-out pictures that maps are made of.

    Returns:
        Adaptation with a table of `way`, `accuracy` on the held-out pictures with its 95 % interval `low` and `high`,
        `trained` weights, `added_mb` (10⁶ bytes to be stored beside the old model), `seconds` of training on this
        machine, and for each map method `…_rank` and `…_top` (see `measure.moved`) to the map of the classifier as it
        is, and `…_on_object` (share of the map on the object), mean over `shown`. Maps that depend on a class are those
        of the true class; of the classifier as it is, which does not have it, those of the class that it predicts. So
        what "head alone" moves is moved by the question, and not by the features.

    Raises:
        ValueError: an unknown way, or a classifier that does not end in a linear layer.

    Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685.
    """
    new = new or data.shortcuts(400, mark="never", size=clf.input_size[-1])
    held_out = held_out or data.shortcuts(400, split="test", mark="never", size=clf.input_size[-1])
    x, labels = clf.prepare(list(held_out.images)), torch.as_tensor(held_out.labels)
    objects = _masks(clf, held_out.objects[:shown])
    few, few_labels = x[:shown], labels[:shown].to(x.device)
    maps, classifiers, reasons = {WHOLE: maps_of(clf, few, clf(few).argmax(1))}, {}, {}
    rows: list[dict[str, Any]] = [{"way": WHOLE, "trained": 0, "added_mb": 0.0, "seconds": 0.0}]
    for how in ways:
        way, start = WAYS.get(how, how), time.perf_counter()
        try:
            found = adapt(clf, new.images, list(new.labels), new.classes, how=how, rank=rank, epochs=epochs, seed=seed)
        except RuntimeError as error:  # an extra is missing
            reasons[way] = str(error)
            continue
        seconds = time.perf_counter() - start
        rows.append({"way": way} | _right(found.clf, x, labels) | _cost(found) | {"seconds": seconds})
        classifiers[way], maps[way] = found.clf, maps_of(found.clf, few, few_labels)
    for row in rows:
        after = maps[row["way"]]
        row |= shifts(maps[WHOLE], after) | {f"{m}_on_object": _share(after[m], objects) for m in METHODS}
    table = pd.DataFrame(rows)
    return Adaptation(table[[*dict.fromkeys([*rows[-1], *table])]], classifiers, maps, objects, reasons)


def _masks(clf: Classifier, objects: NDArray[np.bool_]) -> Tensor:
    """Objects (n, h, w) as the classifier sees them: white on black through its own preprocessing."""
    white = np.repeat(objects[..., None], 3, -1).astype(np.uint8) * 255
    return clf.picture(clf.prepare(list(white)))[:, 0] > 0.5


def _right(clf: Classifier, x: Tensor, labels: Tensor) -> dict[str, float]:
    said = torch.cat([clf(part).argmax(1).cpu() for part in x.split(64)])
    right = int((said == labels).sum())
    low, high = wilson(right, len(labels))
    return {"accuracy": right / len(labels), "low": low, "high": high}


def _cost(found: Adapted) -> dict[str, float]:
    return {"trained": found.trained, "added_mb": len(saved(found.added)) / 1e6}


def _share(found: Heatmap | str, objects: Tensor) -> float:
    return float(on_object(found, objects).mean()) if isinstance(found, Heatmap) else np.nan


def main(argv: list[str] | None = None) -> None:
    """Write the table of data/adaptation.csv and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV file to write")
    parser.add_argument("--models", nargs="+", default=MEMBERS, metavar="MODEL")
    parser.add_argument("--epochs", type=int, default=8, help="default: %(default)s")
    options = parser.parse_args(argv)
    tables = []
    for name in options.models:
        found = adapted(load(name, device="cpu"), epochs=options.epochs)
        print(name, found, sep="\n", end="\n\n")
        tables.append(found.table.assign(model=name, object_area=found.area, threads=torch.get_num_threads()))
        pd.concat(tables).set_index("model").to_csv(options.table, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()
