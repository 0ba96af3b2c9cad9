"""From labelled photographs to the reason for the mistakes: a panel in a notebook, or one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import pandas as pd
import torch
import traitlets
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from vizlib import data
from vizlib.dataset.evaluating import validation
from vizlib.dataset.finding import Mistakes, mistakes
from vizlib.dataset.grouping import Neighbours
from vizlib.dataset.maps import explain as explain_rows
from vizlib.dataset.places import locate
from vizlib.dataset.predicting import predict
from vizlib.dataset.results import results_of
from vizlib.dataset.sources import Source, source_of
from vizlib.explore.rows import about as facts_of
from vizlib.explore.rows import row_of
from vizlib.methods.table import contrast, explain, method_named
from vizlib.models.load import load_all
from vizlib.show.assets import asset, module
from vizlib.show.debugging import debug_page, debug_state, pictures_once
from vizlib.show.files import writable
from vizlib.show.report import Row, Sheet, fragment, photograph
from vizlib.types import Classifier, Heatmap

THUMB = 96  # pixels of a thumbnail's longer side
NEAR = 6  # neighbours of a photograph
KEPT = 4096  # thumbnails in memory
REFUSALS = (ValueError, RuntimeError, OSError)


class Panel(anywidget.AnyWidget):
    """The front end in a notebook: asks for thumbnails and details."""

    _esm, _css = module("debug_widget.js"), asset("maps.css") + asset("debug.css")
    content = traitlets.Dict().tag(sync=True)

    def __init__(self, debugger: Debugger) -> None:
        super().__init__(content=debugger.state)
        self.debugger = debugger
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, message: dict[str, Any], _buffers: Any) -> None:
        about = message["about"]
        try:
            found = self.debugger.thumbs(about) if message["want"] == "thumbs" else self.debugger.detail(int(about))
        except REFUSALS as error:  # a photograph that has been moved since; the panel stays usable
            self.send({"number": message["number"], "refused": str(error)})
            return
        self.send({"number": message["number"], "found": found})


@dataclass(frozen=True, eq=False)
class Reference:
    """Photographs among which neighbours are looked for, and the first model's table of them."""

    table: pd.DataFrame
    source: Source


@dataclass(eq=False)
class Debugger:
    """Classifiers, what they got wrong, and a look at any of the photographs.

    Photographs are numbered by the lines of `table`, those of the reference behind them.

    Attributes:
        classifiers: by the names in `found.tables`.
        source: the photographs.
        method: of the maps.
        reference: where neighbours are looked for; None: among the photographs themselves.
    """

    classifiers: dict[str, Classifier]
    found: Mistakes
    source: Source
    method: str = "gradcam"
    reference: Reference | None = None
    _thumbs: dict[int, str] = field(default_factory=dict)
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The first model's table."""
        return next(iter(self.found.tables.values())).reset_index(drop=True)

    @property
    def unreadable(self) -> dict[str, str]:
        """Path -> why it could not be read."""
        found: dict[str, str] = self.table.attrs.get("unreadable", {})
        return found

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the browser is given."""
        return debug_state(self.found, {path: Path(path).name for path in self.table["path"]})

    @cached_property
    def _features(self) -> tuple[Neighbours, Neighbours] | str:
        """Of the photographs and of those among which neighbours are looked for; or why there are none."""
        try:
            own = Neighbours(self.table)
            return own, own if self.reference is None else Neighbours(self.reference.table)
        except ValueError as error:
            return str(error)

    def show(self) -> Panel:
        """The panel: confusion matrix → gallery → one photograph with every model's maps."""
        return Panel(self)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.show()._repr_mimebundle_(**options)

    def photo(self, number: int) -> Image.Image | Tensor:
        """A photograph by its number, or a preprocessed tensor (1, c, h, w)."""
        table, source, line = self.table, self.source, number
        if number >= len(table) and self.reference is not None:
            table, source, line = self.reference.table, self.reference.source, number - len(table)
        read = source.read(int(table["row"].iloc[line]))
        return read[None] if isinstance(read, Tensor) and read.is_floating_point() else data.open_photo(read)

    def thumbs(self, numbers: Sequence[int]) -> dict[int, str]:
        """Thumbnails as data URIs; the latest ones are kept."""
        for number in numbers:
            if number not in self._thumbs:
                if len(self._thumbs) >= KEPT:
                    self._thumbs.pop(next(iter(self._thumbs)))
                self._thumbs[number] = self._thumb(number)
        return {number: self._thumbs[number] for number in numbers}

    def _thumb(self, number: int) -> str:
        photo = self.photo(number)
        if isinstance(photo, Tensor):
            photo = next(iter(self.classifiers.values())).picture(photo)[0]
        else:
            photo = torch.from_numpy(np.array(photo.reduce(max(1, min(photo.size) // THUMB)))).permute(2, 0, 1) / 255
        return photograph(photo, THUMB)

    def detail(self, number: int) -> dict[str, Any]:
        """One photograph: a row per model with its likeliest classes and its maps, and the photographs near to it.

        Returns:
            `html`, every name in it escaped, and the `state` that maps.js draws.
        """
        line = self.table.iloc[number]
        columns = (f"{self.method}, for the prediction", "for the label", "prediction − label")
        photo = self.photo(number)
        rows = tuple(self._row(name, clf, photo, line) for name, clf in self.classifiers.items())
        sheet = Sheet(Path(line["path"]).name, columns, rows, f"label: {line['label']}")
        html, state = fragment([sheet])
        return {"html": html + self._near_html(number), "state": state}

    def _row(self, name: str, clf: Classifier, photo: Image.Image | Tensor, line: pd.Series) -> Row:
        if name not in self._facts:
            self._facts[name] = facts_of(clf)
        own = self.found.tables[name].set_index("path").loc[line["path"]]
        x = clf.prepare(photo)
        row = row_of(name, clf, self._facts[name], photo, x)
        cells = _cells(clf, x, self.method, int(own["prediction_index"]), int(own["label_index"]))
        verdict = "right" if own["correct"] else f"wrong: {own['prediction']}"
        return replace(row, cells=cells, note=f"{verdict}{_on_object(own)}")

    def _near_html(self, number: int) -> str:
        among = "" if self.reference is None else f" among {len(self.reference.table)} others"
        head = f"<h2>Nearest photographs{among}, to {escape(next(iter(self.classifiers)))}</h2>"
        if isinstance(self._features, str):
            return f'{head}<p class="vl-soft">None: {escape(self._features)}</p>'
        tiles = "".join(
            f'<figure><img data-thumb="{place}" alt="{escape(Path(near["path"]).name)}"><figcaption>'
            f"{_breakable(near['label'])}<br>{_breakable(_called(near))}</figcaption></figure>"
            for place, near in self.near(number).iterrows()
        )
        return f'{head}<div class="vl-near">{tiles}</div>'

    def near(self, number: int) -> pd.DataFrame:
        """The photographs nearest to one in the first model's features, nearest first; the index is their number."""
        if isinstance(self._features, str):
            return self.table.iloc[:0]
        own, others = self._features
        found = others.of(own.features[number], NEAR, without=self.table["path"].iloc[number])
        return found if others is own else found.set_index(found.index + len(self.table))

    def save(self, path: str | os.PathLike[str], *, most: int = 200) -> Path:
        """Everything as one HTML file that opens without a network.

        Args:
            most: photographs with their maps in it; those that lead the ranked lists.

        Raises:
            ValueError: another ending than .html, or a place that takes no files.
        """
        path = writable(Path(path), (".html",))
        chosen = self._chosen(most)
        bar = tqdm(chosen, desc="maps", unit="photo", disable=None, delay=1, leave=False)
        details = {number: self.detail(number) for number in bar}
        near = [place for number in chosen for place in self.near(number).index.tolist()]
        thumbs = self.thumbs(list(dict.fromkeys([*chosen, *near])))
        embedded = {"within": chosen, "thumbs": thumbs} | pictures_once(details)
        models = ", ".join(self.classifiers)
        about = (
            f"{len(self.table)} labelled photographs, {len(self.classifiers)} "
            f"classifier{'s' if len(self.classifiers) > 1 else ''}. Choose a list or a cell of the confusion matrix, "
            f"then a photograph. Maps of {len(chosen)} photographs are in this file."
        )
        page = debug_page(self.found, self.state | embedded, f"Mistakes of {models}", about)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
        return path

    def _chosen(self, most: int) -> list[int]:
        """From the ranked lists in turn, the most telling first; then those that no list holds."""
        lists = [entry["items"] for entry in self.state["lists"]]
        depth = max(map(len, lists), default=0)
        ranked = [items[i] for i in range(depth) for items in lists if i < len(items)]
        return list(dict.fromkeys([*ranked, *range(len(self.table))]))[:most]


def debug(
    models: Any,
    photos: Any,
    *,
    out: str | os.PathLike[str] = "out/debug",
    method: str = "gradcam",
    boxes: Any = None,
    near: Any = None,
    labels: Any = None,
    batch: int = 64,
    workers: int | None = None,
) -> Debugger:
    """Where and why classifiers are wrong on labelled photographs.

    Args:
        models: names as in `load`, classifiers or modules, one, a list, or a dict of names of your own.
        photos: what `dataset.predict` takes, on which the models were not trained. Of a photo set, a folder or an
            archive with train/ and val/, the latter.
        out: folder in which each model's results are kept; the same call again goes on from there.
        method: of the maps; one that speaks about a class.
        boxes: where the objects are, as for `dataset.locate`; default: boxes.csv of the photo set, where there is one.
        near: labelled photographs among which the nearest ones are looked for, those of the training say: what
            `dataset.predict` takes, or its table for the first model; default: among `photos` themselves.
        labels, batch, workers: as for `dataset.predict`.

    Raises:
        ValueError: bad photographs or labels, a class-blind method, or a table of another model.
    """
    if method_named(method).class_blind:
        raise ValueError(f"maps for two classes are needed; {method} is class-blind. Take 'gradcam'.")
    photos, boxes = _photo_set(photos, boxes)
    options: dict[str, Any] = {"labels": labels, "batch": batch, "workers": workers}
    classifiers, source, tables = load_all(models), source_of(photos), {}
    for name, clf in classifiers.items():
        place = _place(out, name)
        table = predict(clf, photos, out=place, methods=method if boxes is not None else (), **options)
        if boxes is not None:
            maps = explain_rows(clf, table, method, data=photos, batch=batch, workers=workers)[method]
            table = locate(clf, table, maps, boxes)
        tables[name] = table
    found = Debugger(classifiers, mistakes(tables), source, method)
    if near is not None:
        first, clf = next(iter(classifiers.items()))
        found.reference = _reference(clf, near, _place(out, f"{first} near"), options)
    return found


def _place(out: str | os.PathLike[str], name: str) -> Path:
    return Path(out) / name.replace("/", "_")


def _reference(clf: Classifier, near: Any, out: Path, options: dict[str, Any]) -> Reference:
    if not (isinstance(near, pd.DataFrame) and "out" in near.attrs):
        return Reference(predict(clf, near, out=out, **options), source_of(near))
    told = results_of(near).about
    if told["model"] != clf.name or not told["source"]:
        found = f"one of {told['model']}" if told["source"] else "one of photographs that lie in no folder or file"
        raise ValueError(f"near needs a table of {clf.name}; got {found}. Pass the photographs themselves.")
    return Reference(near, source_of(told["source"]))


def _photo_set(photos: Any, boxes: Any) -> tuple[Any, Any]:
    """The validation photographs of a photo set, and its boxes."""
    chosen = validation(photos)
    if chosen is photos or boxes is not None:
        return chosen, boxes
    known = Path(chosen).parent / "boxes.csv"
    return chosen, known if known.is_file() else None


def _cells(clf: Classifier, x: Tensor, method: str, predicted: int, label: int) -> tuple[Heatmap | str, ...]:
    """The map for the prediction, for the label, and their difference; or why there is none."""
    try:
        if predicted == label:
            same = "The prediction is the label: the map for the prediction speaks about both."
            return explain(clf, x, method, target=label).cpu(), same, same  # type: ignore[union-attr]
        both: Heatmap = explain(clf, x, method, target=[predicted, label]).cpu()  # type: ignore[union-attr]
        difference: Heatmap = contrast(clf, x, method, predicted, label)  # type: ignore[assignment]
    except REFUSALS as error:
        return (str(error),) * 3
    return _only(both, 0), _only(both, 1), difference.cpu()


def _on_object(line: pd.Series) -> str:
    if pd.isna(line.get("inside")):
        return ""
    return f" · {line['inside']:.0%} of the map on the object, which covers {line['object_share']:.0%}"


def _breakable(name: str) -> str:
    """Escaped, and broken between its words where it is long."""
    return escape(name).replace("_", "_<wbr>")


def _called(line: pd.Series) -> str:
    return "right" if line["correct"] else f"called {line['prediction']}"


def _only(heat: Heatmap, target: int) -> Heatmap:
    """The map of one of several targets."""
    return replace(
        heat,
        values=heat.values[:, target],
        target=heat.target[:, target],  # type: ignore[index]
        score=heat.score[:, target],  # type: ignore[index]
        labels=(heat.labels[0].split(" | ")[target],),
    )
