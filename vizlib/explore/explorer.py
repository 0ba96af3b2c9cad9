"""A panel for notebooks: photograph, models, method, class and layer to choose, the maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets
from torch import Tensor

from vizlib import data
from vizlib.capture.anatomy import study
from vizlib.explore.rows import about, cell_of, named_photos, row_of
from vizlib.measure.trust import Judge, judge
from vizlib.methods.table import METHODS, contrast, explain
from vizlib.models import zoo
from vizlib.models.load import load_all
from vizlib.show.assets import asset, module
from vizlib.show.caption import CLASS_BLIND
from vizlib.show.report import Row, Sheet, fragment
from vizlib.types import Classifier, Heatmap

REFUSALS = (ValueError, TypeError, RuntimeError, OSError)


class Maps(anywidget.AnyWidget):
    """The picture grid of a report in a notebook, drawn by the browser: hovering asks the kernel nothing."""

    _esm, _css = module("maps_widget.js"), asset("maps.css")
    content = traitlets.Dict().tag(sync=True)

    def draw(self, sheets: Sequence[Sheet]) -> None:
        html, state = fragment(sheets)
        self.content = {"html": html, "state": state}


@dataclass(frozen=True)
class Choice:
    """What is chosen in the panel."""

    photo: str
    models: tuple[str, ...]
    method: str
    target: str | None = None
    against: str | None = None
    layer: str | None = None
    options: tuple[tuple[str, Any], ...] = ()
    trust: bool = False


class Explorer(widgets.VBox):
    """The panel. Results are kept, so that going back is instant; after a refusal it stays usable.

    Pictures are computed beside the kernel's main thread, so that "cancel" is heard.
    """

    def __init__(self, models: Any, photos: Any) -> None:
        self.classifiers, self.pictures = load_all(models), named_photos(photos)
        self._facts = {name: about(clf) for name, clf in self.classifiers.items()}
        self._rows: dict[tuple[str, str], Row] = {}  # model, photograph -> the row without maps
        self._cells: dict[tuple[str, Choice], Heatmap | str] = {}
        self._judges: dict[tuple[str, str], Judge] = {}  # they keep what random maps score
        self._grids: dict[tuple[str, bool], list[str]] = {}
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vizlib-explorer")
        self._running: Future[None] | None = None
        self._wanted: Choice | None = None
        self._quiet = False
        self._make_controls()
        self.maps, self.status = Maps(), widgets.HTML()
        super().__init__([*self._arranged(), self.status, self.maps])
        self._adapt()
        self._wanted = self.choice()
        self._compute(self._wanted)
        for control in self.controls.values():
            control.observe(self._changed, "value")

    def _make_controls(self) -> None:
        labels = sorted({label for clf in self.classifiers.values() for label in clf.labels or ()})
        self.photo = widgets.Dropdown(options=list(self.pictures), description="photo")
        self.upload = widgets.FileUpload(accept="image/*", description="upload")
        self.models = {
            name: widgets.ToggleButton(value=True, description=name, tooltip=f"show {name}")
            for name in self.classifiers
        }
        self.method = widgets.Dropdown(options=list(METHODS), description="method")
        self.target = widgets.Dropdown(
            options=[("the predicted class", None), *((n, n) for n in labels)], description="class"
        )
        self.against = widgets.Dropdown(
            options=[("no other class", None), *((n, n) for n in labels)], description="minus"
        )
        self.layer = widgets.Dropdown(options=[("the method's choice", None)], description="layer")
        self.fusion = widgets.Dropdown(options=["mean", "max", "min"], description="heads")
        self.discard = widgets.FloatSlider(
            min=0, max=0.9, step=0.1, description="discard", continuous_update=False, readout_format=".1f"
        )
        tip = "insertion − deletion beside 19 random maps: 380 images through the model for the first map, then 20"
        self.trust = widgets.ToggleButton(value=False, description="trust", icon="balance-scale", tooltip=tip)
        self.cancel = widgets.Button(description="cancel", icon="stop", disabled=True)
        self.cancel.on_click(lambda _: self.stop())
        self.upload.observe(self._uploaded, "value")

    @property
    def controls(self) -> dict[str, widgets.Widget]:
        """Every control that changes the pictures, by name."""
        named = ("photo", "method", "target", "against", "layer", "fusion", "discard", "trust")
        return {name: getattr(self, name) for name in named} | self.models

    def _arranged(self) -> list[widgets.Widget]:
        return [
            widgets.HBox(row, layout={"flex_flow": "row wrap"})
            for row in (
                [self.photo, self.upload, *self.models.values()],
                [self.method, self.target, self.against],
                [self.layer, self.fusion, self.discard, self.trust, self.cancel],
            )
        ]

    def choice(self) -> Choice:
        """What the controls say, without what does not apply to the method."""
        method = METHODS[self.method.value]
        speaks = not method.class_blind
        options = {n: getattr(self, n).value for n in ("fusion", "discard") if n in method.options}
        return Choice(
            photo=self.photo.value,
            models=tuple(name for name, button in self.models.items() if button.value),
            method=method.name,
            target=self.target.value if speaks else None,
            against=self.against.value if speaks else None,
            layer=None if self.layer.disabled else self.layer.value,
            options=tuple(options.items()),
            trust=self.trust.value,
        )

    def wait(self, seconds: float | None = None) -> None:
        """Until the pictures that were asked for last are there."""
        if self._running is not None:
            self._running.result(seconds)

    def stop(self) -> None:
        """Gives up what is being computed; the pictures stay as they are."""
        self._wanted = None
        self.cancel.disabled = True
        self._say("Cancelled. The pictures are those from before.")

    def _adapt(self) -> None:
        """Switches off what does not apply, and lists the layers where one model alone is shown."""
        method, chosen = METHODS[self.method.value], [n for n, b in self.models.items() if b.value]
        self.target.disabled = self.against.disabled = method.class_blind
        self.fusion.disabled = "fusion" not in method.options
        self.discard.disabled = "discard" not in method.options
        self.layer.disabled = not (method.takes_layer and len(chosen) == 1)
        names = [] if self.layer.disabled else self._layers(chosen[0], method.kind == "attention")
        options = [("the method's choice", None), *((name, name) for name in names)]
        if tuple(options) != tuple(self.layer.options):
            self._quiet = True
            kept = self.layer.value if self.layer.value in names else None
            self.layer.options, self.layer.value = options, kept
            self._quiet = False

    def _layers(self, model: str, operations: bool) -> list[str]:
        """Layers that lie on a grid, or attention operations, in execution order."""
        if (model, operations) not in self._grids:
            clf = self.classifiers[model]
            anatomy = study(clf, clf.prepare(self.pictures[self.photo.value]))
            self._grids[model, False] = [n for n, at in anatomy.layouts.items() if n and max(at.grid) > 1]
            self._grids[model, True] = [site.name for site in anatomy.sites.values() if site.keys.grid]
        return self._grids[model, operations]

    def _changed(self, _change: Any) -> None:
        if self._quiet:
            return
        self._adapt()
        choice = self._wanted = self.choice()
        if all(key in self._cells for key in _keys(choice)):
            self._compute(choice)
            return
        self.cancel.disabled = False
        self._say("Computing …", busy=True)
        self._running = self._worker.submit(self._compute, choice)
        self._running.add_done_callback(self._tell_failure)

    def _compute(self, choice: Choice) -> None:
        """Makes the missing rows and draws, unless something else is wanted by then."""
        for model, key in zip(choice.models, _keys(choice), strict=True):
            if self._wanted is not choice:
                return
            if key not in self._cells:
                self._fill(model, choice)
        if self._wanted is not choice:
            return
        cells = {model: self._cells[model, key] for model, key in _keys(choice)}
        rows = tuple(replace(self._rows[model, choice.photo], cells=(cell,)) for model, cell in cells.items())
        self.maps.draw([Sheet(choice.photo, (_title(choice),), rows)])
        self.cancel.disabled = True
        self._say(_about_method(choice) if rows else "Choose at least one model.")

    def _fill(self, model: str, choice: Choice) -> None:
        """Makes one model's map, and its row where it was not looked at before."""
        clf, photo = self.classifiers[model], self.pictures[choice.photo]
        x = clf.prepare(photo)
        if (model, choice.photo) not in self._rows:
            self._rows[model, choice.photo] = row_of(model, clf, self._facts[model], photo, x)
        judged = self._judges.setdefault((model, choice.photo), judge(clf, x)) if choice.trust else None
        cell = cell_of(partial(_make, choice, clf), x, judged)
        if isinstance(cell, Heatmap):  # one copy of the photograph for all its maps
            cell = replace(cell, image=self._rows[model, choice.photo].image[None])
        self._cells[model, replace(choice, models=())] = cell

    def _tell_failure(self, done: Future[None]) -> None:
        error = done.exception()
        if error is not None:
            self.cancel.disabled = True
            self._say(f"That did not work: {error} ({type(error).__name__})")

    def _uploaded(self, _change: Any) -> None:
        if not self.upload.value:
            return
        file = self.upload.value[-1]
        try:
            picture = data.open_photo(bytes(file["content"]))
        except REFUSALS as error:
            self._say(f"{file['name']}: {error}")
            return
        name = data.distinct([*self.pictures, file["name"]])[-1]
        self.pictures[name] = picture
        self.photo.options = list(self.pictures)
        self.photo.value = name

    def _say(self, text: str, busy: bool = False) -> None:
        spin = '<i class="fa fa-spinner fa-spin"></i> ' if busy else ""
        self.status.value = f'<div role="status">{spin}{escape(text)}</div>'


def explorer(models: Any = None, photos: Any = None) -> Explorer:
    """A panel to choose photograph, models, method, class or contrast of two classes, layer, fusion of heads.

    Args:
        models: names as in `load`, classifiers or modules, one or a list; by default the zoo.
        photos: paths, names of sample photographs or images, one or a list; by default the samples. More can
            be uploaded in the panel.
    """
    chosen = [f"zoo/{name}" for name in zoo.trained()] if models is None else models
    return Explorer(chosen, data.photos() if photos is None else photos)


def _keys(choice: Choice) -> list[tuple[str, Choice]]:
    """Under which each model's row of a choice is kept: the other models make no difference to it."""
    return [(model, replace(choice, models=())) for model in choice.models]


def _make(choice: Choice, clf: Classifier, x: Tensor) -> Heatmap:
    options = {"layer": choice.layer, "target": choice.target} | dict(choice.options)
    if choice.against is not None:
        return contrast(clf, x, choice.method, against=choice.against, **options)  # type: ignore[return-value]
    return explain(clf, x, choice.method, **options)  # type: ignore[return-value]


def _title(choice: Choice) -> str:
    against = f", minus {choice.against}" if choice.against else ""
    return f"{choice.method}{against}"


def _about_method(choice: Choice) -> str:
    method = METHODS[choice.method]
    blind = f" It is {CLASS_BLIND}." if method.class_blind else ""
    return f"{method.name}: in {method.unit}; {method.source}.{blind}"
