"""The table of methods and the one call that makes a heatmap: `explain(clf, photos, method)`.

A new method is one function and one row; `kinds.py` says what the function is given.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vizlib.capture.taps import scores
from vizlib.classifier import must_be_classifier
from vizlib.methods import attribution, cam, perturbation, raw, rollout
from vizlib.methods.auto import choose
from vizlib.methods.kinds import MAKERS, Made, Method, Question
from vizlib.methods.names import AUTO, must_be_known
from vizlib.types import Classifier, Heatmap, Named, Target

LOGITS = "logits"

METHODS: dict[str, Method] = Named(
    (row.name, row)
    for row in (
        Method("gradcam", cam.gradcam, "cam", LOGITS, "Selvaraju et al. 2017, arXiv 1610.02391"),
        Method("gradcam++", cam.gradcam_plus_plus, "cam", "weighted activation",
               "Chattopadhay et al. 2018, arXiv 1710.11063"),
        Method("hirescam", cam.hirescam, "cam", LOGITS, "Draelos, Carin 2020, arXiv 2011.08891"),
        Method("gradcam_elementwise", cam.gradcam_elementwise, "cam", LOGITS, "grad-cam package"),
        Method("layercam", cam.layercam, "cam", LOGITS, "Jiang et al. 2021, doi 10.1109/TIP.2021.3089943"),
        Method("xgradcam", cam.xgradcam, "cam", LOGITS, "Fu et al. 2020, arXiv 2008.02312"),
        Method("eigencam", cam.eigencam, "cam", "activation", "Muhammad, Yeasin 2020, arXiv 2008.00299",
               class_blind=True),
        Method("eigengradcam", cam.eigengradcam, "cam", LOGITS, "grad-cam package"),
        Method("cam", cam.cam, "cam", LOGITS, "Zhou et al. 2016, arXiv 1512.04150", extra=cam.linear_rows),
        Method("scorecam", perturbation.scorecam, "perturbation", "weighted activation",
               "Wang et al. 2020, arXiv 1910.01279"),
        Method("ablationcam", perturbation.ablationcam, "perturbation", "logit drop · activation",
               "Desai, Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360"),
        Method("saliency", attribution.saliency, "attribution", "logits per unit of input",
               "Simonyan et al. 2013, arXiv 1312.6034"),
        Method("input_x_gradient", attribution.input_x_gradient, "attribution", LOGITS,
               "Shrikumar et al. 2016, arXiv 1605.01713"),
        Method("integrated_gradients", attribution.integrated_gradients, "attribution", LOGITS,
               "Sundararajan et al. 2017, arXiv 1703.01365"),
        Method("smoothgrad", attribution.smoothgrad, "attribution", "logits per unit of input",
               "Smilkov et al. 2017, arXiv 1706.03825"),
        Method("occlusion", attribution.occlusion, "attribution", "logit drop",
               "Zeiler, Fergus 2013, arXiv 1311.2901"),
        Method("gradientshap", attribution.gradientshap, "attribution", LOGITS,
               "Lundberg, Lee 2017, arXiv 1705.07874"),
        Method("rollout", rollout.rollout, "rollout", "share of the mass",
               "Abnar, Zuidema 2020, arXiv 2005.00928", class_blind=True),
        Method("gradient_rollout", rollout.gradient_rollout, "rollout", "relevance",
               "Abnar, Zuidema 2020, arXiv 2005.00928, weighted by gradients"),
        Method("chefer", rollout.chefer, "rollout", "relevance", "Chefer et al. 2021, arXiv 2103.15679"),
        Method("attention", raw.attention, "attention", "attention weight",
               "Vaswani et al. 2017, arXiv 1706.03762", class_blind=True),
    )
)  # fmt: skip


def explain(
    clf: Classifier,
    photos: Any,
    method: str = "gradcam",
    *,
    target: Target | None = None,
    layer: str | Sequence[str] | None = None,
    **options: Any,
) -> Heatmap | list[Heatmap]:
    """What a classifier looks at in photographs, by one method.

    Args:
        photos: a path, PIL image, array or uint8 tensor, or a list of them; a float tensor (b, c, h, w) is
            taken as preprocessed.
        method: a row of METHODS, or "auto": the most faithful one for the model's family by the measured table; the
            heatmap's `why` says which it took and why.
        target: what the map speaks about: None for the predicted class; a class index or label; an array (b,)
            of one class per photograph; a list of classes; a callable logits -> (b,). Class-blind methods
            (rollout, raw attention, Eigen-CAM) speak about no class: a target is checked and then not used,
            and the heatmap's own target is None.
        layer: module path, or several; class activation maps default to the last layer that the head reads,
            raw attention to the last operation in the image, and the other methods take none.
        options: of the method, see METHODS[method].options.

    Returns:
        Heatmap with values (b, r, s), signed and at the method's own resolution; (b, t, r, s) for a list of t
        classes. For several layers a list of heatmaps, from one run.

    A map that is the same everywhere, or not finite, says nothing. In a batch it stays what it is, a warning names the
    photograph, and the heatmap's note `flat`, (b,) or (b, t), is True there.

    Raises:
        ValueError: unknown method, option, target, layer or photograph.
        RuntimeError: the method does not apply to this model, or the map of every photograph is flat.
    """
    maps = _maps(clf, photos, method, target, layer, options)
    told = list(map(_say_where_flat, maps))
    return told[0] if layer is None or isinstance(layer, str) else told


def _maps(clf: Classifier, photos: Any, method: str, target: Any, layer: Any, options: dict[str, Any]) -> list[Heatmap]:
    """One heatmap per layer, flat or not."""
    must_be_classifier(clf, "explain")
    why = ""
    if method == AUTO:
        photos = clf.prepare(photos).detach()
        method, why = choose(clf, photos, METHODS)
    row = method_named(method, **options)
    if not (layer is None or isinstance(layer, str | list | tuple)):
        raise TypeError(f"layer is a module path or a list of them; got {layer!r}. Leave it out, or see vl.summary.")
    layers = None if layer is None else [layer] if isinstance(layer, str) else list(layer)
    if layers is not None and not (layers and row.takes_layer):
        what = "at least one layer is needed; got none" if row.takes_layer else f"{method} takes no layer"
        raise ValueError(f"{what}. Leave layer out.")
    x = clf.prepare(photos).detach()
    made = MAKERS[row.kind](Question(clf, row, x, target, layers, options))
    return [replace(_heatmap(clf, row, x, target, each), why=why, options=options) for each in made]


def contrast(
    clf: Classifier,
    photos: Any,
    method: str = "gradcam",
    target: Target | None = None,
    against: Target | None = None,
    *,
    layer: str | Sequence[str] | None = None,
    **options: Any,
) -> Heatmap | list[Heatmap]:
    """The map for one class minus the map for another: what speaks for one and not for the other.

    Args:
        target, against: as in `explain`, one class per photograph each; `contrast(clf, photos, target=None,
            against=true_classes)` sets the predicted against the true class.
        photos, method, layer, options: as in `explain`.

    Returns:
        Heatmap with values (b, r, s) and score (b,) = target's logit - against's; the note `against` holds
        its class. Where the two classes are the same, the difference is zero, and said to be flat as in `explain`.

    Raises:
        ValueError: the method is class-blind, or the two classes are the same for every photograph.
    """
    row = method_named(method, **options)
    if row.class_blind:
        raise ValueError(f"a contrast needs maps that speak about a class; {method} is class-blind. Use 'gradcam'.")
    for given in (target, against):
        if callable(given) or isinstance(given, list | tuple):
            raise ValueError(
                f"a contrast needs one class per photograph; got {given!r}. Pass an array, numpy.array([…]); for a "
                f"score of your own use explain(…, target=lambda logits: …)."
            )
    differences = [_difference(m) for m in _maps(clf, photos, method, [target, against], layer, options)]
    told = list(map(_say_where_flat, differences))
    return told[0] if layer is None or isinstance(layer, str) else told


def method_named(name: str, **options: Any) -> Method:
    """The row of a method, its options checked.

    Raises:
        ValueError: no such method, or no such option.
    """
    if name not in METHODS:  # a row may be added while a program runs
        must_be_known(name)
    accepted = METHODS[name].options
    for option in options:
        if option not in accepted:
            near = difflib.get_close_matches(option, accepted, 1, 0.4)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            every = ", ".join(accepted) or "none"
            raise ValueError(f"{name} has no option {option!r}. {hint}It accepts: {every}.")
    return METHODS[name]


def shared_out(methods: Sequence[str], options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options given to several methods at once: to each those that it has; to "auto" all.

    Raises:
        ValueError: no such method, or an option that none of them has.
    """
    own = {name: dict(options) if name == AUTO else method_named(name).options for name in methods}
    for option in options:
        if not any(option in accepted for accepted in own.values()):
            every = "; ".join(f"{name}: {', '.join(accepted) or 'none'}" for name, accepted in own.items())
            raise ValueError(f"an option of the methods is needed; got {option!r}. They accept: {every}.")
    return {name: {k: v for k, v in options.items() if k in accepted} for name, accepted in own.items()}


def _heatmap(clf: Classifier, row: Method, x: Tensor, target: Any, made: Made) -> Heatmap:
    index, score, single = scores(clf, made.logits, target)  # class-blind too: a wrong target is told
    values = made.values.detach()
    heat = Heatmap(values[:, 0], clf.picture(x), row.name, clf.name, unit=row.unit, layer=made.layer)
    if row.class_blind:
        return heat
    names = ["a score of the logits" if i < 0 else clf.label(i) for i in index.flatten().tolist()]
    t = index.shape[1]
    part = 0 if single else slice(None)
    return replace(
        heat,
        values=values[:, part],
        target=None if callable(target) else index[:, part],
        score=score[:, part].detach(),
        labels=tuple(" | ".join(names[i : i + t]) for i in range(0, len(names), t)),
        notes={name: note[:, part] for name, note in made.notes.items()},
    )


def _say_where_flat(heat: Heatmap) -> Heatmap:
    """A map that is the same everywhere, or not a number somewhere, is noted; where all are, that is an error."""
    flat = heat.flat()
    photos = flat.reshape(len(flat), -1).any(1).nonzero().flatten().tolist()
    if not photos:
        return heat
    found = f"photograph {photos[0]} it is {_what_is_flat(heat, flat, photos[0])}"
    if len(photos) == len(flat):
        raise RuntimeError(
            f"{heat.method} needs a map that differs from place to place; for {found}. Are the weights trained? Try "
            f"another layer or method."
        )
    more = f" So it is for {len(photos)} of {len(flat)}: {', '.join(map(str, photos))}." if len(photos) > 1 else ""
    warnings.warn(
        f"a {heat.method} map says nothing: for {found}.{more} The heatmap's note 'flat' marks it.", stacklevel=3
    )
    return replace(heat, notes=heat.notes | {"flat": flat})


def _what_is_flat(heat: Heatmap, flat: Tensor, photo: int) -> str:
    against = heat.notes.get("against")
    if against is not None and heat.target is not None and bool(against[photo] == heat.target[photo]):
        return "0 everywhere, since target and against are the same class"
    first = heat.values[photo][flat[photo]][0]
    found = f"{float(first.flatten()[0]):.3g} everywhere" if first.isfinite().all() else "not finite"
    return found + (f" at {heat.layer!r}" if heat.layer else "")


def _difference(heat: Heatmap) -> Heatmap:
    """Maps for two classes (b, 2, r, s) to their difference."""
    if heat.target is None or heat.score is None:
        raise TypeError("a contrast needs maps for two classes.")
    same = heat.target[:, 0] == heat.target[:, 1]
    if bool(same.all()):
        raise ValueError(
            f"a contrast needs two different classes; target and against are the same for photograph "
            f"{', '.join(map(str, range(len(same))))}. Name another class."
        )
    return replace(
        heat,
        values=torch.where(same[:, None, None], 0, heat.values[:, 0] - heat.values[:, 1]),
        target=heat.target[:, 0],
        score=heat.score[:, 0] - heat.score[:, 1],
        labels=tuple(name.replace(" | ", " − ") for name in heat.labels),
        notes={k: v[:, 0] - v[:, 1] for k, v in heat.notes.items()} | {"against": heat.target[:, 1]},
    )
