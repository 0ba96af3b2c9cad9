"""Gates held still: at their own values nothing changes, at others the model is the one with that gate exchanged."""

from __future__ import annotations

import copy

import pytest
import timm
import tiny
import torch
from torch import Tensor, nn

from vizlib.capture.hold import hold
from vizlib.capture.trace import trace
from vizlib.models import zoo
from vizlib.models.architectures.registry import build
from vizlib.models.zoo_architectures import resnet
from vizlib.types import Classifier

MODELS = {
    "SE": lambda: zoo.build("seresnet"),
    "CBAM": lambda: zoo.build("cbam"),
    "BAM, 1 + sigmoid": lambda: build("resnet18_bam", num_classes=5),
    "coordinate attention, two axes": lambda: resnet(5, gate="coord"),
    "ECA": lambda: timm.create_model("ecaresnet26t", num_classes=5),
}


def classifier(name: str) -> Classifier:
    torch.manual_seed(0)
    return tiny.classifier(MODELS[name](), 64)


class Constant(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Tensor) -> Tensor:
        return x * self.values


@pytest.mark.parametrize("name", MODELS)
def test_held_at_their_own_values_nothing_changes(name: str) -> None:
    clf, x = classifier(name), tiny.images(2, 64)
    expected, gates = clf(x), trace(clf, x).gates
    assert gates
    with hold(clf, {path: gate.values for path, gate in gates.items()}):
        torch.testing.assert_close(clf(x), expected, atol=1e-5, rtol=1e-4)
        assert (clf(x.flip(0)) - expected.flip(0)).abs().max() > 1e-4  # the other photograph has gates of its own
    torch.testing.assert_close(clf(x), expected, atol=0, rtol=0)


@pytest.mark.parametrize("value", [0.25, torch.linspace(0, 1, 64).view(1, 64, 1, 1), torch.rand(2, 64, 1, 1)])
def test_equals_a_module_that_multiplies_by_constants(value: float | Tensor) -> None:
    clf, x, path = classifier("SE"), tiny.images(2, 64), "stages.1.0.attn_last"
    other = copy.deepcopy(clf.module)
    other.set_submodule(path, Constant(torch.as_tensor(value)))
    with hold(clf, {path: value}):
        found = clf(x)
    with torch.no_grad():
        torch.testing.assert_close(found, other(x), atol=1e-5, rtol=1e-4)


def test_maps_of_spatial_gates_are_held_too() -> None:
    clf, x = classifier("CBAM"), tiny.images(1, 64)
    path = "stages.2.0.attn_last.spatial"
    other = copy.deepcopy(clf.module)
    values = torch.rand(1, 1, 8, 8)
    other.set_submodule(path, Constant(values))
    with hold(clf, {path: values}), torch.no_grad():
        torch.testing.assert_close(clf(x), other(x), atol=1e-5, rtol=1e-4)
        held = trace(clf, x).gates
    assert torch.equal(held[path].values, values)
    assert {n: g.values.shape for n, g in held.items()} == {n: g.values.shape for n, g in trace(clf, x).gates.items()}


def test_gates_of_tokens_and_of_channels_last() -> None:
    class Net(nn.Module):
        def __init__(self, tokens: bool) -> None:
            super().__init__()
            self.tokens, self.conv, self.squeeze = tokens, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)
            self.head = nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).movedim(1, -1)
            x = x.flatten(1, 2) if self.tokens else x
            places = tuple(range(1, x.ndim - 1))
            x = x * self.squeeze(x.mean(places, keepdim=True)).sigmoid()
            return self.head((x * x).mean(places))

    for tokens in (False, True):
        clf, x = tiny.classifier(Net(tokens)), tiny.images(2)
        expected, (gate,) = clf(x), trace(clf, x).gates.values()
        assert gate.values.shape == (2, 4, 1, 1)
        with hold(clf, {gate.name: gate.values}):
            torch.testing.assert_close(clf(x), expected)
            assert (clf(x.flip(0)) - expected.flip(0)).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"stages.1.0.attn": 1.0}, "has no 'stages.1.0.attn'. Near ones: stages.1.0.attn_last"),
        ({"stages.1.0.attn_last": torch.rand(1, 63, 1, 1)}, r"fit its features \(1, 64, 16, 16\); got \(1, 63, 1, 1\)"),
        ({"stages.1.0.attn_last": torch.rand(64)}, r"got \(64,\). Take them from trace"),
    ],
)
def test_wrong_gates(gates: dict, message: str) -> None:
    clf, x = classifier("SE"), tiny.images(1, 64)
    before = clf(x)
    with hold(clf, gates), pytest.raises(ValueError, match=message):
        clf(x)
    torch.testing.assert_close(clf(x), before, atol=0, rtol=0)


def test_a_model_without_gates_says_so() -> None:
    clf = tiny.classifier(tiny.vit())
    with hold(clf, {"blocks.0": 1.0}), pytest.raises(ValueError, match="It has none at all"):
        clf(tiny.images(1))
