"""Sanity checks: does the map depend on what it claims to explain - the weights, the labels, the class, the photograph?

>>> print(sanity.parameter_randomisation(clf, photos, "gradcam"))
>>> print(sanity.class_dependence(clf, photos, "rollout"))

Maps are compared by Spearman's rank correlation of their cells: 1 the same order, 0 nothing in common.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vizlib.capture.taps import scores
from vizlib.classifier import must_be_classifier
from vizlib.measure.curves import area
from vizlib.measure.ranking import spearman
from vizlib.measure.verdict import FEW, interval
from vizlib.methods.table import explain
from vizlib.types import Classifier, Curve, Score, Target

UNIT = "rank correlation"
ALIKE = 0.5  # above it, maps of different weights or labels share more than half of the order
LATE = 0.5  # share of the layers by which a map that explains the output must have changed
BLIND = 1 - 1e-4  # from here on, maps for two classes are one map


def parameter_randomisation(
    clf: Classifier,
    photos: Any,
    method: str = "gradcam",
    *,
    target: Target | None = None,
    stages: int = 8,
    seed: int = 0,
    **options: Any,
) -> Curve:
    """How the map changes as the weights are drawn anew from the output downwards.

    The layers, in the order of their definition, are put in `stages` groups; the last group is randomised first, then
    the one before it too, and so on. A map that explains the model must lose its likeness. Every parameter is drawn
    from a normal distribution with its own mean and deviation; running statistics stay. The model is not touched: a
    copy of it is.

    Args:
        target: one class per photograph; default the classes that the untouched model predicts.
        options: of the method, and its layer; so in all checks of this file.

    Returns:
        Curve with fraction (t,) of the layers that are random, from 0 to 1, and the rank correlation (b, t) with the
        map of the untouched model.

    Raises:
        TypeError: not a classifier; so in all checks of this file.

    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv 1810.03292 (cascading randomisation).
    Deviation: a fresh initialisation there; a parameter's own mean and deviation keep activations in range here.
    """
    x, index = _asked("parameter_randomisation", clf, photos, target)
    make = partial(_map, method=method, x=x, target=index, options=options)
    true = make(clf)
    twin = replace(clf, module=copy.deepcopy(clf.module), name=f"{clf.name}, randomised")
    groups = _groups(twin.module, stages)
    generator = torch.Generator().manual_seed(seed)
    likeness, done, total = [torch.ones(len(x), device=x.device)], [0], sum(map(len, groups))
    for group in groups:
        for layer in group:
            _redraw(layer, generator)
        likeness.append(spearman(true, make(twin)))
        done.append(done[-1] + len(group))
    fraction, score = torch.tensor(done, device=x.device) / total, torch.stack(likeness, 1)
    verdict = _notice(fraction, score, f"{method} on {clf.name}")
    common: dict[str, Any] = {"unit": UNIT, "verdict": verdict, "method": method}
    return Curve(fraction, score, area(fraction, score), "parameter_randomisation", False, **common)


def label_randomisation(
    clf: Classifier,
    other: Classifier,
    photos: Any,
    method: str = "gradcam",
    *,
    target: Target | None = None,
    **options: Any,
) -> Score:
    """Likeness of the maps of two classifiers of one architecture, trained with the true labels and with shuffled ones.

    `vl.planted_twins` trains two such classifiers in seconds.

    Args:
        other: trained with shuffled labels; what it learned has nothing to do with what the photographs show.
        target: as in `parameter_randomisation`; both maps speak about the same class.

    Returns:
        Score with the rank correlation (b,); a method that explains what was learned comes near 0.

    Raises:
        ValueError: the two classifiers' maps differ in size.

    Source: Adebayo et al. 2018, arXiv 1810.03292, section 4.2.
    """
    must_be_classifier(other, "label_randomisation")
    x, index = _asked("label_randomisation", clf, photos, target)
    maps = [_map(each, method, x, index, options) for each in (clf, other)]
    if maps[0].shape != maps[1].shape:
        raise ValueError(
            f"two classifiers of one architecture are needed; their maps are {tuple(maps[0].shape)} and "
            f"{tuple(maps[1].shape)}. Train the same network twice."
        )
    likeness = spearman(*maps)
    about = _claim(likeness, "It hardly notices the labels.", "It depends on the labels.")
    what = f"of {method} on {clf.name}, true against shuffled labels"
    return _score("label_randomisation", likeness, method, what, about)


def class_dependence(
    clf: Classifier,
    photos: Any,
    method: str = "gradcam",
    *,
    target: Target | None = None,
    against: Target | None = None,
    **options: Any,
) -> Score:
    """Likeness of the maps for two classes: 1 for a class-blind method, which cannot say why this class and no other.

    Args:
        target, against: the two classes, one per photograph each; default the likeliest and the least likely one.

    Returns:
        Score with the rank correlation (b,).

    Source: Sixt, Granz, Landgraf 2020, When Explanations Lie, arXiv 1912.09818 (random logit test).
    """
    x, index = _asked("class_dependence", clf, photos, target)
    other = clf(x).argmin(1) if against is None else _asked("class_dependence", clf, x, against)[1]
    likeness = spearman(*(_map(clf, method, x, each, options) for each in (index, other)))
    same = int((likeness > BLIND).sum())
    but = f" on {len(x) - same} of {_photographs(len(x))}" if same else ""
    about = "Class-blind: the same map for every class." if same == len(x) else f"The map changes with the class{but}."
    what = f"of {method} on {clf.name}, one class against another"
    return _score("class_dependence", likeness, method, what, about)


def batch_consistency(clf: Classifier, photos: Any, method: str = "gradcam", **options: Any) -> Score:
    """Largest difference of a map made in a batch from the map made alone, as a share of the largest |value|: (b,)."""
    x, index = _asked("batch_consistency", clf, photos, None)
    together = _map(clf, method, x, index, options)
    alone = torch.cat([_map(clf, method, x[i : i + 1], index[i : i + 1], options) for i in range(len(x))])
    apart, largest = (t.abs().amax((1, 2)) for t in (together - alone, alone))
    apart = apart / torch.where(apart > 0, largest, 1)
    about = "The batch makes no difference." if float(apart.max()) < 1e-3 else "The other photographs change the map."
    words = f"batch consistency of {method} on {clf.name}, {_photographs(len(x))}: a largest relative difference of"
    verdict = f"{words} {float(apart.max()):.1e}. {about}"
    return Score(apart, "batch_consistency", False, "relative difference", verdict=verdict, method=method)


def translation_consistency(
    clf: Classifier,
    photos: Any,
    method: str = "gradcam",
    *,
    shift: tuple[int, int] | None = None,
    **options: Any,
) -> Score:
    """Likeness of the map of a shifted photograph and the shifted map of the photograph, where both are known: (b,).

    Args:
        shift: rows down and columns to the right in pixels, negative for up and left; default an eighth of each side.
            What leaves the image is lost, the edge is repeated where it came from.

    Raises:
        ValueError: nothing of the photograph stays in the image.
    """
    x, index = _asked("translation_consistency", clf, photos, None)
    h, w = x.shape[-2:]
    down, right = shift or (h // 8, w // 8)
    if abs(down) >= h or abs(right) >= w:
        raise ValueError(f"a shift within {h} × {w} pixels is needed; got {shift}. Take a smaller one.")
    rows, columns = (torch.arange(n, device=x.device) - by for n, by in ((h, down), (w, right)))  # where each came from
    moved = x[..., rows.clamp(0, h - 1), :][..., columns.clamp(0, w - 1)]
    before, after = (_map(clf, method, each, index, options, pixels=True) for each in (x, moved))
    (there_r, here_r), (there_c, here_c) = (_overlap(n, by) for n, by in ((h, down), (w, right)))
    likeness = spearman(before[:, there_r, there_c], after[:, here_r, here_c])
    about = _claim(likeness, "The map moves with the photograph.", "The map does not move along.")
    what = f"of {method} on {clf.name}, after {down}, {right} pixels"
    return _score("translation_consistency", likeness, method, what, about)


def _overlap(n: int, by: int) -> tuple[slice, slice]:
    """Of n places moved by some: those that stay inside, before and after."""
    return slice(max(0, -by), n - max(0, by)), slice(max(0, by), n + min(0, by))


def _asked(check: str, clf: Any, photos: Any, target: Any) -> tuple[Tensor, Tensor]:
    """The prepared photographs and one class (b,) for each."""
    must_be_classifier(clf, check)
    x = clf.prepare(photos).detach()
    index, _, single = scores(clf, clf(x), target)
    if not single or callable(target):
        raise ValueError(
            f"one class per photograph is needed; got {target!r}. Pass an index, a label or a tensor (b,)."
        )
    return x, index[:, 0]


def _map(
    clf: Classifier, method: str, x: Tensor, target: Tensor, options: dict[str, Any], pixels: bool = False
) -> Tensor:
    made: Any = explain(clf, x, method, target=target, **options)
    return made.pixels() if pixels else made.values


def _notice(fraction: Tensor, likeness: Tensor, what: str) -> str:
    """When maps lose the likeness (b, t) with what they were, in words. A claim is what the interval carries."""
    mean = likeness.mean(0)
    lost = fraction[mean < ALIKE].tolist()
    when = f"falls below {ALIKE} with {lost[0]:.0%} of the layers random" if lost else f"never falls below {ALIKE}"
    early = likeness[:, fraction <= LATE]
    lowest = early[:, int(early.mean(0).argmin())]  # where the map is least like what it was
    about = _claim(lowest, "It hardly notices the weights.", "It depends on the weights near the output.")
    ends = f"the {UNIT} {when}, and ends at {float(mean[-1]):.2f}"
    return f"parameter randomisation of {what}, {_photographs(len(likeness))}: {ends}. {about}"


def _claim(likeness: Tensor, above: str, below: str) -> str:
    """The claim that the 95 % interval of the mean of (b,) carries: it lies above ALIKE, below it, or on both sides."""
    if len(likeness) < FEW:
        return f"For a claim, take {FEW} photographs or more."
    low, high = interval(likeness)
    if low > ALIKE:
        return above
    return below if high < ALIKE else f"For a claim, take more photographs: {low:.2f} to {high:.2f} holds {ALIKE}."


def _score(kind: str, likeness: Tensor, method: str, what: str, about: str) -> Score:
    low, high = interval(likeness)
    spread = f" (95 %: {low:.2f} to {high:.2f})" if len(likeness) >= FEW else ""
    words = f"{kind.replace('_', ' ')} {what}, {_photographs(len(likeness))}: {float(likeness.mean()):.2f}{spread}"
    verdict = f"{words} {UNIT}. {about}"
    return Score(likeness, kind, kind == "translation_consistency", UNIT, verdict=verdict, method=method)


def _photographs(n: int) -> str:
    return f"{n} photograph{'' if n == 1 else 's'}"


def _groups(module: nn.Module, stages: int) -> list[list[nn.Module]]:
    """The layers with parameters of their own, the last first, in at most `stages` groups of about equal length."""
    layers = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))][::-1]
    if not layers or stages < 1:
        raise ValueError(f"layers with parameters and at least one stage are needed; got {len(layers)} and {stages}.")
    edges = torch.linspace(0, len(layers), min(stages, len(layers)) + 1).round().int().tolist()
    return [layers[start:end] for start, end in pairwise(edges)]


@torch.no_grad()
def _redraw(layer: nn.Module, generator: torch.Generator) -> None:
    for p in layer.parameters(recurse=False):
        if p.numel() > 1:
            noise = torch.randn(p.shape, generator=generator).to(p)
            p.copy_(p.float().mean() + p.float().std() * noise)
