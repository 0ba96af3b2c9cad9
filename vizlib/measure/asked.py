"""What `faithfulness` was asked, in checked form: photographs, one map for each, the class, the object's place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.capture.taps import scores
from vizlib.measure.localisation import box_masks
from vizlib.methods.table import explain
from vizlib.types import Classifier, Heatmap

# Two copies of one picture, values in [0, 1]: of one size they differ by less in every pixel, even in half precision;
# scaled to one size, by less in the mean (0.001 to 0.011 for six photographs at 64 and 224 pixels, 0.2 for others)
ALIKE, SCALED_ALIKE = 0.05, 0.02


def photographs(clf: Classifier, photos: Any) -> Tensor:
    """The prepared photographs (b, c, h, w)."""
    if not isinstance(clf, Classifier):
        raise TypeError(f"faithfulness needs a Classifier; got {type(clf).__name__}. Use vl.load(model).")
    x = clf.prepare(photos).detach()
    if x.ndim != 4:
        raise ValueError(
            f"faithfulness needs photographs; {clf.name} takes clips, {tuple(x.shape)}. Take one frame's model."
        )
    return x


def maps_of(clf: Classifier, x: Tensor, heatmaps: Any, target: Any) -> Heatmap:
    """One finite map for each of the photographs x, on their device."""
    if isinstance(heatmaps, str):
        heatmaps = explain(clf, x, heatmaps, target=target)
    if isinstance(heatmaps, np.ndarray):
        heatmaps = torch.from_numpy(np.ascontiguousarray(heatmaps))
    if isinstance(heatmaps, Tensor):
        heatmaps = Heatmap(heatmaps, clf.picture(x), "", clf.name)
    if not isinstance(heatmaps, Heatmap):
        raise TypeError(
            f"a Heatmap, an array (b, r, s) or a method is needed; got {type(heatmaps).__name__}. Use vl.explain."
        )
    values = heatmaps.values
    if values.ndim != 3 or len(values) != len(x):
        raise ValueError(
            f"one map per photograph is needed, ({len(x)}, r, s); got {tuple(values.shape)}. Of several targets or "
            f"layers, judge one at a time."
        )
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"finite maps are needed; those of {heatmaps.method!r} hold NaN or infinity. Compute in float32."
        )
    _must_be_of(clf, x, heatmaps)
    return replace(heatmaps, values=values.to(x.device))


def _must_be_of(clf: Classifier, x: Tensor, heat: Heatmap) -> None:
    """Raises ValueError where the maps were made of other photographs, or of another part of them."""
    own, seen = clf.picture(x), heat.image.to(x.device, torch.float32)
    if seen.shape[-2:] == own.shape[-2:]:
        apart = (seen - own).abs().flatten(1).amax(1) / ALIKE
    else:  # a model of another input size
        size = [min(lengths) for lengths in zip(seen.shape[-2:], own.shape[-2:], strict=True)]
        seen, own = (F.interpolate(image, size, mode="bilinear", antialias=True) for image in (seen, own))
        apart = (seen - own).abs().flatten(1).mean(1) / SCALED_ALIKE
    others = (apart > 1).nonzero().flatten().tolist()
    if others:
        raise ValueError(
            f"maps of these photographs are needed, as {clf.name} sees them; those of photograph "
            f"{', '.join(map(str, others))} show something else. Pass the photographs in the order of the maps."
        )


def class_followed(clf: Classifier, x: Tensor, heat: Heatmap, target: Any, batch: int) -> Tensor:
    """The class (b,) whose probability is followed."""
    if target is None and heat.target is None and heat.score is not None:
        raise ValueError(
            f"one class per photograph is followed; these {heat.method} maps speak about a score of your own. Pass "
            f"target=…."
        )
    asked = heat.target if target is None else target
    parts = x.split(batch) if asked is None else [x[:1]]  # of a class that is given, only the number is checked
    logits = torch.cat([clf(part) for part in parts]).expand(len(x), -1)
    index, _, single = scores(clf, logits, asked)
    if not single or callable(target):
        raise ValueError(
            f"one class per photograph is followed; got {target!r}. Pass an index, a label or a tensor (b,)."
        )
    if target is None and heat.model != clf.name and heat.labels and "against" not in heat.notes:
        own = tuple(clf.label(i) for i in index[:, 0].tolist())
        if own != heat.labels:
            raise ValueError(
                f"the class that is followed needs the same name in both models; {heat.labels[0]!r} of {heat.model} "
                f"is {own[0]!r} in {clf.name}. Pass target=…."
            )
    return index[:, 0]


def places(clf: Classifier, photos: Any, where: Any, x: Tensor) -> Tensor | None:
    """Masks (b, h, w) of where the object lies, from masks or from boxes."""
    if where is None:
        return None
    rows = list(where) if isinstance(where, list | tuple | np.ndarray | Tensor) else [where]
    if all(isinstance(row, np.ndarray | Tensor) and row.ndim == 2 for row in rows):
        expected, found = (len(x), *x.shape[-2:]), (len(rows), *rows[0].shape) if rows else ()
        if found != expected or len({tuple(row.shape) for row in rows}) > 1:
            raise ValueError(f"masks need the shape {expected}; got {found}. Scale them to the model's input.")
        return torch.stack([torch.as_tensor(row, device=x.device) > 0 for row in rows])
    if not all(np.ndim(row) == 1 and len(row) == 4 for row in rows):
        raise ValueError(
            f"the object's place needs masks (b, h, w) or boxes of four numbers; got {where!r}. Pass xmin, ymin, xmax, "
            f"ymax for each photograph."
        )
    return box_masks(clf, photos, rows).to(x.device)
