"""What compression costs, and what it does to what a classifier looks at.

    python -m vizlib.explore.compression PHOTOS data/compression.csv

writes the table of some members of the zoo on the validation photographs of the photo set.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from vizlib import data as samples
from vizlib.dataset.evaluating import validation
from vizlib.dataset.labels import classes_of
from vizlib.dataset.sources import source_of
from vizlib.explore.before_after import WHOLE, Maps, draw, maps_of, no_derivative, shifts
from vizlib.measure.cost import ratios
from vizlib.measure.flops import count
from vizlib.measure.head_importance import head_importance, least, without_heads
from vizlib.models.accuracy import wilson
from vizlib.models.architectures.evit import dropping
from vizlib.models.compress import half, int8, int8_kernels, pruned, rounds_in_float, stored, taught, trained_int8
from vizlib.models.export import in_onnx, int8_onnx
from vizlib.models.load import load
from vizlib.show.files import save
from vizlib.types import Classifier, Heatmap

MEMBERS = ("zoo/resnet", "zoo/seresnet", "zoo/vit", "zoo/swin", "zoo/hybrid")
FIXING, MEASURED = samples.photos()[::2], samples.photos()[1::2]  # so that no photograph does both
TIMES = ("latency_ratio", "p10", "p90")
NO_TIME = "No latency: rounds to INT8, but multiplies in float; kernels and ONNX Runtime multiply integers."

# what is compressed, the photographs (n, c, h, w) to fix ranges on -> the smaller classifier
Way = Callable[[Classifier, Tensor], Classifier]


def heads_less(clf: Classifier, seen: Tensor, share: float = 0.25, by: str = "importance") -> Classifier:
    """Without the heads of the lowest `importance` or `mean_score`, see `measure.head_importance`."""
    return without_heads(clf, least(head_importance(clf, seen), share, by))


def tokens_less(clf: Classifier, seen: Tensor, share: float = 0.7, trained: bool = False) -> Classifier:
    """Patches dropped by EViT's rule from a network that was trained with all of them; or then trained a little.

    DynamicViT drops them by a network of its own, which is nothing before it is trained with the rest:
    `vl.load("arch/dynamic_vit…")`.
    """
    small = dropping(clf, share)
    return taught(small, clf, seen) if trained else small


WAYS: dict[str, Way] = {
    "float16": lambda clf, _: half(clf, torch.float16),
    "bfloat16": lambda clf, _: half(clf),
    "INT8 dynamic": lambda clf, _: int8(clf),
    "INT8 dynamic, kernels": lambda clf, _: int8_kernels(clf),
    "INT8 static": int8,
    "INT8 static, kernels": int8_kernels,
    "INT8 trained": trained_int8,
    "float32, ONNX Runtime": lambda clf, _: in_onnx(clf),
    "INT8 static, ONNX Runtime": int8_onnx,
    "30 % of weights pruned": lambda clf, _: pruned(clf, 0.3),
    "60 % of weights pruned": lambda clf, _: pruned(clf, 0.6),
    "25 % of heads, by gradient": heads_less,
    "25 % of heads, by mean score": partial(heads_less, by="mean_score"),
    "70 % of tokens kept, EViT untrained": tokens_less,
    "70 % of tokens kept, EViT trained": partial(tokens_less, trained=True),
}


@dataclass(frozen=True, eq=False)
class Compression:
    """A classifier compressed in several ways.

    Attributes:
        table: a row per way, see `compressed`.
        maps: by way and method, the map of the photographs or the reason why there is none.
        reasons: ways that this classifier cannot be compressed by, and why; parts of a row that are left out, and why.
    """

    table: pd.DataFrame
    maps: dict[str, Maps] = field(repr=False)
    reasons: dict[str, str] = field(default_factory=dict)

    def figure(self, photo: int = 0, ways: Sequence[str] = ()) -> Figure:
        """A block of maps for each method, as it is and after each way, with how far each has moved.

        Args:
            photo: which of the photographs that maps were made of.
            ways: besides the classifier as it is; default: those that maps can be made of.

        Raises:
            ValueError: there is no map of the classifier as it is.
        """
        drawn = [way for way, maps in self.maps.items() if any(isinstance(cell, Heatmap) for cell in maps.values())]
        return draw({way: self.maps[way] for way in dict.fromkeys((WHOLE, *(ways or drawn)))}, photo)

    def save(self, path: str | Path, photo: int = 0) -> Path:
        """Write the maps of a photograph (.png, .pdf, .svg) or the table (.csv) to one file.

        Raises:
            ValueError: another ending.
        """
        return save(path, figure=partial(self.figure, photo), table=self.table)

    def __str__(self) -> str:
        left_out = "".join(f"\n{'; '.join(ways)}: {reason}" for reason, ways in self._by_reason().items())
        return self.table.round(3).to_string(index=False, na_rep="–") + left_out

    def _repr_html_(self) -> str:
        html: str = self.table.round(3).to_html(index=False, na_rep="–")
        return html + "".join(f"<p>{'; '.join(ways)}: {reason}</p>" for reason, ways in self._by_reason().items())

    def _by_reason(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for way, reason in self.reasons.items():
            found.setdefault(reason, []).append(way)
        return found


def compressed(
    clf: Classifier,
    data: Any = None,
    *,
    photos: Any = None,
    seen: Any = None,
    ways: Sequence[str] | dict[str, Way] = tuple(WAYS),
    rounds: int = 20,
    most: int = 1000,
) -> Compression:
    """Compress a classifier in several ways and measure each: accuracy, size, cost, and how far its maps moved.

    Args:
        data: labelled photographs as `vl.dataset.evaluate` takes them. None: accuracy is left out, and agreement is
            with the uncompressed model on every second sample photograph and rendered pictures.
        photos: to make maps of; default: these sample photographs, first those that the model is right about.
        seen: photographs that fix ranges, choose heads and train; default: the other sample photographs, and other
            rendered pictures. Never those of `data`.
        ways: some of WAYS, or ways of your own by name: (classifier, tensor of `seen`) -> classifier.
        rounds: of the latency, each way once in each.
        most: photographs of `data`, evenly spread.

    Returns:
        Compression with a table of `way`, `accuracy` with its 95 % interval `low` and `high`, `agreement` (share of the
        photographs with the prediction of the uncompressed model), `stored_mb` and `packed_mb` (10⁶ bytes, before and
        after zlib), `gmacs`, `latency_ratio` (to the uncompressed model, one image, with `p10` and `p90`), and for each
        map method `…_rank` (Spearman) and `…_top` (overlap of the strongest fifth) with the map before, for the class
        that the uncompressed model predicts, mean over `photos`. NaN: no such map or time, see `.reasons`; or products
        that are not counted (of integers, in ONNX Runtime) and are as many as before.

    Raises:
        ValueError: an unknown way, or labels that the model does not have.
    """
    chosen = ways if isinstance(ways, dict) else {way: _known(way) for way in ways}
    seen_x = ranges_from(clf, seen)
    x, labels = measured_on(clf, data, most)
    images = clf.prepare(_right_first(clf) if photos is None else photos)
    made, reasons = {WHOLE: clf}, {}
    for name, way in _bar(chosen.items(), "compress"):
        try:
            made[name] = way(clf, seen_x)
        except (ValueError, RuntimeError) as error:  # does not apply to this classifier, or an extra is missing
            reasons[name] = str(error)
    target = clf(images).argmax(1)
    maps = {name: maps_of(smaller, images, target) for name, smaller in _bar(made.items(), "maps")}
    logits = {name: _logits(smaller, x) for name, smaller in _bar(made.items(), "accuracy")}
    times = _times({name: smaller for name, smaller in made.items() if not rounds_in_float(smaller)}, rounds)
    rows: list[dict[str, Any]] = [
        {"way": name}
        | _right(logits[name], logits[WHOLE], labels)
        | _size(smaller)
        | times.get(name, dict.fromkeys(TIMES, np.nan))
        | shifts(maps[WHOLE], maps[name])
        for name, smaller in made.items()
    ]
    left_out = {name: NO_TIME if rounds_in_float(smaller) else no_derivative(smaller) for name, smaller in made.items()}
    return Compression(pd.DataFrame(rows), maps, reasons | {way: why for way, why in left_out.items() if why})


def _bar(items: Collection[Any], what: str) -> Iterable[Any]:
    """A bar on a terminal, after a second of work."""
    bar: Iterable[Any] = tqdm(items, desc=what, disable=None, delay=1, leave=False)
    return bar


def _known(way: str) -> Way:
    if way not in WAYS:
        raise ValueError(f"a way to compress is needed; got {way!r}. Take one of: {'; '.join(WAYS)}.")
    return WAYS[way]


def _mixed(names: Sequence[str], rendered: int, seed: int = 0) -> list[Any]:
    """Sample photographs, and rendered pictures."""
    return [*(samples.photo(name) for name in names), *samples.shortcuts(rendered, seed).images]


def _right_first(clf: Classifier) -> list[Any]:
    """The sample photographs that nothing was fixed on, first those whose subject the classifier names."""
    photos = [samples.photo(name) for name in MEASURED]
    said = [clf.label(int(index)) for index in clf(clf.prepare(photos)).argmax(1)]
    right = [label in samples.subject(name) for name, label in zip(MEASURED, said, strict=True)]
    return [photo for _, photo in sorted(zip(right, photos, strict=True), key=lambda pair: not pair[0])]


def ranges_from(clf: Classifier, seen: Any) -> Tensor:
    """Photographs (n, c, h, w) that fix ranges, choose heads and train; default: samples and rendered ones."""
    return clf.prepare(_mixed(FIXING, 64, seed=1) if seen is None else seen)


def measured_on(clf: Classifier, data: Any, most: int) -> tuple[Tensor, Tensor | None]:
    """Photographs (n, c, h, w) and their classes (n,); without data others than those of `ranges_from`, and None."""
    if data is None:
        return clf.prepare(_mixed(MEASURED, 200)), None
    source = source_of(validation(data))
    rows = np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int)
    read = [source.read(int(row)) for row in rows]  # preprocessed ones are tensors (c, h, w)
    x = torch.cat([clf.prepare(photo[None] if isinstance(photo, Tensor) else photo) for photo in read])
    index = classes_of(clf, source, clf(x[:1]).shape[1], None)
    return x, torch.as_tensor(index[source.labels[rows]]).long()


def _logits(clf: Classifier, x: Tensor, batch: int = 64) -> Tensor:
    return torch.cat([clf(part).float().cpu() for part in x.split(batch)])


def _times(made: dict[str, Classifier], rounds: int) -> dict[str, dict[str, float]]:
    """By way, the latency as a ratio to that of the first."""
    found = ratios(list(made.values()), rounds=rounds)[["ratio", "p10", "p90"]].to_numpy()
    return {name: dict(zip(TIMES, row.tolist(), strict=True)) for name, row in zip(made, found, strict=True)}


def _right(logits: Tensor, whole: Tensor, labels: Tensor | None) -> dict[str, float]:
    said = logits.argmax(1)
    found = {"agreement": float((said == whole.argmax(1)).double().mean())}
    if labels is None:
        return found
    right = int((said == labels).sum())
    low, high = wilson(right, len(labels))
    return {"accuracy": right / len(labels), "low": low, "high": high, **found}


def _size(clf: Classifier) -> dict[str, float]:
    file = stored(clf)
    return {
        "stored_mb": len(file) / 1e6,
        "packed_mb": len(zlib.compress(file, 6)) / 1e6,
        "gmacs": np.nan if no_derivative(clf) else count(clf).total / 2e9,
    }


def main(argv: list[str] | None = None) -> None:
    """Write the table of data/compression.csv and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with train/CLASS/ and val/CLASS/")
    parser.add_argument("table", type=Path, help="CSV file to write")
    parser.add_argument("--most", type=int, default=1000, help="photographs to measure on; default: %(default)s")
    parser.add_argument("--models", nargs="+", default=MEMBERS, metavar="MODEL")
    options = parser.parse_args(argv)
    tables = []
    for name in options.models:
        clf = load(name, device="cpu")
        found = compressed(clf, options.photos, seen=_training(options.photos), most=options.most)
        print(name, found, sep="\n", end="\n\n")
        tables.append(found.table.assign(model=name, photos=options.most))
        pd.concat(tables).set_index("model").to_csv(options.table, float_format="%.4g", lineterminator="\n")


def _training(folder: Path, number: int = 200) -> list[Any]:
    """Photographs of train/, evenly spread over the classes."""
    source = source_of(folder / "train")
    return [source.read(int(row)) for row in np.linspace(0, len(source) - 1, number).astype(int)]


if __name__ == "__main__":
    main()
