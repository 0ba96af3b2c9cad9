"""What is checked of each family, in four cells: class activation map, attention, rollout, gates.

A check returns what it found in a few words, "" where there is nothing to find, and raises AssertionError for a miss.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from families.subject import CORNERS, Subject, quarter
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from vizlib.attention import Attention
from vizlib.capture.anatomy import study
from vizlib.methods.rollout import rollout
from vizlib.methods.table import explain
from vizlib.running import logits_of, unchanged

GATES = re.compile(
    r"SEModule|SEModule\w*|SqueezeExcite|EffectiveS\w+|EcaModule|CecaModule|\w*EfficientChannelAttn|\w*Cbam\w*"
    r"|GlobalContext|SelectiveKernel|SplitAttn|\w*CoordAttn|GatherExcite|\w*LocalAttn\b(?<!NonLocalAttn)|StripAttn"
)


def cam(subject: Subject) -> str:
    """The map has the image's axes, and a change in one corner of the image shows most in that corner of the layer."""
    clf, x = subject.clf, subject.photos
    heat = explain(clf, x[:2], "gradcam", target=1)
    r, s = heat.values.shape[-2:]
    h, w = x.shape[-2:]
    assert min(r, s) > 1, f"grid {(r, s)}"
    assert 0.74 < (r / s) / (h / w) < 1.35, f"grid {(r, s)} of an image {(h, w)}"
    _, features = subject.run
    _moves((features[1:] - features[:1]).float().norm(dim=1), heat.layer)
    return f"{r}×{s}"


def _moves(change: Tensor, where: str) -> None:
    """A change (4, r, s) is strongest in the corner, in the order of CORNERS, where the photograph was changed.

    Each change is seen relative to its mean over the places, and each place relative to its mean over the changes: some
    changes of the photograph excite a random network everywhere, and some places react to everything.
    """
    assert bool(change.flatten(1).any(1).all()), f"{where}: nothing changes"
    share = change / change.mean((1, 2), keepdim=True)
    share = share / share.mean(0).clamp(min=1e-12)
    for corner, name in enumerate(CORNERS):
        each = torch.stack([share[corner][quarter(change.shape[-2:], q)].mean() for q in range(4)])
        found = CORNERS[int(each.argmax())]
        assert found == name, f"{where}: a change at the {name} shows at the {found}"


class _Softmaxes(TorchDispatchMode):
    """Counts what could be an attention operation on the image, knowing nothing of how the library finds them."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.count = 0
        self.of_image: Any = WeakIdKeyDictionary({image: True})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(t, Tensor) and t in self.of_image for t in tree_leaves((args, kwargs))):
            self.of_image.update({t: True for t in tree_leaves(out) if isinstance(t, Tensor)})
            self.count += bool(re.search(r"softmax|scaled_dot_product", str(func.overloadpacket)))
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
    anatomy = study(clf, x)
    gates = sum(g.activation == "softmax" for g in trace.gates.values())
    found = len(trace.attentions)
    assert found == len(anatomy.sites), f"{found} of {len(anatomy.sites)} operations recorded"
    assert found + gates == softmaxes.count, f"{found} operations and {gates} gates for {softmaxes.count} softmaxes"
    faults = [fault for op in trace.attentions.values() for fault in _faults(op)]
    assert not faults, f"{len(faults)} faults: {'; '.join(faults[:4])}"
    return f"{found}" if found else ""


def _faults(op: Attention) -> list[str]:
    if op.kind == "linear" and op.query is None and op.softmax is None:
        return []
    faults = []
    rows = op.weights().sum(-1)
    if not bool(((rows - 1).abs() < 1e-5).all()):
        faults.append(f"{op.name}: a row sums to {float(rows.flatten()[(rows - 1).abs().argmax()]):.6f}")
    off = (op.weights(applied=True) @ op.value - op.output).abs().max() / op.output.abs().max().clamp(min=1e-12)
    if not float(off) < 1e-4:
        faults.append(f"{op.name}: P·V is off by {float(off):.1e}")
    for what, tokens, tensor in (("keys", op.keys, op.value), ("queries", op.queries, op.query)):
        if tensor is None or tokens.grid is None or min(tokens.grid) < 4:  # fewer cells than a receptive field
            continue
        slots = tensor[1:].sub(tensor[:1]).square().sum(-1).mean(2)  # (4, g, n), mean over heads
        try:
            _moves(tokens.patches(tokens.scatter(slots)).sqrt(), f"{op.name} {what}")
        except AssertionError as fault:
            faults.append(str(fault))
    return faults


def rollouts(subject: Subject) -> str:
    """Mass is carried through every spatial operation, none is made on the way, and the map says something."""
    trace = subject.trace
    if not trace.attentions:
        return ""
    spatial = {name for name, op in trace.attentions.items() if op.kind == "spatial"}
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


CHECKS: dict[str, Callable[[Subject], str]] = {"cam": cam, "attention": attention, "rollout": rollouts, "gates": gates}
