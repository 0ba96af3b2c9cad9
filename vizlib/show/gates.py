"""What gates.js draws: the gates of many photographs, as raw float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from vizlib.measure.gates import GateSurvey
from vizlib.show import colour
from vizlib.show.report import photograph

_COLOURS = {"sequential": "viridis", "over_photo": colour.SEQUENTIAL, "diverging": colour.DIVERGING}


def gates_state(survey: GateSurvey) -> dict[str, Any]:
    """What the browser needs to draw the gates: names, classes, photographs, values as bytes."""
    spread = survey.spread()
    return {
        "model": survey.model,
        "classes": list(survey.classes),
        "predicted": list(survey.predicted),
        "images": [photograph(image, 160) for image in survey.image],
        "aspect": survey.image.shape[-2] / survey.image.shape[-1],
        "channel": [_layer(name, v) | {"spread": float(spread[name])} for name, v in survey.channel.items()],
        "spatial": [_layer(name, values) for name, values in survey.spatial.items()],
        "colours": {kind: colour.table(name) for kind, name in _COLOURS.items()},
    }


def _layer(name: str, values: Tensor) -> dict[str, Any]:
    """Values (n, …) of a gate."""
    raw = values.numpy().astype("<f4")
    low, high = float(np.min(raw)), float(np.max(raw))
    return {"name": name, "shape": list(raw.shape[1:]), "low": low, "high": high, "values": raw.tobytes()}
