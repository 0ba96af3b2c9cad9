"""Deletion and insertion put down in a heatmap itself, so that they stand wherever it is drawn."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vizlib.measure.faithfulness import faithfulness
from vizlib.types import Classifier, Heatmap

METRICS = ("deletion", "insertion")
STEPS = CELLS = 8  # as in the benchmark of the zoo


def judged(clf: Classifier, x: Tensor, heatmap: Heatmap) -> Heatmap:
    """The heatmap with its scores in the notes.

    For deletion and insertion each: the score (b,), that of random maps under "random NAME", and under "NAME wins"
    whether the map is better than every random one.

    Args:
        x: (b, c, h, w), what the maps were made of.
    """
    cells = min(CELLS, *x.shape[-2:])
    notes: dict[str, Tensor] = {}
    for name in METRICS:
        found = faithfulness(clf, x, heatmap, name, steps=STEPS, cells=cells)
        chance = found.references["random"].value
        notes |= {name: found.value, f"random {name}": chance}
        notes[f"{name} wins"] = found.value.new_full((len(x),), float(found.beats["random"]))
    return replace(heatmap, notes=heatmap.notes | notes)
