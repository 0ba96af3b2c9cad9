"""What stands above a picture: which model, which method, which class, which score."""

from __future__ import annotations

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
    """Deletion and insertion beside those of random maps, and what follows; "" for a heatmap that was not judged."""
    notes = {name: float(note[photo]) for name, note in heatmap.notes.items() if note.ndim == 1}
    if "deletion" not in notes:
        return ""
    names = ("deletion", "insertion")
    lines = [f"{name} {notes[name]:.2f} (random {notes[f'random {name}']:.2f})" for name in names]
    won = [name for name in names if notes[f"{name} wins"]]
    words = {0: "not better than every random map", 1: f"better than every random map in {''.join(won)} only"}
    return "\n".join([*lines, words.get(len(won), "better than every random map")])
