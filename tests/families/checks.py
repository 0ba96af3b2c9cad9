"""What is checked of each family, in cells: class activation map, places, attention, rollout, gates.

A check returns what it found in a few words, "" where there is nothing to find, and raises AssertionError for a miss.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from families.subject import CORNERS, DRAWS, Subject, quarter
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from vizlib.attention import Attention
from vizlib.methods.rollout import rollout
from vizlib.methods.table import explain
from vizlib.running import logits_of, unchanged

GATES = re.compile(
    r"SEModule|SEModule\w*|SqueezeExcite|EffectiveS\w+|EcaModule|CecaModule|\w*EfficientChannelAttn|\w*Cbam\w*"
    r"|GlobalContext|SelectiveKernel|SplitAttn|\w*CoordAttn|GatherExcite|\w*LocalAttn\b(?<!NonLocalAttn)|StripAttn"
)


def cam(subject: Subject) -> str:
    """There is a map, and its grid has the image's axes."""
    heat = explain(subject.clf, subject.photos[:2], "gradcam", target=1)
    (r, s), (h, w) = heat.values.shape[-2:], subject.photos.shape[-2:]
    assert min(r, s) > 1, f"grid {(r, s)}"
    assert 0.74 < (r / s) / (h / w) < 1.35, f"grid {(r, s)} of an image {(h, w)}"
    return f"{r}×{s}"


def places(subject: Subject) -> str:
    """A change in one quarter of the image shows most in that quarter of the layer, and of each operation's tokens."""
    trace, features = subject.run
    seen = {"the layer": _local(features.flatten(2), (2,)).norm(dim=1).unflatten(1, features.shape[-2:])}
    for op in trace.attentions.values():
        for what, tokens, tensor in (("keys", op.keys, op.value), ("queries", op.queries, op.query)):
            if tensor is None or tokens.grid is None or min(tokens.grid) < 4:  # a token sees more than a quarter
                continue
            slots = _local(tensor, (1, 3)).square().sum(-1).mean(2)  # (4·DRAWS, g, n), mean over heads
            seen[f"{what} of {op.name}"] = tokens.patches(tokens.scatter(slots)).sqrt()
    faults = [f"{where}: {fault}" for where, change in seen.items() for fault in _moved(change)]
    assert not faults, f"{len(faults)} faults: {'; '.join(faults[:4])}"
    return f"{len(seen)}"


def _local(tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
    """How the photographs differ from the first (1 + 4·DRAWS, …), without what changes alike at all places (`dims`).

    Gates, pooling and attention spread evenly change everything everywhere.
    """
    change = (tensor[1:] - tensor[:1]).float()
    return change - change.mean(dims, keepdim=True)


def _moved(change: Tensor) -> list[str]:
    """A change (4·DRAWS, r, s) is strongest in the corner, in the order of CORNERS, where the photograph was changed.

    Each change is seen relative to its mean over the places, and each place relative to its mean over the changes: some
    changes excite a random network everywhere, and some places react to everything.
    """
    share = change / change.mean((1, 2), keepdim=True).clamp(min=1e-12)
    share = share.unflatten(0, (4, DRAWS)).mean(1)
    share = share / share.mean(0).clamp(min=1e-12)
    faults = []
    for corner, name in enumerate(CORNERS):
        each = torch.stack([share[corner][quarter(change.shape[-2:], q)].mean() for q in range(4)])
        found = CORNERS[int(each.argmax())]
        if found != name:
            faults.append(f"a change at the {name} shows at the {found}")
    return faults


class _Softmaxes(TorchDispatchMode):
    """The sizes of what could be an attention matrix of the image, knowing nothing of how the library finds them."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.sizes: Counter[int] = Counter()
        self.of_image: Any = WeakIdKeyDictionary({image: True})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t in self.of_image for t in tree_leaves((args, kwargs))):
            self.of_image.update({t: True for t in tree_leaves(out) if isinstance(t, Tensor)})
            name = str(func.overloadpacket)
            if "softmax" in name:
                self.sizes[out.numel()] += 1
            elif "scaled_dot_product" in name:
                self.sizes[args[0].shape[:-1].numel() * args[1].shape[-2]] += 1
        return out


class _Idle(TorchFunctionMode):
    """Does nothing, but turns the fused inference path of nn.MultiheadAttention off, as every capture does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def attention(subject: Subject) -> str:
    """Every softmax is accounted for; rows sum to 1; P·V is what the model went on with; the logits stay the same."""
    clf, x = subject.clf, subject.photos
    with torch.no_grad(), unchanged(clf.module), _Idle():
        plain = logits_of(clf.module(x))
        with _Softmaxes(x) as softmaxes:
            clf.module(x)
    trace = subject.trace
    assert bool(plain.isfinite().all()), "logits that are not finite"
    assert torch.equal(plain, trace.logits), "the logits change"
    own = [op for op in trace.attentions.values() if op.softmax is not None or op.query is not None]  # with a softmax
    found = Counter(math.prod(op.shape if op.inner is None else (*op.shape[:-1], op.inner.shape[-2])) for op in own)
    assert not found - softmaxes.sizes, f"matrices of sizes {found - softmaxes.sizes} that the model never made"
    left = (softmaxes.sizes - found).total()
    gates = sum(g.activation == "softmax" for g in trace.gates.values())
    assert left == gates, f"{found.total()} operations and {gates} gates for {softmaxes.sizes.total()} softmaxes"
    faults = [fault for op in trace.attentions.values() for fault in _faults(op)]
    assert not faults, f"{len(faults)} faults: {'; '.join(faults[:4])}"
    return f"{len(trace.attentions)}" if trace.attentions else ""


def _faults(op: Attention) -> list[str]:
    faults = []
    rows = op.weights().sum(-1)
    if op.inner is not None:  # a query whose features match no key's attends to nothing, and its result is nothing
        rows = torch.where((rows == 0) & (op.output == 0).all(-1), 1, rows)
    if not op.signed and not bool(((rows - 1).abs() < 1e-5).all()):
        faults.append(f"{op.name}: a row sums to {float(rows.flatten()[(rows - 1).abs().argmax()]):.6f}")
    off = (op.weights(applied=True) @ op.value - op.output).abs().max() / op.output.abs().max().clamp(min=1e-12)
    if not float(off) < 1e-4:
        faults.append(f"{op.name}: P·V is off by {float(off):.1e}")
    return faults


def rollouts(subject: Subject) -> str:
    """Mass is carried through every spatial operation, none is made on the way, and the map says something."""
    trace = subject.trace
    if not trace.attentions:
        return ""
    spatial = {name for name, op in trace.attentions.items() if op.kind == "spatial" or op.inner is not None}
    assert spatial, trace.obstacle
    assert not trace.obstacle, trace.obstacle
    assert {n for step in trace.steps for n in step} == spatial, "an operation is in no step"
    values = rollout(trace)
    total = values.sum((1, 2))
    assert bool((total <= 1 + 1e-4).all()), f"mass {total.tolist()}"
    assert bool((total > 0.01).all()), f"mass {total.tolist()}"
    assert bool((values.amax((1, 2)) > values.amin((1, 2)) * (1 + 1e-4)).all()), "the map is constant"
    return f"{len(spatial)} in {len(trace.steps)} steps"


def gates(subject: Subject) -> str:
    """Every module of a known gate class owns a gate, and its values fit the features."""
    trace = subject.trace
    known = [n for n, m in subject.clf.module.named_modules() if GATES.fullmatch(type(m).__name__)]
    owned = [n for n in known if any(g.startswith(n) for g in trace.gates)]
    missed = sorted(set(known) - set(owned))
    assert not missed, f"no gate in {len(missed)} of {len(known)}: {missed[:3]}"
    for gate in trace.gates.values():
        assert gate.values.shape[0] in (1, len(trace.input)), f"{gate.name}: {tuple(gate.values.shape)}"
        channels, rest = gate.values.shape[1], gate.values[0].numel()
        fits = {"channel": rest == channels, "spatial": channels == 1}.get(gate.kind, True)
        assert fits, f"{gate.name}, {gate.kind}: {tuple(gate.values.shape)}"
    return f"{len(trace.gates)}" if trace.gates else ""


CHECKS: dict[str, Callable[[Subject], str]] = {
    "cam": cam, "places": places, "attention": attention, "rollout": rollouts, "gates": gates,
}  # fmt: skip
