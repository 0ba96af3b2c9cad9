"""What the head reads: the layer for class activation maps, and the tokens from which mass flows back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vizlib.capture.anatomy import Anatomy, alone, memory_of, remembered_as, study
from vizlib.capture.events import RawAttention, RawGate, Watcher
from vizlib.capture.intercept import Interceptor
from vizlib.capture.modules import ModulePath
from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier


@dataclass(frozen=True, eq=False)
class Reading:
    """What a random mixture of the logits depends on.

    Attributes:
        layers: module paths with a grid and a non-zero gradient at the patches, in the order in which they finish, up
            to the last at which a single logit depends on more than one of them.
        start: number of an attention operation -> (slots g·q,) bool: its results with a non-zero gradient.
    """

    layers: tuple[str, ...]
    start: dict[int, Tensor] = field(default_factory=dict)


class Follower(Watcher):
    """Follows the decisions of the study; the base of what later runs want to know."""

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy = anatomy

    def is_attention(self, event: int, raw: RawAttention) -> bool:
        return event in self.anatomy.sites

    def is_gate(self, event: int, raw: RawGate) -> bool:
        return event in self.anatomy.gates


class _Outputs(Follower):
    def __init__(self, anatomy: Anatomy) -> None:
        super().__init__(anatomy)
        self.outputs: dict[int, tuple[Tensor, torch.Size]] = {}

    def attention(self, event: int, raw: RawAttention) -> Tensor | None:
        if event in self.anatomy.sites:
            self.outputs[self.anatomy.sites[event].number] = (raw.output, raw.output.shape[:-2])
        return raw.output  # the model goes on with it, so that it has a gradient


def reading(clf: Classifier, x: Tensor) -> Reading:
    """What the head reads, found once per model and input size by one forward and backward."""
    memory, key, weights = memory_of(clf), remembered_as(clf, x, "reading"), _state_of_weights(clf)
    if key not in memory or memory[key][0] != weights:
        with alone(clf):
            memory[key] = weights, _read(clf, x[:1], study(clf, x[:1]))
    found: Reading = memory[key][1]
    return found


def _state_of_weights(clf: Classifier) -> int:
    """Changes when weights are loaded or trained: a head that was zero then has a gradient."""
    return hash(tuple((id(p), 0 if p.is_inference() else p._version) for p in clf.module.parameters()))


def _read(clf: Classifier, x: Tensor, anatomy: Anatomy) -> Reading:
    path, watcher = ModulePath(clf.module), _Outputs(anatomy)
    outputs: dict[str, Tensor] = {}

    def finished(name: str, inputs: Any, output: Any) -> Any:
        if name not in anatomy.layouts or name in anatomy.idle:
            return None
        tensor = anatomy.layouts[name].pick(output)
        # An alias goes on, so that only what reads the module's output counts and not what read the same tensor inside
        outputs.pop(name, None)
        outputs[name] = tensor.view_as(tensor)
        return anatomy.layouts[name].put(output, outputs[name])

    path.finished = finished
    with unchanged(clf.module, seed=0), path.follow(), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        with Interceptor(watcher):
            logits = logits_of(clf.module(x * 1))  # a model may write into its input, and a leaf forbids that
        mix = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        wanted = [t for t in (*outputs.values(), *(t for t, _ in watcher.outputs.values())) if t.requires_grad]
        found = _gradients((logits * mix).sum(), wanted)
        layers = _layers(clf, anatomy, outputs, found)
        while len(layers) > 1 and not _broad(anatomy, layers[-1], outputs, logits):
            layers.pop()
    return Reading(tuple(layers), _starts(anatomy, watcher, found))


def _gradients(score: Tensor, tensors: list[Tensor]) -> dict[int, Tensor]:
    """By the tensor's id, without those that the score does not depend on; the graph is kept."""
    found = torch.autograd.grad(score, tensors, allow_unused=True, retain_graph=True) if tensors else ()
    return {id(t): g for t, g in zip(tensors, found, strict=True) if g is not None}


def _layers(clf: Classifier, anatomy: Anatomy, outputs: dict[str, Tensor], gradients: dict[int, Tensor]) -> list[str]:
    """The layers of features whose patches the score depends on."""
    learned = {name for name, m in clf.module.named_modules() if any(True for _ in m.parameters())}
    layers: list[str] = []
    for name, tensor in outputs.items():
        before = anatomy.layouts[layers[-1]].grid if layers else None
        # A pooling to another grid (VGG's to 7 × 7, whatever the image) is no layer of features
        pooled = before is not None and name not in learned and anatomy.layouts[name].grid != before
        if not pooled and id(tensor) in gradients and _cells(anatomy, name, gradients[id(tensor)]):
            layers.append(name)
    return layers


def _broad(anatomy: Anatomy, name: str, outputs: dict[str, Tensor], logits: Tensor) -> bool:
    """Does a single logit depend on more than one patch of a layer? Behind a dense head that takes the best, no."""
    tensor = outputs[name]
    gradient = _gradients(logits[0].max(), [tensor]).get(id(tensor))
    return gradient is not None and _cells(anatomy, name, gradient) > 1


def _cells(anatomy: Anatomy, name: str, gradient: Tensor) -> int:
    """At how many places of a layer's output a gradient is not zero."""
    return int(anatomy.layouts[name].alone().features(gradient).any(1).sum())


def _starts(anatomy: Anatomy, watcher: _Outputs, gradients: dict[int, Any]) -> dict[int, Tensor]:
    found = {}
    sites = {s.number: s for s in anatomy.sites.values()}
    for number, (tensor, lead) in watcher.outputs.items():
        gradient = gradients.get(id(tensor))
        if gradient is not None:
            arranged = sites[number].arrangement.apply(gradient, lead, 1)  # (1, g, a, q, d)
            found[number] = arranged.abs().sum((2, 4))[0] > 0  # (g, q)
    return found


def cam_layer(clf: Classifier, x: Tensor) -> str:
    """The layer for class activation maps.

    It is the last module whose output lies on more than one image cell, that is no part of an attention operation and
    whose patches each logit depends on: a ResNet's last stage, the input of a ViT's last attention, a Swin's last norm.

    Raises:
        RuntimeError: there is no such layer.
    """
    anatomy, read = study(clf, x), reading(clf, x)
    inside = anatomy.owners - {""}
    outside = [n for n in read.layers if n and not any(n == o or n.startswith(o + ".") for o in inside)]
    outside = [n for n in outside if n not in anatomy.projections]
    if outside or read.layers:
        return (outside or list(read.layers))[-1]
    if not anatomy.layouts:
        raise RuntimeError(
            f"class activation maps need a layer with a spatial grid; {clf.name} has none at {tuple(x.shape[-2:])} px. "
            f"Try a larger image, or an attribution method such as 'saliency'."
        )
    raise RuntimeError(
        f"class activation maps need a layer that the logits depend on; in {clf.name} the gradient is zero at all "
        f"{len(anatomy.layouts)} layers with a grid. Is the head still at its zero initialisation? Load trained "
        f"weights."
    )
