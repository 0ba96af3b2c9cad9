"""The kinds of methods, and how each is run: what the function of a row of METHODS is given.

    cam           activation (b, c, r, s), gradient (b, t, c, r, s), and what `extra` finds -> (b, t, r, s)
    perturbation  module, x, scores, activation, layout -> (b, t, r, s)
    attribution   forward, x, target -> (b, h, w), notes
    rollout       trace -> (b, r, s)
    attention     trace, layer -> (b, r, s)

Its keyword-only parameters are the options that `explain` hands on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vizlib.capture.taps import Tap, layout, scores, taps
from vizlib.capture.trace import record
from vizlib.methods.raw import last_spatial
from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier


@dataclass(frozen=True)
class Method:
    """A row of METHODS.

    Attributes:
        kind: what the function is given, see the top of this file.
        unit: what one unit of the map is.
        source: the paper.
        class_blind: the map says nothing about a class; a target is checked and otherwise not used.
        extra: what a class activation map needs beside activation and gradient.
    """

    name: str
    function: Callable[..., Any]
    kind: Literal["cam", "perturbation", "attribution", "rollout", "attention"]
    unit: str
    source: str
    class_blind: bool = False
    extra: Callable[[nn.Module, Tap], Tensor] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Option names and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def facts(self) -> str:
        """Kind, options, what it speaks about, unit and paper, in words."""
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items()) or "none"
        about = "class-blind" if self.class_blind else "of a class"
        return f"{self.kind}, {about}, in {self.unit}; options: {options}; {self.source}"

    @property
    def takes_layer(self) -> bool:
        return self.kind in ("cam", "perturbation", "attention")


@dataclass(frozen=True, eq=False)
class Question:
    """What was asked, in checked form: x (b, c, h, w) is prepared, options belong to the method."""

    clf: Classifier
    method: Method
    x: Tensor
    target: Any
    layers: list[str] | None
    options: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Made:
    """The maps (b, t, r, s) of one layer, the logits (b, classes) of the run and the notes, (b, t) each."""

    layer: str
    values: Tensor
    logits: Tensor
    notes: dict[str, Tensor] = field(default_factory=dict)


def _cams(ask: Question) -> list[Made]:
    method, made = ask.method, []
    for tap in taps(ask.clf, ask.x, None if method.class_blind else ask.target, ask.layers):
        extra = (_full(method.extra(ask.clf.module, tap)),) if method.extra else ()
        values = method.function(_full(tap.activation), _full(tap.gradient), *extra, **ask.options)
        made.append(Made(tap.layer, values, tap.logits))
    return made


def _perturbations(ask: Question) -> list[Made]:
    clf, x, made = ask.clf, ask.x, []
    for tap in taps(clf, x, ask.target, ask.layers):
        each = [partial(_scores_of, ask.target, index) for index in tap.target]
        where = layout(clf, x, tap.layer)
        values = ask.method.function(clf.module, x, each, _full(tap.activation), where, **ask.options)
        made.append(Made(tap.layer, values, tap.logits))
    return made


def _scores_of(target: Any, index: Tensor, logits: Tensor) -> Tensor:
    """The scores (m, t) of one photograph's targets in logits (m, classes)."""
    return target(logits)[:, None] if callable(target) else logits[:, index]


def _attributions(ask: Question) -> list[Made]:
    def forward(images: Tensor) -> Tensor:
        logits = logits_of(ask.clf.module(images.to(ask.x.dtype)))  # Captum mixes half precision with float32
        return ask.target(logits) if callable(ask.target) else logits

    logits = ask.clf(ask.x)
    index, _, _ = scores(ask.clf, logits, ask.target)
    columns = [None] if callable(ask.target) else index.unbind(1)
    with unchanged(ask.clf.module):
        each = [ask.method.function(forward, ask.x, column, **ask.options) for column in columns]
    values = torch.stack([v for v, _ in each], 1)
    notes = {name: torch.stack([n[name] for _, n in each], 1) for name in each[0][1]}
    return [Made("", values, logits, notes)]


def _rollouts(ask: Question) -> list[Made]:
    targets = [ask.target]
    if ask.method.class_blind:
        targets = [None]
    elif isinstance(ask.target, list | tuple) and ask.target:
        targets = list(ask.target)
    gradients = not ask.method.class_blind
    runs = [record(ask.clf, ask.x, target=t, gradients=gradients, lean=True, start=True) for t in targets]
    values = torch.stack([ask.method.function(run, **ask.options) for run in runs], 1)
    return [Made("", values, runs[0].logits)]


def _attentions(ask: Question) -> list[Made]:
    run = record(ask.clf, ask.x, layers=ask.layers, lean=True)
    names = ask.layers or [last_spatial(run)]
    return [Made(name, ask.method.function(run, name, **ask.options)[:, None], run.logits) for name in names]


def _full(tensor: Tensor) -> Tensor:
    """Half precision to float32: squares and sums over places overflow there."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


MAKERS: dict[str, Callable[[Question], list[Made]]] = {
    "cam": _cams,
    "perturbation": _perturbations,
    "attribution": _attributions,
    "rollout": _rollouts,
    "attention": _attentions,
}
