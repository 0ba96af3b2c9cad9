"""Many labelled photographs: predictions, heatmaps and the reasons for mistakes.

table = vl.dataset.predict(clf, "photos/val", out="runs/vit")
maps = vl.dataset.explain(clf, table, "gradcam")
found = vl.dataset.mistakes([table, other])
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "predict": "vizlib.dataset.predicting",
    "evaluate": "vizlib.dataset.evaluating",
    "read": "vizlib.dataset.results",
    "explain": "vizlib.dataset.maps",
    "locate": "vizlib.dataset.places",
    "mistakes": "vizlib.dataset.finding",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"vizlib.dataset has no {name!r}. It has: {', '.join(_PUBLIC)}.")
    return getattr(import_module(_PUBLIC[name]), name)
