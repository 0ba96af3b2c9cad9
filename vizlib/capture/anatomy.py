"""The anatomy of a classifier: what one study of it, per input size, tells every later run.

The study runs the model once under a `PlaceMode` and an `Interceptor` and writes down the attention operations, the
gates and the layout of each module's output.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._C import _len_torch_function_stack
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import _pop_mode, _push_mode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from vizlib.capture.arrange import Arrangement, arrange, tokens_of
from vizlib.capture.cells import NOWHERE, PADDED, hull, settle
from vizlib.capture.events import RawAttention, RawGate, Watcher
from vizlib.capture.gates import gate_kind, is_swish
from vizlib.capture.intercept import Interceptor
from vizlib.capture.layout import Layout, read_layout
from vizlib.capture.modules import ModulePath
from vizlib.capture.places import PlaceMode
from vizlib.running import logits_of, modules_of, unchanged
from vizlib.tokens import Tokens
from vizlib.types import AttentionKind, Classifier, GateKind


@dataclass(frozen=True, eq=False)
class Site:
    """An attention operation of the model, wherever it is run."""

    name: str
    kind: AttentionKind
    arrangement: Arrangement
    queries: Tokens
    keys: Tokens
    outputs: Tokens
    past: int  # bit i: it derives from operation i
    number: int
    width: int  # channels that it writes, over all heads
    implied: bool = False  # its matrix over the tokens is a product that the model never makes
    signed: bool = False  # which has entries below zero


@dataclass(frozen=True, eq=False)
class GateSite:
    name: str
    kind: GateKind
    channels: int  # axis of the channels in the gated features, -1 where these are no feature maps


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What is known of a classifier at one input size.

    Attributes:
        sites, gates: attention operations and gates, by the number of their event.
        layouts: module path -> layout of its output, in the order in which the modules finish.
        idle: modules that hand on what they were given (Identity, dropout, a branch that is left out).
        projections: modules whose output is the queries, keys or values of an attention between places.
        moving: places depend on the photograph; the anatomy then holds for the studied batch only.
        classes: number of logits.
    """

    sites: dict[int, Site]
    gates: dict[int, GateSite]
    layouts: dict[str, Layout]
    idle: frozenset[str]
    projections: frozenset[str]
    moving: bool
    classes: int

    @property
    def owners(self) -> set[str]:
        """Modules that hold an attention operation."""
        return {site.name.partition("#")[0] for site in self.sites.values()}

    def named(self) -> dict[str, Site]:
        return {site.name: site for site in self.sites.values()}


class _Student(Watcher):
    """Decides for every event of the study what it is, by places and values."""

    def __init__(self, places: PlaceMode, path: ModulePath, batch: int) -> None:
        self.places, self.path, self.batch = places, path, batch
        self.sites: dict[int, Site] = {}
        self.gates: dict[int, GateSite] = {}
        self.returned: dict[str, StorageWeakRef] = {}  # memory of what each module returned
        self.projections: set[str] = set()

    def softmax_over(self, scores: Tensor) -> bool:
        mark = self.places.mark(scores)
        return mark is not None and mark.product

    def is_attention(self, event: int, raw: RawAttention) -> bool:
        if self.places.mark(raw.value) is None or raw.matrix is None or self.places.mark(raw.matrix) is None:
            return False
        if raw.softmax is None:
            return self._is_linear(raw)
        rows = raw.matrix.float().sum(-1)
        mixed = raw.softmax is not raw.matrix
        return mixed or bool((rows - 1).abs().max() < 1e-2)

    def _is_linear(self, raw: RawAttention) -> bool:
        """Features of places times a product that sums values over places."""
        if self.places.mark(raw.output) is None or raw.inner is None:
            return False
        source = self._read(raw)
        with _off():
            lead = raw.output.shape[:-2]
            written = settle(self._cells(raw.output, (-1,), lead, raw.output.shape[-2]))
            return written.shape[-2] > 1 and self._implied(raw, source, lead)

    def _read(self, raw: RawAttention) -> Tensor:
        """A tensor (…, n, ·) whose slots lie where the tokens do that are read: values or keys of linear attention."""
        if raw.inner is None or raw.tokens is None:
            return raw.value
        keys = raw.inner.mT
        return raw.tokens if self.places.mark(keys) is None else keys

    def _implied(self, raw: RawAttention, source: Tensor, lead: torch.Size) -> bool:
        """Is the value a product inner @ tokens that sums over places?"""
        if raw.inner is None or raw.tokens is None:
            return False
        if settle(self._cells(source, (-1,), lead, source.shape[-2])).shape[-2] == 1:
            return False
        return torch.allclose(raw.value.float(), (raw.inner @ raw.tokens).float(), 1e-2, 1e-4)  # not changed in place

    def attention(self, event: int, raw: RawAttention) -> Tensor | None:
        marks = [self.places.mark(t) for t in (raw.query, raw.key, raw.value, raw.matrix)]
        past = 0
        for mark in marks:
            past |= mark.past if mark else 0
        source = self._read(raw)
        with _off():
            site = self._site(raw, source, past)
        self.sites[event] = site
        if site.kind == "spatial" or site.implied:
            own = [t for t in (raw.query, raw.key, raw.value, raw.tokens) if t is not None]
            parts = [StorageWeakRef(t.untyped_storage()) for t in own]
            self.projections |= {name for name, memory in self.returned.items() if memory in parts}
        self.places.passed(raw.output, site.number)
        return raw.output  # what the model goes on with is to derive from it

    def _cells(self, tensor: Tensor, dims: tuple[int, ...], lead: torch.Size, n: int) -> Tensor:
        """Cells (leading, n, 5) of the slots of a tensor, joined over `dims`."""
        mark = self.places.mark(tensor)
        if mark is None:
            return torch.full((lead.numel(), n, 5), NOWHERE, device=tensor.device)
        cells = hull(mark.cells, [d % tensor.ndim for d in dims])
        cells = cells.reshape(*[1] * (len(lead) + 2 - tensor.ndim), *cells.shape)
        return cells.squeeze(-2).expand(*lead, n, 5).reshape(lead.numel(), n, 5)

    def _site(self, raw: RawAttention, source: Tensor, past: int) -> Site:
        lead = raw.output.shape[:-2]
        implied = self._implied(raw, source, lead)
        source = source if implied else raw.value
        keys = self._cells(source, (-1,), lead, source.shape[-2])
        outputs = self._cells(raw.output, (-1,), lead, raw.output.shape[-2])
        queries = outputs if raw.query is None else self._cells(raw.query, (-1,), lead, raw.output.shape[-2])
        among_photos = _mixes_samples(keys)
        if among_photos:
            arrangement = Arrangement("ga", 1, lead.numel())
        else:
            arrangement = arrange(torch.cat([keys, outputs], 1), self.batch)

        def tokens(cells: Tensor) -> Tokens:
            moved = arrangement.apply(cells, cells.shape[:1], self.batch)[:, :, 0]
            return tokens_of(moved, moving=self.places.data_dependent)

        at_query, at_key, at_output = (tokens(c) for c in (queries, keys, outputs))
        kind: AttentionKind = "spatial" if raw.queries or at_output.grid else "pooling"
        if at_key.grid is None:
            kind = "batch" if among_photos else "channel" if raw.queries else "linear"
        elif implied:
            kind = "linear"
        if _written_elsewhere(at_output, at_key):
            at_output = at_key
        name = _numbered(self.path.here, [s.name for s in self.sites.values()])
        width = arrangement.heads * raw.value.shape[-1]
        signed = implied and any(t is not None and bool((t < 0).any()) for t in (raw.matrix, raw.inner))
        return Site(
            name, kind, arrangement, at_query, at_key, at_output, past, len(self.sites), width,
            implied and kind == "linear", signed,
        )  # fmt: skip

    def is_gate(self, event: int, raw: RawGate) -> bool:
        mark = self.places.mark(raw.features)
        gate, features = raw.values, raw.features
        if mark is None or features.ndim < 2 or not features.is_floating_point():
            return False
        with _off():
            if gate.numel() > features.numel() or (gate.numel() == features.numel() and is_swish(raw)):
                return False
            found = gate_kind(raw, mark.cells)
        if found is None:
            return False
        name = _numbered(self.path.here, [s.name for s in self.gates.values()])
        self.gates[event] = GateSite(name, *found)
        return True


def _mixes_samples(cells: Tensor) -> bool:
    """Do the slots of one slice come from several photographs? (leading, n, 5)"""
    samples = cells[..., 4]
    known = samples < PADDED
    latest = torch.where(known, samples, -1).amax(1)
    return bool((latest > torch.where(known, samples, latest[:, None]).amin(1)).any())


def _written_elsewhere(outputs: Tokens, keys: Tokens) -> bool:
    """A query pooled from the whole image (GCViT) reads a window and its result is written into that window."""
    if keys.grid is None or outputs.grid is None or outputs.index.shape != keys.index.shape or keys.index.shape[1] == 1:
        return False
    same_everywhere = bool((outputs.index == outputs.index[:, :1]).all())
    return same_everywhere and not bool((keys.index == keys.index[:, :1]).all())


def _numbered(path: str, taken: list[str]) -> str:
    count = sum(name.partition("#")[0] == path for name in taken)
    return path if count == 0 else f"{path}#{count}"


_known: WeakKeyDictionary[nn.Module, dict[Any, Any]] = WeakKeyDictionary()


def memory_of(clf: Classifier) -> dict[Any, Any]:
    """What has been found out about a model; forgotten with the model."""
    return _known.setdefault(clf.module, {})


def remembered_as(clf: Classifier, x: Tensor, what: str) -> tuple[Any, ...]:
    kinds = hash(tuple(type(m) for m in modules_of(clf.module)))
    return (what, tuple(x.shape[1:]), x.dtype, x.device, kinds)


def is_alone(clf: Classifier) -> bool:
    """Whether the model is being found out about right now: nothing may be silenced then."""
    return bool(memory_of(clf).get("alone", False))


@contextmanager
def alone(clf: Classifier) -> Iterator[None]:
    """The model by itself: no head is silenced, and whoever watches it just now does not see this run."""
    memory, before = memory_of(clf), is_alone(clf)
    modes = [_pop_mode() for _ in range(_len_torch_function_stack())]
    others = [mode for mode in reversed(modes) if not isinstance(mode, Interceptor)]
    memory["alone"] = True
    for mode in others:
        _push_mode(mode)
    try:
        yield
    finally:
        for _ in others:
            _pop_mode()
        for mode in reversed(modes):
            _push_mode(mode)
        memory["alone"] = before


def study(clf: Classifier, x: Tensor) -> Anatomy:
    """The anatomy of a classifier at this input size; where places depend on the photograph, that of this batch.

    Args:
        x: (b, c, h, w), prepared.
    """
    memory, key = memory_of(clf), remembered_as(clf, x, "anatomy")
    with alone(clf), clf.fed(x):
        if key not in memory:
            pair = x[:1].repeat(2, *[1] * (x.ndim - 1))  # two samples, so that the batch axis shows
            try:
                found = _study(clf, pair)
            except (RuntimeError, ValueError, AssertionError):  # a model that is written for one photograph at a time
                found = _study(clf, x)
            memory[key] = (None, None) if found.moving else (None, found)
        batch, known = memory[key]
        version = 0 if x.is_inference() else x._version
        if known is None or (batch is not None and (batch[0]() is not x or batch[1] != version)):
            known = _study(clf, x)
            memory[key] = (weakref.ref(x), version), known
    found_here: Anatomy = known
    clf.must_name(found_here.classes)
    return found_here


@torch.no_grad()
def _study(clf: Classifier, x: Tensor) -> Anatomy:
    places, path = PlaceMode(), ModulePath(clf.module)
    student = _Student(places, path, len(x))
    layouts: dict[str, Layout] = {}
    idle: set[str] = set()

    def finished(name: str, inputs: Any, output: Any) -> None:
        given = {id(t) for t in tree_leaves(inputs)}
        found: dict[bool, Layout] = {}
        for item, tensor in enumerate(t for t in tree_leaves(output) if isinstance(t, Tensor)):
            mark = places.mark(tensor)
            if mark is None or not tensor.is_floating_point():
                continue
            with _off():
                layout = read_layout(name, item, mark.cells, tensor.shape, len(x), places.data_dependent)
            if layout is not None:
                found.setdefault(id(tensor) in given, layout)
                student.returned[name] = StorageWeakRef(tensor.untyped_storage())
        layouts.pop(name, None)
        if found:  # of several results the first that is the module's own
            layouts[name] = found.get(False) or found[True]
        (idle.discard if False in found else idle.add)(name)

    path.finished = finished
    with unchanged(clf.module, seed=0), path.follow():
        x = x.clone()
        places.start(x)
        with places, Interceptor(student):
            logits = logits_of(clf.module(x))
    known = frozenset(idle), frozenset(student.projections)
    return Anatomy(student.sites, student.gates, layouts, *known, places.data_dependent, logits.shape[-1])


@contextmanager
def _off() -> Iterator[None]:
    """Our own arithmetic is not part of the model."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        yield
