"""What stands above a picture: which model, which method, which class, which score."""

from __future__ import annotations

import math

from vizlib.measure.trust import BASELINE, DRAWS, SQUARES
from vizlib.types import Heatmap

CLASS_BLIND = "class-blind: the same map for every class"
FLAT = "the same everywhere: says nothing"


def subject(heatmap: Heatmap, photo: int = 0, target: int = 0) -> str:
    """The class the map speaks about and its score, or that it speaks about no class; and whether it is flat."""
    flat = heatmap.notes.get("flat")
    if flat is not None and bool(flat[photo].flatten()[target if flat.ndim > 1 else 0]):
        return FLAT
    if heatmap.score is None:
        return CLASS_BLIND
    score, label = heatmap.score[photo], heatmap.labels[photo]
    chosen = f"{heatmap.method}: " if heatmap.why else ""  # by method="auto"
    if score.ndim:  # several targets, their names joined
        score, label = score[target], label.split(" | ")[target]
    return f"{chosen}{label} · logit {float(score):.2f}"


def caption(heatmap: Heatmap, photo: int = 0, target: int = 0) -> str:
    """Two lines: model and method (and layer); class and score."""
    above = " · ".join(part for part in (heatmap.model, heatmap.method, heatmap.layer) if part)
    return f"{above}\n{subject(heatmap, photo, target)}".rstrip()


def peak(heatmap: Heatmap, photo: int = 0) -> str:
    """Where the map is strongest, as row and column in [0, 1]."""
    row, column = heatmap[photo].peak().flatten()[:2].tolist()
    return f"({row:.2f}, {column:.2f})"


def trust(heatmap: Heatmap, photo: int = 0) -> str:
    """What `measure.trust` found, in four lines: two scores beside what knows nothing, what follows, and on what terms.

    "" for a heatmap that was not judged.
    """
    notes = {name: float(note[photo]) for name, note in heatmap.notes.items() if note.ndim == 1}
    if "p" not in notes:
        return ""
    if math.isnan(notes["p"]):
        return "flat: says nothing"
    lines = [
        f"{name} {notes[name]:.2f} {arrow} random {notes[f'random {name}']:.2f}, centre {notes[f'centre {name}']:.2f}"
        for name, arrow in (("deletion", "↓"), ("insertion", "↑"))
    ]
    blind = " · class-blind" if heatmap.score is None else ""
    return "\n".join([*lines, verdict(heatmap, photo), f"{BASELINE}, {SQUARES} × {SQUARES} squares{blind}"])


def verdict(heatmap: Heatmap, photo: int = 0) -> str:
    """Whether a judged heatmap is better than the random maps and the centre Gaussian."""
    equals = round(float(heatmap.notes["p"][photo]) * (1 + DRAWS)) - 1
    if equals:
        return f"chance: {equals} of {DRAWS} random maps do as well"
    centre = "and the centre" if bool(heatmap.notes["beats centre"][photo]) else "but not the centre"
    return f"better than all {DRAWS} random maps {centre}"
