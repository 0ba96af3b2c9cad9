"""Sanity checks on methods whose answer is known: one that ignores the model, one that ignores the class."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor

import vizlib as vl
from vizlib.methods import table
from vizlib.methods.kinds import Method
from vizlib.types import Curve


def brightness(forward: object, x: Tensor, target: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """A map of the photograph and of no model."""
    return x.sum(1), {}


@pytest.fixture
def fraud(monkeypatch):
    monkeypatch.setitem(table.METHODS, "brightness", Method("brightness", brightness, "attribution", "", "nobody"))
    return "brightness"


@pytest.fixture(scope="module")
def clf():
    return tiny.classifier(tiny.vit())


def test_a_method_that_ignores_the_weights_is_seen(clf, fraud):
    found = vl.sanity.parameter_randomisation(clf, tiny.images(3), fraud, stages=3)
    torch.testing.assert_close(found.score, torch.ones(3, 4))
    assert "never falls below 0.5" in found.verdict
    assert "hardly notices the weights" in found.verdict


@pytest.mark.parametrize("method", ["gradcam", "saliency", "chefer"])
def test_methods_that_explain_notice(clf, method):
    before = copy.deepcopy(clf.module.state_dict())
    found = vl.sanity.parameter_randomisation(clf, tiny.images(6), method, stages=4)
    assert isinstance(found, Curve)
    assert found.fraction[0] == 0
    assert found.fraction[-1] == 1
    assert found.score.shape == (6, 5)
    assert (found.score[:, 0] == 1).all()
    assert found.score[:, 1:].mean() < 0.5
    assert all(torch.equal(v, before[k]) for k, v in clf.module.state_dict().items()), "the model is never changed"


def test_layers_become_random_from_the_output_downwards(clf):
    """With one stage per layer the head comes first: rollout, which reads no head, is untouched by it."""
    layers = [m for m in clf.module.modules() if list(m.parameters(recurse=False))]
    found = vl.sanity.parameter_randomisation(clf, tiny.images(2), "rollout", stages=len(layers))
    torch.testing.assert_close(found.score[:, 1], torch.ones(2))
    assert found.score[:, -1].abs().max() < 1


def test_class_blind_methods_are_named(clf):
    for method, blind in (("rollout", True), ("attention", True), ("gradcam", False), ("chefer", False)):
        found = vl.sanity.class_dependence(clf, tiny.images(3), method)
        assert ("Class-blind" in found.verdict) == blind, method
        assert vl.METHODS[method].class_blind == blind
        assert bool((found.value > 1 - 1e-5).all()) == blind


def test_the_same_class_twice_is_the_same_map(clf):
    found = vl.sanity.class_dependence(clf, tiny.images(2), "gradcam", target=1, against=1)
    torch.testing.assert_close(found.value, torch.ones(2))


def test_label_randomisation_compares_two_trainings(clf, fraud):
    other = replace(clf, module=tiny.randomise(tiny.vit(), seed=5).eval())
    x = tiny.images(4)
    assert vl.sanity.label_randomisation(clf, other, x, "gradcam").value.mean() < 0.5
    same = vl.sanity.label_randomisation(clf, other, x, fraud)
    torch.testing.assert_close(same.value, torch.ones(4))
    assert "hardly notices the labels" in str(same)
    with pytest.raises(ValueError, match="two classifiers of one architecture"):
        vl.sanity.label_randomisation(clf, tiny.classifier(tiny.CNN()), x, "gradcam")


def test_a_batch_makes_no_difference_unless_the_method_mixes_it(clf, monkeypatch):
    found = vl.sanity.batch_consistency(clf, tiny.images(3), "gradcam")
    assert found.value.max() < 1e-4
    assert "makes no difference" in str(found)

    def mixed(forward: object, x: Tensor, target: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return (x - x.mean(0)).sum(1) + x.sum(1), {}

    monkeypatch.setitem(table.METHODS, "mixed", Method("mixed", mixed, "attribution", "", "nobody"))
    found = vl.sanity.batch_consistency(clf, tiny.images(3), "mixed")
    assert "change the map" in str(found)


def test_maps_move_with_the_photograph(clf, fraud, monkeypatch):
    found = vl.sanity.translation_consistency(clf, tiny.images(3), fraud)
    torch.testing.assert_close(found.value, torch.ones(3), atol=1e-5, rtol=0)
    assert "moves with the photograph" in str(found)
    still = torch.rand(32, 32, generator=torch.Generator().manual_seed(1))

    def stays(forward: object, x: Tensor, target: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return still.expand(len(x), 32, 32), {}

    monkeypatch.setitem(table.METHODS, "stays", Method("stays", stays, "attribution", "", "nobody"))
    found = vl.sanity.translation_consistency(clf, tiny.images(3), "stays")
    assert found.value.abs().max() < 0.2
    assert "does not move along" in str(found)


def test_bad_input_is_told(clf):
    with pytest.raises(ValueError, match="one class per photograph"):
        vl.sanity.class_dependence(clf, tiny.images(2), target=[1, 2])
    with pytest.raises(ValueError, match="at least one stage"):
        vl.sanity.parameter_randomisation(clf, tiny.images(1), stages=0)
