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
from vizlib.measure.curves import area
from vizlib.measure.ranking import spearman
from vizlib.measure.verdict import interval
from vizlib.methods.table import explain
from vizlib.types import Classifier, Curve, Score, Target

UNIT = "rank correlation"
ALIKE = 0.5  # above it, maps of different weights or labels share more than half of the order
LATE = 0.5  # share of the layers by which a map that explains the output must have changed


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
        options: of the method.

    Returns:
        Curve with fraction (t,) of the layers that are random, from 0 to 1, and the rank correlation (b, t) with the
        map of the untouched model.

    Source: Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv 1810.03292 (cascading randomisation).
    Deviation: a fresh initialisation there; a parameter's own mean and deviation keep activations in range here.
    """
    x, index = _asked(clf, photos, target)
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
    verdict = _notice(fraction, score.mean(0), f"{method} on {clf.name}")
    return Curve(fraction, score, area(fraction, score), "parameter_randomisation", False, UNIT, verdict=verdict)


def label_randomisation(
    clf: Classifier, other: Classifier, photos: Any, method: str = "gradcam", *, target: Target | None = None
) -> Score:
    """Likeness of the maps of two classifiers of one architecture, trained with the true labels and with shuffled ones.

    Args:
        other: trained with shuffled labels; what it learned has nothing to do with what the photographs show.
        target: as in `parameter_randomisation`; both maps speak about the same class.

    Returns:
        Score with the rank correlation (b,); a method that explains what was learned comes near 0.

    Raises:
        ValueError: the two classifiers' maps differ in size.

    Source: Adebayo et al. 2018, arXiv 1810.03292, section 4.2.
    """
    x, index = _asked(clf, photos, target)
    maps = [_map(each, method, x, index, {}) for each in (clf, other)]
    if maps[0].shape != maps[1].shape:
        raise ValueError(
            f"two classifiers of one architecture are needed; their maps are {tuple(maps[0].shape)} and "
            f"{tuple(maps[1].shape)}. Train the same network twice."
        )
    likeness = spearman(*maps)
    about = "It hardly notices the labels." if float(likeness.mean()) > ALIKE else "It depends on the labels."
    return _score("label_randomisation", likeness, f"of {method} on {clf.name}, true against shuffled labels", about)


def class_dependence(
    clf: Classifier,
    photos: Any,
    method: str = "gradcam",
    *,
    target: Target | None = None,
    against: Target | None = None,
) -> Score:
    """Likeness of the maps for two classes: 1 for a class-blind method, which cannot say why this class and no other.

    Args:
        target, against: the two classes, one per photograph each; default the likeliest and the least likely one.

    Returns:
        Score with the rank correlation (b,).

    Source: Sixt, Granz, Landgraf 2020, When Explanations Lie, arXiv 1912.09818 (random logit test).
    """
    x, index = _asked(clf, photos, target)
    other = clf(x).argmin(1) if against is None else _asked(clf, x, against)[1]
    likeness = spearman(_map(clf, method, x, index, {}), _map(clf, method, x, other, {}))
    blind = bool((likeness > 1 - 1e-4).all())
    about = "Class-blind: the same map for every class." if blind else "The map changes with the class."
    return _score("class_dependence", likeness, f"of {method} on {clf.name}, one class against another", about)


def batch_consistency(clf: Classifier, photos: Any, method: str = "gradcam") -> Score:
    """Largest difference of a map made in a batch from the map made alone, as a share of the largest |value|: (b,)."""
    x, index = _asked(clf, photos, None)
    together = _map(clf, method, x, index, {})
    alone = torch.cat([_map(clf, method, x[i : i + 1], index[i : i + 1], {}) for i in range(len(x))])
    apart = (together - alone).abs().amax((1, 2)) / alone.abs().amax((1, 2))
    about = "The batch makes no difference." if float(apart.max()) < 1e-3 else "The other photographs change the map."
    words = f"batch consistency of {method} on {clf.name}: a largest relative difference of {float(apart.max()):.1e}"
    return Score(apart, "batch_consistency", False, "relative difference", verdict=f"{words}. {about}")


def translation_consistency(
    clf: Classifier, photos: Any, method: str = "gradcam", *, shift: tuple[int, int] | None = None
) -> Score:
    """Likeness of the map of a shifted photograph and the shifted map of the photograph, where both are known: (b,).

    Args:
        shift: rows and columns in pixels, positive; default an eighth of each side. What leaves the image is lost,
            the edge is repeated where it came from.
    """
    x, index = _asked(clf, photos, None)
    h, w = x.shape[-2:]
    down, right = shift or (h // 8, w // 8)
    rows, columns = (torch.arange(n, device=x.device) for n in (h, w))
    moved = x[..., (rows - down).clamp_min(0), :][..., (columns - right).clamp_min(0)]
    first, second = (_pixels(clf, method, each, index) for each in (x, moved))
    likeness = spearman(first[:, : h - down, : w - right], second[:, down:, right:])
    about = "The map moves with the photograph." if float(likeness.mean()) > ALIKE else "The map does not move along."
    return _score(
        "translation_consistency", likeness, f"of {method} on {clf.name}, after {down}, {right} pixels", about
    )


def _asked(clf: Classifier, photos: Any, target: Any) -> tuple[Tensor, Tensor]:
    """The prepared photographs and one class (b,) for each."""
    x = clf.prepare(photos).detach()
    index, _, single = scores(clf, clf(x), target)
    if not single or callable(target):
        raise ValueError(
            f"one class per photograph is needed; got {target!r}. Pass an index, a label or a tensor (b,)."
        )
    return x, index[:, 0]


def _map(clf: Classifier, method: str, x: Tensor, target: Tensor, options: dict[str, Any]) -> Tensor:
    made: Any = explain(clf, x, method, target=target, **options)
    return made.values


def _pixels(clf: Classifier, method: str, x: Tensor, target: Tensor) -> Tensor:
    made: Any = explain(clf, x, method, target=target)
    return made.pixels()


def _notice(fraction: Tensor, likeness: Tensor, what: str) -> str:
    """When a map loses the likeness with what it was, in words: mean rank correlations (t,)."""
    lost = fraction[likeness < ALIKE].tolist()
    when = f"falls below {ALIKE} with {lost[0]:.0%} of the layers random" if lost else f"never falls below {ALIKE}"
    about = (
        "It depends on the weights near the output." if lost and lost[0] <= LATE else "It hardly notices the weights."
    )
    return f"parameter randomisation of {what}: the {UNIT} {when}, and ends at {float(likeness[-1]):.2f}. {about}"


def _score(kind: str, likeness: Tensor, what: str, about: str) -> Score:
    low, high = interval(likeness)
    mean = float(likeness.mean())
    verdict = f"{kind.replace('_', ' ')} {what}: {mean:.2f} (95 %: {low:.2f} to {high:.2f}) {UNIT}. {about}"
    return Score(likeness, kind, kind == "translation_consistency", UNIT, verdict=verdict)


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
