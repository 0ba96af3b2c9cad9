"""Which channels open for which class, and where spatial gates open: the widget for notebooks."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from vizlib.measure.gates import GateSurvey, survey_gates
from vizlib.models.load import load
from vizlib.show.assets import asset, module
from vizlib.show.gates import gates_state
from vizlib.types import Classifier


class GatesWidget(anywidget.AnyWidget):
    """Heat strips of the channel gates by class, their differences, and the maps of spatial gates.

    Attributes:
        survey: the values that are drawn.
        view: what is chosen, in step with the browser: `layer` (number among the layers with channel gates), `this` and
            `other` (classes), `order` ("channel", "this", "difference" or "spread"), `rows` ("classes" or
            "photographs"), `scale` ("zero" or "range"), `pin` ([row, column] of the strips or None); for the maps
            `place` (number among the layers with spatial gates), `placeScale` and `opacity`.
    """

    _esm = module("gates_widget.js")
    _css = asset("hover.css") + asset("gates.css")
    state = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, survey: GateSurvey) -> None:
        super().__init__(state=gates_state(survey))
        self.survey = survey


def gates_explorer(model: Any, photos: Any) -> GatesWidget:
    """A widget: which channels open for which class, layer by layer, and where spatial gates open.

    Every channel gate is a column of a heat strip, sorted by how far it opens; a row is a class or a photograph. Below
    stands the difference between two classes. Gates over places (CBAM, BAM) are drawn over the photographs.

    Args:
        model: a classifier or its name.
        photos: photographs by class, {"cat": [photo, …], …}, or a list of them, which the predicted classes then group.

    Raises:
        ValueError: there is no photograph, or the model has no gates.
    """
    clf = model if isinstance(model, Classifier) else load(model)
    return GatesWidget(survey_gates(clf, photos))
