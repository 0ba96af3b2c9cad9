"""A row of the picture grid: what one model sees in one photograph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor

from vizlib import data
from vizlib.capture.summary import family
from vizlib.capture.trace import trace
from vizlib.explore.window import seen_part
from vizlib.measure.cost import macs, params_of
from vizlib.measure.trust import Judge
from vizlib.show.hover import State, hover_state
from vizlib.show.report import Row
from vizlib.types import Classifier, Heatmap

OUTSIDE = "not among the model's classes"


def named_photos(photos: Any) -> dict[str, Image.Image | Tensor]:
    """Photographs by a name that is theirs alone, or that a dict gives; preprocessed tensors as they are."""
    if isinstance(photos, dict):
        return dict(zip(photos, data.open_photos(list(photos.values())), strict=True))
    if isinstance(photos, Tensor) and photos.is_floating_point() and photos.ndim == 4:
        return {f"input {i + 1}": photos[i : i + 1] for i in range(len(photos))}
    several = isinstance(photos, list | tuple) or getattr(photos, "ndim", 0) == 4
    each = list(photos) if several else [photos]
    return dict(zip(data.distinct([data.photo_name(photo) for photo in each]), data.open_photos(each), strict=True))


def truth(photo: Any, clf: Classifier) -> str:
    """What a sample photograph shows, in the classifier's words, or that it knows no such class; else ""."""
    sample = getattr(photo, "info", {}).get("sample")
    if sample is None or clf.labels is None:
        return ""
    return next((label for label in data.subject(sample) if label in clf.labels), OUTSIDE)


def about(clf: Classifier) -> dict[str, Any]:
    """What depends on the model alone: family, parameters, GMACs."""
    try:
        gmacs = macs(clf) / 1e9
    except RuntimeError:  # operations that cannot be counted from shapes; the maps can still be compared
        gmacs = math.nan
    return {"family": family(clf), "parameters": params_of(clf.module), "GMACs": gmacs}


def row_of(model: str, clf: Classifier, facts: dict[str, Any], photo: Image.Image | Tensor, x: Tensor) -> Row:
    """One model on one photograph, without maps yet.

    Args:
        model: its name in the grid.
        facts: from `about`.
        photo: a photograph, or a preprocessed tensor (1, c, h, w).
        x: the model's input made of it.
    """
    shares = clf(x)[0].float().softmax(0)
    likeliest = shares.topk(min(3, len(shares))).indices.tolist()
    seen = clf.picture(x)[0].cpu()
    background, box = seen_part(clf, photo)
    size = f"{facts['parameters'] / 1e6:.2f} M parameters · {facts['GMACs']:.3f} GMACs"
    known, label = truth(photo, clf), clf.label(likeliest[0])
    verdict = "right" if known == label else "wrong"
    return Row(
        model=model,
        facts=f"{facts['family']} · {size}",
        image=seen,
        background=seen if background is None else background,
        top=tuple((clf.label(i), float(shares[i])) for i in likeliest),
        truth=known,
        note=known if known in ("", OUTSIDE) else f"{verdict}: it shows {known}",
        box=box,
    )


def cell_of(make: Callable[[Tensor], Heatmap], x: Tensor, judged: Judge | None = None) -> Heatmap | str:
    """The heatmap of an input; a refusal (ValueError, RuntimeError) becomes the reason why there is none.

    Args:
        judged: from `measure.trust.judge`, puts into the heatmap's notes what it is worth.
    """
    try:
        heatmap = make(x)
        return (judged(heatmap) if judged else heatmap).cpu()
    except (ValueError, RuntimeError) as error:
        return str(error)


def attention_of(clf: Classifier, x: Tensor, row: Row, limit: int) -> State | str:
    """What every token attends to, as bytes for a page; or the reason why there is none.

    Args:
        limit: bytes of weights, as in `hover_state`.
    """
    try:
        state = hover_state(trace(clf, x), background=row.background, box=row.box, limit=limit)
    except (ValueError, RuntimeError) as error:
        return str(error)
    if state["layers"][-1]["rows"] is None:
        return f"its attention is too large for this page ({limit / 1e6:.1f} MB). Compare fewer photographs or models."
    return state
