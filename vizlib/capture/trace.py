"""One call that runs a classifier and returns what happened inside; and heads silenced for a while."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from vizlib.attention import Attention
from vizlib.capture.anatomy import Anatomy, Site, is_alone, study
from vizlib.capture.events import RawAttention, RawGate, Watcher
from vizlib.capture.intercept import Interceptor
from vizlib.capture.steps import steps_of
from vizlib.capture.summary import probe
from vizlib.capture.taps import cut, layout, scores
from vizlib.capture.target import Follower, cam_layer, reading
from vizlib.classifier import must_be_classifier
from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier, Gate, Target, Trace


class _Recorder(Follower):
    """Keeps the operations and gates of a run; with gradients, records the graph from the first operation on."""

    def __init__(self, anatomy: Anatomy, only: frozenset[str] | None, lean: bool, gradients: bool) -> None:
        super().__init__(anatomy)
        self.only, self.lean, self.gradients = only, lean, gradients
        self.attentions: dict[int, RawAttention] = {}
        self.outputs: dict[int, Tensor] = {}
        self.gates: dict[int, tuple[Tensor, str, int]] = {}

    def attention(self, event: int, raw: RawAttention) -> Tensor | None:
        site = self.anatomy.sites.get(event)
        if site is None:
            return None
        changed = None
        if self.gradients:
            if not raw.output.requires_grad:  # the first operation, or one that reads a stream before it
                torch.set_grad_enabled(True)
                leaf = raw.output.detach().requires_grad_()
                self.outputs[event], changed = leaf, leaf.clone()
            else:
                self.outputs[event] = changed = raw.output
        if self.only is None or site.name in self.only:
            self.attentions[event] = _lean(raw) if self.lean else raw
        return changed

    def is_gate(self, event: int, raw: RawGate) -> bool:
        if event not in self.anatomy.gates:
            return False
        self.gates[event] = (raw.values.detach(), raw.activation, raw.features.ndim)
        return True


def _lean(raw: RawAttention) -> RawAttention:
    """Only what attention weights are made of, without the q, k, v buffer that a fused projection shares."""

    def own(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or tensor.untyped_storage().nbytes() <= tensor.numel() * tensor.element_size():
            return tensor
        return tensor.clone()

    def empty(tensor: Tensor) -> Tensor:
        return tensor.new_empty(*tensor.shape[:-1], 0)

    tokens = None if raw.tokens is None else empty(raw.tokens)
    value, output = empty(raw.value), empty(raw.output)
    return replace(raw, value=value, output=output, tokens=tokens, query=own(raw.query), key=own(raw.key))


def _mask(raw: RawAttention) -> Tensor | None:
    """The additive mask of a fused operation, from its float or bool mask and its causal flag."""
    mask = raw.mask
    if raw.causal:
        q, k = raw.output.shape[-2], raw.value.shape[-2]
        mask = torch.ones(q, k, dtype=torch.bool, device=raw.value.device).tril()
    if mask is None or mask.is_floating_point():
        return mask
    return torch.zeros(mask.shape, dtype=raw.value.dtype, device=mask.device).masked_fill(~mask, -torch.inf)


def _weights(raw: RawAttention) -> Tensor | None:
    """The matrix that was applied where its rows sum to 1 (ConViT mixes position and content); else the softmax before
    the heads were mixed."""
    if raw.softmax is None or raw.matrix is None or raw.softmax is raw.matrix:
        return raw.softmax
    rows = raw.matrix.detach().float().sum(-1)
    return raw.matrix if bool(((rows - 1).abs() < 1e-2).all()) else raw.softmax


def _attention(site: Site, raw: RawAttention, image: Tensor, clf: Classifier, gradient: Tensor | None) -> Attention:
    """A recorded operation with its axes named: (b, g, a, n, d)."""
    lead, b = raw.output.shape[:-2], len(image)

    def named(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else site.arrangement.apply(tensor.detach(), lead, b)

    value, output = named(raw.tokens if site.implied else raw.value), named(raw.output)
    return Attention(
        name=site.name, kind=site.kind, queries=site.queries, keys=site.keys, outputs=site.outputs,
        value=value, output=output,  # type: ignore[arg-type]
        width=site.width, query=named(raw.query), key=named(raw.key), scale=raw.scale, mask=named(_mask(raw)),
        softmax=named(_weights(raw)), matrix=named(raw.matrix), inner=named(raw.inner) if site.implied else None,
        signed=site.signed, gradient=named(gradient), image=image, model=clf.name,
    )  # fmt: skip


def _gate(clf: Classifier, anatomy: Anatomy, event: int, values: Tensor, activation: str, ndim: int) -> Gate:
    site = anatomy.gates[event]
    aligned = values.reshape(*[1] * (ndim - values.ndim), *values.shape)
    if site.channels > 0:
        aligned = aligned.movedim(site.channels, 1)
        if aligned.ndim == 3:  # tokens: (b, c, n) has one axis of places
            aligned = aligned[..., None]
    return Gate(site.name, site.kind, aligned, activation)


def dense_head(anatomy: Anatomy) -> str | None:
    """A head that scores the classes at every patch: the run of last layers that are as wide as there are classes."""
    names = [n for n in anatomy.layouts if n not in anatomy.idle]
    wide = [anatomy.layouts[n].width == anatomy.classes for n in names]
    if not names or not wide[-1] or all(wide):
        return None
    return names[len(wide) - wide[::-1].index(False)]


def _kept(site: Site, batch: int) -> Tensor | None:
    """The patches (b, n) that an operation still sees, where some have been dropped before."""
    tokens = site.outputs
    if tokens.grid is None or tokens.index.shape[1] != 1:
        return None
    index = tokens.index[:, 0, tokens.prefix :].expand(batch, -1) - tokens.prefix
    return index.sort(1).values if index.shape[1] < tokens.grid[0] * tokens.grid[1] else None


def record(
    clf: Classifier,
    x: Tensor,
    *,
    target: Target | None = None,
    layers: Sequence[str] | None = None,
    gradients: bool = False,
    lean: bool = False,
    tap: bool = False,
    start: bool = False,
) -> Trace:
    """One run of prepared input; `trace` with every choice open.

    Args:
        x: (b, c, h, w), prepared.
        target: whose gradient; layers: attention operations to keep; gradients: keep dO of each of them.
        lean: keep q and k alone, for what only reads attention weights.
        tap: keep activation and gradient at the class-activation layer.
        start: find out which tokens the head reads.
    """
    anatomy = study(clf, x)
    only = None if layers is None else frozenset(_known(clf, anatomy, layers))
    recorder = _Recorder(anatomy, only, lean and not gradients, gradients)
    path = cam_layer(clf, x) if tap else ""
    dense = dense_head(anatomy)
    tapped = [layout(clf, x, path)] if tap else []
    with unchanged(clf.module), _listen(clf, dense) as scored, cut(clf.module, tapped) as leaves:
        with Interceptor(recorder):
            logits = logits_of(clf.module(x))
        index, score, single = scores(clf, logits, target)
        if not single:
            raise ValueError(
                f"a trace needs one class per photograph; got a list of {score.shape[1]}. Trace once for each, or use "
                f"explain(…, target=[…])."
            )
        wanted = [*leaves.values(), *recorder.outputs.values()]
        found = torch.autograd.grad(score.sum(), wanted, allow_unused=True) if wanted and score.requires_grad else ()
    given = [g if g is not None else torch.zeros_like(t) for g, t in zip(found, wanted, strict=False)]
    pulls = dict(zip(recorder.outputs, given[len(leaves) :], strict=False))
    image = clf.picture(x)
    sites = {e: anatomy.sites[e] for e in recorder.attentions}
    steps, obstacle = steps_of(anatomy)
    starts = reading(clf, x).start if start and steps else {}
    return Trace(
        input=x, image=image, logits=logits.detach(), target=index[:, 0], model=clf.name,
        labels=tuple(clf.label(int(i)) for i in index[:, 0]),
        attentions={s.name: _attention(s, recorder.attentions[e], image, clf, pulls.get(e)) for e, s in sites.items()},
        steps=steps, obstacle=obstacle,
        start={s.name: starts[s.number] for s in sites.values() if s.number in starts},
        gates={anatomy.gates[e].name: _gate(clf, anatomy, e, *kept) for e, kept in recorder.gates.items()},
        layer=path, activation=leaves[path].detach() if tap else None, gradient=given[0] if tap and given else None,
        kept={s.name: k for s in sites.values() if (k := _kept(s, len(x))) is not None},
        dense=anatomy.layouts[dense].features(scored[0]) if dense else None,
    )  # fmt: skip


def _known(clf: Classifier, anatomy: Anatomy, names: Sequence[str]) -> Sequence[str]:
    have = [s.name for s in anatomy.sites.values()]
    for name in [names] if isinstance(names, str) else names:
        if name not in have:
            near = difflib.get_close_matches(name, have, 3, 0.3) or have[-3:]
            raise ValueError(
                f"an attention operation of {clf.name} is needed; it has no {name!r}. "
                f"{'Near ones: ' + ', '.join(near) if have else 'None was seen in it; see vl.summary'}."
            )
    return [names] if isinstance(names, str) else names


@contextmanager
def _listen(clf: Classifier, path: str | None) -> Iterator[list[Any]]:
    """Collects what one module returns."""
    heard: list[Any] = []
    if path is None:
        yield heard
        return
    module = clf.module.get_submodule(path)
    handle = module.register_forward_hook(lambda _m, _a, output: heard.append(tree_map(_detached, output)))
    try:
        yield heard
    finally:
        handle.remove()


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def trace(
    clf: Classifier,
    photos: Any,
    *,
    target: Target | None = None,
    layers: Sequence[str] | None = None,
    gradients: bool | None = None,
) -> Trace:
    """Runs a classifier once and returns its attention operations, gates and class-activation layer.

    The model is left as it was: flags, gradients, random state and hooks, also after an exception in the model.

    Args:
        photos: a path, PIL image, array, or a list of them; a float tensor (b, c, h, w) is taken as preprocessed.
        target: class index, label, array (b,) or callable logits -> (b,); None: the predicted class.
        layers: names of the attention operations to keep; None: all.
        gradients: also the gradient of the target's logit at every attention operation and at the class-activation
            layer. By default where a target is named.

    Raises:
        ValueError: a photograph, target or layer that is not there.
    """
    must_be_classifier(clf, "trace")
    x = clf.prepare(photos)
    wanted = target is not None if gradients is None else gradients
    return record(clf, x, target=target, layers=layers, gradients=wanted, tap=wanted, start=True)


class _Silence(Follower):
    def __init__(self, clf: Classifier, heads: Mapping[str, Sequence[int]], anatomy: Anatomy, batch: int) -> None:
        super().__init__(anatomy)
        self.clf, self.heads, self.batch = clf, heads, batch

    def attention(self, event: int, raw: RawAttention) -> Tensor | None:
        site = self.anatomy.sites.get(event)
        if site is None or site.name not in self.heads:
            return None
        lead = raw.output.shape[:-2]
        arranged = site.arrangement.apply(raw.output, lead, self.batch)
        loud = torch.ones(arranged.shape[2], dtype=arranged.dtype, device=arranged.device)
        loud[list(self.heads[site.name])] = 0
        return site.arrangement.undo(arranged * loud[:, None, None], lead)


@contextmanager
def intercepted(clf: Classifier, watcher: Callable[[Anatomy, int], Watcher]) -> Iterator[Classifier]:
    """Every run of the model while the block lasts is told to a watcher, made from its anatomy and batch size."""
    modes: list[Interceptor] = []

    def enter(_module: Any, args: Any, kwargs: Any) -> None:
        x = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        if is_alone(clf):
            return
        modes.append(Interceptor(watcher(study(clf, x), len(x))))
        modes[-1].__enter__()

    def leave(*_: Any) -> None:
        if modes and not is_alone(clf):
            modes.pop().__exit__(None, None, None)

    before = clf.module.register_forward_pre_hook(enter, with_kwargs=True)
    after = clf.module.register_forward_hook(leave, always_call=True)
    try:
        yield clf
    finally:
        before.remove()
        after.remove()


@contextmanager
def ablate(clf: Classifier, heads: Mapping[str, Sequence[int]]) -> Iterator[Classifier]:
    """Silences attention heads while the block lasts: their output is zero.

    Args:
        heads: attention operation -> heads, by the names and numbers that `trace` and `summary` use.

    Raises:
        ValueError: no such operation or head, at the classifier's own input size or at that of a later run.
        TypeError: no mapping of names to heads.
    """
    must_be_classifier(clf, "ablate")
    if not isinstance(heads, Mapping):
        raise TypeError(f"heads by operation are needed, {{name: [0, 2]}}; got {type(heads).__name__}. See vl.summary.")
    heads = {name: [each] if isinstance(each, int) else list(each) for name, each in heads.items()}
    _check_heads(clf, study(clf, probe(clf)), heads)

    def silence(anatomy: Anatomy, batch: int) -> Watcher:
        _check_heads(clf, anatomy, heads)
        return _Silence(clf, heads, anatomy, batch)

    with intercepted(clf, silence):
        yield clf


def _check_heads(clf: Classifier, anatomy: Anatomy, heads: Mapping[str, Sequence[int]]) -> None:
    sites = anatomy.named()
    for name in _known(clf, anatomy, list(heads)):
        count = sites[name].arrangement.heads
        for head in heads[name]:
            if not 0 <= head < count:
                raise ValueError(f"{name} of {clf.name} has heads 0 to {count - 1}; got {head}. Name one of them.")
