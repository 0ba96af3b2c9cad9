"""Activations and gradients at chosen layers, with nothing recorded before the first of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vizlib.capture.anatomy import study
from vizlib.capture.layout import Layout
from vizlib.capture.target import cam_layer
from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier, Target


@dataclass(frozen=True, eq=False)
class Tap:
    """One layer of one run, in image layout.

    Attributes:
        activation: (b, c, r, s), patches only.
        gradient: (b, t, c, r, s) of each target's logit.
        target: (b, t) class indices, -1 for a callable target.
        score: (b, t) the target's logit, or what a callable target returned.
        logits: (b, classes).
        single: whether one target was asked for, so that maps have no target axis.
    """

    layer: str
    activation: Tensor
    gradient: Tensor
    target: Tensor
    score: Tensor
    logits: Tensor
    single: bool


def resolve(clf: Classifier, logits: Tensor, target: Target | None) -> tuple[Tensor, bool]:
    """Class indices (b, t) of a target as the user gave it, and whether it was a single one.

    None is the predicted class, an index or label that class for every photograph, a tensor or array (b,) one class
    per photograph, a list of any of these several classes for every photograph.

    Raises:
        ValueError: no such class, or an array of another length than the batch.
        TypeError: something else was given.
    """
    b, classes = logits.shape
    if target is None:
        return logits.argmax(1, keepdim=True), True
    if isinstance(target, list | tuple):
        if not target:
            raise ValueError("a target is needed; got an empty list. Name at least one class.")
        return torch.cat([resolve(clf, logits, t)[0] for t in target], 1), False
    given = _as_array(target)
    if given.ndim == 0:
        return torch.full((b, 1), clf.index(given.item(), classes), device=logits.device), True
    if given.shape != (b,):
        raise ValueError(
            f"a target array names one class per photograph, shape ({b},); got {given.shape} of {given.dtype}. Pass a "
            f"list for several classes of every photograph."
        )
    return torch.tensor([[clf.index(each, classes)] for each in given.tolist()], device=logits.device), True


def _as_array(target: Any) -> NDArray:
    """Class indices and labels, one or an array of them: NumPy's, torch's, a column of pandas.

    Raises:
        TypeError: anything else, such as numbers with a fraction or truth values.
    """
    given = np.asarray(target.tolist() if isinstance(target, Tensor) else target)
    if given.dtype.kind == "O" and all(isinstance(each, str) for each in given.flatten()):
        given = given.astype(str)
    if given.dtype.kind not in "iuU":
        dtype = getattr(target, "dtype", None)
        of = "" if dtype is None else f" of {str(dtype).removeprefix('torch.')}"
        raise TypeError(
            f"a target is a class index, a label, a list or an array of them, or a callable; got "
            f"{type(target).__name__}{of}. Name a class."
        )
    return given


def scores(clf: Classifier, logits: Tensor, target: Target | None) -> tuple[Tensor, Tensor, bool]:
    """Target indices (b, t), their scores (b, t) with graph, and whether it was a single target."""
    if callable(target):
        score = target(logits)
        if not isinstance(score, Tensor) or score.shape != logits.shape[:1]:
            got = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise ValueError(f"a callable target must turn logits (b, classes) into scores (b,); it returned {got}.")
        return torch.full((len(logits), 1), -1, device=logits.device), score[:, None], True
    index, single = resolve(clf, logits, target)
    return index, logits.gather(1, index), single


def layout(clf: Classifier, x: Tensor, layer: str) -> Layout:
    """The layout of a layer's output.

    Raises:
        ValueError: no such module, or one whose output lies on no grid.
    """
    layouts = study(clf, x).layouts
    if layer in layouts:
        return layouts[layer]
    modules = dict(clf.module.named_modules())
    grids = [n for n in layouts if n]
    near = ", ".join(reversed(grids[-4:])) or "none at this size"
    if layer not in modules:
        close = difflib.get_close_matches(layer, modules, 3, 0.5)
        raise ValueError(f"{clf.name} has no module {layer!r}. Near ones: {', '.join(close) or near}.")
    raise ValueError(
        f"a layer with a spatial grid is needed; {layer!r} of {clf.name} has none. Leave layer out, or name one of: "
        f"{near}."
    )


@contextmanager
def cut(module: nn.Module, layouts: Sequence[Layout]) -> Iterator[dict[str, Tensor]]:
    """Gradients are recorded from the first of the layers on; its output is made a leaf there.

    The leaf goes on as a copy, because a module that works in place may follow it.
    """
    leaves: dict[str, Tensor] = {}

    def hook(layout: Layout) -> Callable[..., Any]:
        def leave(_m: nn.Module, _a: Any, output: Any) -> Any:
            tensor = layout.pick(output)
            if not tensor.requires_grad:
                tensor = tensor.detach().requires_grad_()
            torch.set_grad_enabled(True)
            leaves[layout.path] = tensor
            return layout.put(output, tensor.clone())

        return leave

    handles = [module.get_submodule(item.path).register_forward_hook(hook(item)) for item in layouts]
    try:
        with torch.no_grad():  # also undoes set_grad_enabled
            yield leaves
    finally:
        for handle in handles:
            handle.remove()


def taps(clf: Classifier, x: Tensor, target: Target | None = None, layers: Sequence[str] | None = None) -> list[Tap]:
    """One forward and one backward per target: activations and gradients at each of the layers.

    Args:
        x: (b, c, h, w), prepared.
        layers: module paths; None for the class-activation layer.

    Raises:
        ValueError: unknown layer, or one without a spatial grid.
        RuntimeError: the target's gradient is zero at all patches of a layer.
    """
    layouts = [layout(clf, x, n) for n in (layers if layers is not None else [cam_layer(clf, x)])]
    with unchanged(clf.module), cut(clf.module, layouts) as leaves:
        logits = logits_of(clf.module(x))
        index, score, single = scores(clf, logits, target)
        points = [leaves[item.path] for item in layouts]
        t = score.shape[1]
        gradients = [
            torch.autograd.grad(score[:, i].sum(), points, retain_graph=i < t - 1, allow_unused=True)
            if score.requires_grad
            else [None] * len(points)
            for i in range(t)
        ]
    found = []
    for number, item in enumerate(layouts):
        each = [g[number] if g[number] is not None else torch.zeros_like(points[number]) for g in gradients]
        gradient = torch.stack([item.alone().features(g) for g in each], 1)
        if not bool(gradient.any()):
            raise RuntimeError(
                f"the gradient of the target is zero at every patch of {item.path!r} in {clf.name}: what the head "
                f"reads does not pass there. Leave layer out, or name an earlier one."
            )
        activation = item.alone().features(points[number].detach())
        found.append(Tap(item.path, activation, gradient, index, score.detach(), logits.detach(), single))
    return found
