"""Hover a point of the photograph and see what the token there attends to: the widget for notebooks."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets
from torch import Tensor

from vizlib import data
from vizlib.capture.trace import trace
from vizlib.explore.window import seen_part
from vizlib.models.load import load
from vizlib.show.assets import asset, module
from vizlib.show.hover import LIMIT, State, drawable, hover_state, layer_rows
from vizlib.types import Classifier, Trace


class HoverWidget(anywidget.AnyWidget):
    """Photographs side by side, one per model, with one cursor.

    Attributes:
        view: what is chosen and pinned, in step with the browser: `layers` and `heads` (a number per model;
            head -1 is the mean), `query` ("point" or the number of a prefix token), `pin` ((row, column) in
            [0, 1] of the photograph, or None), `scale` ("own", "layer" or "models"), `colours`, `opacity`.
    """

    _esm = module("hover_widget.js")
    _css = asset("hover.css")
    state = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, traces: list[Trace], photo: int, states: list[State]) -> None:
        super().__init__(state={"panels": states})
        self._traces, self._photo = traces, photo
        self.on_msg(self._answer)

    def _answer(self, _widget: object, message: Any, _buffers: object) -> None:
        """Sends the weights of a layer that were too many to send with all others."""
        wanted = message["fetch"]
        attention = drawable(self._traces[wanted["panel"]])[wanted["layer"]]
        self.send(wanted, list(layer_rows(attention, self._photo).values()))


def hover(models: Any, photo: Any = 0, *, limit: int = LIMIT) -> HoverWidget:
    """A widget: hover a point of the photograph and see what the token there attends to.

    The pointer and the arrow keys preview, a click or Enter pins, Escape clears. Several models share the
    cursor by its place in the photograph, of which each may see another part.

    Args:
        models: a classifier, its name or a trace, or a list of these.
        photo: a photograph as for `trace`; for a trace the number of one in its batch.
        limit: bytes of weights that a model sends at once; other layers are fetched when they are chosen.

    Raises:
        ValueError: a model has no attention over places of the image.
        TypeError: traces and classifiers are mixed, or the photograph does not fit them.
    """
    several = list(models) if isinstance(models, list | tuple) else [models]
    traced = [isinstance(m, Trace) for m in several]
    if not several or any(traced) != all(traced) or (isinstance(photo, int) != all(traced)):
        raise TypeError(
            f"hover needs classifiers and a photograph, or traces and the number of a photograph; got "
            f"{', '.join(type(m).__name__ for m in several) or 'no model'} and {type(photo).__name__}. "
            f"Pass hover(models, photo) or hover([trace, …], 0)."
        )
    if all(traced):
        return HoverWidget(several, photo, [hover_state(t, photo, limit=limit) for t in several])
    classifiers = [m if isinstance(m, Classifier) else load(m) for m in several]
    opened = photo if isinstance(photo, Tensor) else data.open_photo(photo)
    traces = [trace(clf, opened) for clf in classifiers]
    seen = [seen_part(clf, opened) for clf in classifiers]
    states = [hover_state(t, background=g, box=b, limit=limit) for t, (g, b) in zip(traces, seen, strict=True)]
    return HoverWidget(traces, 0, states)
