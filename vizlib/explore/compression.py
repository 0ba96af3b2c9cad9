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
from vizlib.measure.cost import ratios
from vizlib.measure.flops import count
from vizlib.measure.head_importance import head_importance, least, without_heads
from vizlib.measure.moved import moved
from vizlib.methods.table import explain
from vizlib.models.accuracy import wilson
from vizlib.models.architectures.evit import dropping
from vizlib.models.compress import half, int8, int8_kernels, pruned, stored, trained_int8
from vizlib.models.load import load
from vizlib.show.files import save
from vizlib.show.plot import grid
from vizlib.types import Classifier, Heatmap

METHODS = ("rollout", "gradcam")
MEMBERS = ("zoo/vit", "zoo/seresnet", "zoo/hybrid")
WHOLE = "as it is"

# what is compressed, the photographs (n, c, h, w) to fix ranges on -> the smaller classifier
Way = Callable[[Classifier, Tensor], Classifier]


def heads_less(clf: Classifier, seen: Tensor, share: float = 0.25, by: str = "importance") -> Classifier:
    """Without the heads of the lowest `importance` or `mean_score`, see `measure.head_importance`."""
    return without_heads(clf, least(head_importance(clf, seen), share, by))


WAYS: dict[str, Way] = {
    "float16": lambda clf, _: half(clf, torch.float16),
    "bfloat16": lambda clf, _: half(clf),
    "INT8 dynamic, kernels": lambda clf, _: int8_kernels(clf),
    "INT8 dynamic": lambda clf, _: int8(clf),
    "INT8 static": int8,
    "INT8 trained": trained_int8,
    "30 % of weights pruned": lambda clf, _: pruned(clf, 0.3),
    "60 % of weights pruned": lambda clf, _: pruned(clf, 0.6),
    "25 % of heads, by gradient": heads_less,
    "25 % of heads, by mean score": partial(heads_less, by="mean_score"),
    "70 % of tokens kept": lambda clf, _: dropping(clf, 0.7),
}


@dataclass(frozen=True, eq=False)
class Compression:
    """A classifier compressed in several ways.

    Attributes:
        table: a row per way, see `compressed`.
        maps: by way and method, the map of the photographs or the reason why there is none.
        reasons: ways that this classifier cannot be compressed by, and why.
    """

    table: pd.DataFrame
    maps: dict[str, dict[str, Heatmap | str]] = field(repr=False)
    reasons: dict[str, str] = field(default_factory=dict)

    def figure(self, photo: int = 0, ways: Sequence[str] = ()) -> Figure:
        """The maps before, and after each way, a row each.

        Args:
            photo: which of the photographs that maps were made of.
            ways: rows besides the first; default: all.
        """
        chosen = {way: self.maps[way] for way in (WHOLE, *(ways or [w for w in self.maps if w != WHOLE]))}
        names = list(next(iter(chosen.values())))
        axes = grid([list(cells.values()) for cells in chosen.values()], photo, rows=list(chosen), columns=names)
        figure: Figure = axes[0, 0].figure
        return figure

    def save(self, path: str | Path, photo: int = 0) -> Path:
        """Write the maps of a photograph (.png, .pdf, .svg) or the table (.csv) to one file.

        Raises:
            ValueError: another ending.
        """
        return save(path, figure=partial(self.figure, photo), table=self.table)

    def __str__(self) -> str:
        left_out = "".join(f"\n{way}: {reason}" for way, reason in self.reasons.items())
        return self.table.round(3).to_string(index=False) + left_out

    def _repr_html_(self) -> str:
        html: str = self.table.round(3).to_html(index=False, na_rep="–")
        return html + "".join(f"<p>{way}: {reason}</p>" for way, reason in self.reasons.items())


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
            with the uncompressed model on sample photographs and rendered pictures.
        photos: to make maps of; default: the sample photographs that come with vizlib.
        seen: photographs that fix ranges, choose heads and train; default: the sample photographs and rendered
            pictures. Never those of `data`.
        ways: some of WAYS, or ways of your own by name: (classifier, tensor of `seen`) -> classifier.
        rounds: of the latency, each way once in each.
        most: photographs of `data`, evenly spread.

    Returns:
        Compression with a table of `way`, `accuracy` with its 95 % interval `low` and `high`, `agreement` (share of the
        photographs with the prediction of the uncompressed model), `stored_mb` and `packed_mb` (10⁶ bytes, before and
        after zlib), `gmacs`, `latency_ratio` (to the uncompressed model, one image, with `p10` and `p90`), and for each
        map method `…_rank` (Spearman) and `…_top` (overlap of the strongest fifth) with the map before, for the class
        that the uncompressed model predicts, mean over `photos`. NaN: no such map, see `.maps`; or products of
        integers, which are not counted and are as many as before.

    Raises:
        ValueError: an unknown way, or labels that the model does not have.
    """
    chosen = ways if isinstance(ways, dict) else {way: _known(way) for way in ways}
    seen_x = clf.prepare(_mixed(64) if seen is None else seen)
    x, labels = _labelled(clf, data, most)
    images = clf.prepare([samples.photo(name) for name in samples.photos()] if photos is None else photos)
    made, reasons = {WHOLE: clf}, {}
    for name, way in _bar(chosen.items(), "compress"):
        try:
            made[name] = way(clf, seen_x)
        except (ValueError, RuntimeError) as error:  # does not apply to this classifier, or an extra is missing
            reasons[name] = str(error)
    target = clf(images).argmax(1)
    maps = {name: _maps(smaller, images, target) for name, smaller in _bar(made.items(), "maps")}
    logits = {name: _logits(smaller, x) for name, smaller in _bar(made.items(), "accuracy")}
    times = ratios(list(made.values()), rounds=rounds)
    rows = [
        {"way": name}
        | _right(logits[name], logits[WHOLE], labels)
        | _size(smaller)
        | {"latency_ratio": times["ratio"][i], "p10": times["p10"][i], "p90": times["p90"][i]}
        | _shifts(maps[WHOLE], maps[name])
        for i, (name, smaller) in enumerate(made.items())
    ]
    return Compression(pd.DataFrame(rows), maps, reasons)


def _bar(items: Collection[Any], what: str) -> Iterable[Any]:
    """A bar on a terminal, after a second of work."""
    bar: Iterable[Any] = tqdm(items, desc=what, disable=None, delay=1, leave=False)
    return bar


def _known(way: str) -> Way:
    if way not in WAYS:
        raise ValueError(f"a way to compress is needed; got {way!r}. Take one of: {'; '.join(WAYS)}.")
    return WAYS[way]


def _mixed(rendered: int) -> list[Any]:
    """The sample photographs, and rendered pictures."""
    return [*(samples.photo(name) for name in samples.photos()), *samples.shortcuts(rendered).images]


def _labelled(clf: Classifier, data: Any, most: int) -> tuple[Tensor, Tensor | None]:
    """Photographs (n, c, h, w) and their classes (n,), None where there are no labels."""
    if data is None:
        return clf.prepare(_mixed(200)), None
    source = source_of(validation(data))
    rows = np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(int)
    read = [source.read(int(row)) for row in rows]  # preprocessed ones are tensors (c, h, w)
    x = torch.cat([clf.prepare(photo[None] if isinstance(photo, Tensor) else photo) for photo in read])
    index = classes_of(clf, source, clf(x[:1]).shape[1], None)
    return x, torch.as_tensor(index[source.labels[rows]]).long()


def _logits(clf: Classifier, x: Tensor, batch: int = 64) -> Tensor:
    return torch.cat([clf(part).float().cpu() for part in x.split(batch)])


def _maps(clf: Classifier, x: Tensor, target: Tensor) -> dict[str, Heatmap | str]:
    found: dict[str, Heatmap | str] = {}
    for method in METHODS:
        try:
            found[method] = explain(clf, x, method, target=target)  # type: ignore[assignment]
        except RuntimeError as error:
            found[method] = _why_not(clf, error)
    return found


def _why_not(clf: Classifier, error: RuntimeError) -> str:
    if clf.name.endswith("INT8 kernels"):
        return "Products of integers have no derivative, which finding the places needs; see INT8 dynamic."
    return str(error)


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
        "gmacs": np.nan if _integers(clf) else count(clf).total / 2e9,
    }


def _integers(clf: Classifier) -> bool:
    """Whether weights are tensors of another kind, whose products the counter does not see."""
    return any(type(p.data) is not Tensor for p in clf.module.parameters())


def _shifts(before: dict[str, Heatmap | str], after: dict[str, Heatmap | str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for method, map_before in before.items():
        map_after = after[method]
        rank = top = np.nan
        if isinstance(map_before, Heatmap) and isinstance(map_after, Heatmap):
            rank, top = (float(v.mean()) for v in moved(map_before, map_after))
        found |= {f"{method}_rank": rank, f"{method}_top": top}
    return found


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
