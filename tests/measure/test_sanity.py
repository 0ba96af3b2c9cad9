"""Sanity checks on methods whose answer is known: one that ignores the model, one that ignores the class."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import tiny
import torch
from torch import Tensor

import vizlib as vl
from vizlib.measure.sanity import _notice
from vizlib.measure.verdict import FEW
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
    found = vl.sanity.parameter_randomisation(clf, tiny.images(FEW), fraud, stages=3)
    torch.testing.assert_close(found.score, torch.ones(FEW, 4))
    assert "never falls below 0.5" in found.verdict
    assert "hardly notices the weights" in found.verdict
    assert found.method == fraud


def test_a_claim_is_what_the_interval_carries():
    """Likeness (b, t) after half of the layers: far below, far above, on both sides, and of too few photographs."""
    fraction = torch.tensor([0.0, 0.5, 1.0])

    def said(*late):
        likeness = torch.tensor(late)
        return _notice(fraction, torch.stack([torch.ones(len(late)), likeness, likeness], 1), "it")

    assert "depends on the weights near the output" in said(*[0.1, 0.2] * 4)
    assert "hardly notices the weights" in said(*[0.8, 0.9] * 4)
    unsure = said(*[0.0, 0.9] * 4)
    assert "falls below 0.5" in unsure
    assert "8 photographs" in unsure
    assert "take more photographs" in unsure
    few = said(0.1, 0.1)
    assert f"take {FEW} photographs or more" in few
    assert not {"depends", "notices"} & {*unsure.split(), *few.split()}


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
    x = tiny.images(FEW)
    assert vl.sanity.label_randomisation(clf, other, x, "gradcam").value.mean() < 0.5
    same = vl.sanity.label_randomisation(clf, other, x, fraud)
    torch.testing.assert_close(same.value, torch.ones(FEW))
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
    found = vl.sanity.translation_consistency(clf, tiny.images(FEW), fraud)
    torch.testing.assert_close(found.value, torch.ones(FEW), atol=1e-5, rtol=0)
    assert "moves with the photograph" in str(found)
    still = torch.rand(32, 32, generator=torch.Generator().manual_seed(1))

    def stays(forward: object, x: Tensor, target: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
        return still.expand(len(x), 32, 32), {}

    monkeypatch.setitem(table.METHODS, "stays", Method("stays", stays, "attribution", "", "nobody"))
    found = vl.sanity.translation_consistency(clf, tiny.images(FEW), "stays")
    assert found.value.abs().max() < 0.2
    assert "does not move along" in str(found)


@pytest.mark.parametrize("shift", [(-8, 8), (3, -5), (-1, -1), (0, 4)])
def test_maps_move_in_every_direction(clf, fraud, shift):
    found = vl.sanity.translation_consistency(clf, tiny.images(2), fraud, shift=shift)
    torch.testing.assert_close(found.value, torch.ones(2), atol=1e-5, rtol=0)


def test_flat_maps_are_alike_and_differ_by_nothing(clf, monkeypatch):
    """The first photograph's map is zero everywhere, whatever is asked."""

    def partly(forward: object, x: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return x.sum(1) * (target + 1)[:, None, None] * (x[:, 0, 0, 0] != first)[:, None, None], {}

    x = tiny.images(3)
    first = x[0, 0, 0, 0]
    monkeypatch.setitem(table.METHODS, "partly", Method("partly", partly, "attribution", "", "nobody"))
    monkeypatch.setattr(vl.sanity, "explain", without_refusals(vl.sanity.explain))
    with pytest.warns(UserWarning, match="says nothing"):
        found = vl.sanity.class_dependence(clf, x, "partly")
    assert "Class-blind" in str(found)
    with pytest.warns(UserWarning, match="says nothing"):
        found = vl.sanity.batch_consistency(clf, x, "partly")
    assert found.value.tolist() == [0, 0, 0]


def without_refusals(explain):
    """A flat map made alone is refused: here it is made beside another one."""

    def made(clf, x, method, *, target):
        if len(x) > 1:
            return explain(clf, x, method, target=target)
        return explain(clf, torch.cat([x, x + 1]), method, target=target.repeat(2))[:1]

    return made


def test_options_go_to_the_method_in_every_check(clf):
    """The map at the first block differs from the one at the method's own layer, so does what is said about it."""
    x, other = tiny.images(2), replace(clf, module=tiny.randomise(tiny.vit(), seed=5).eval())
    checks = ("parameter_randomisation", "class_dependence", "batch_consistency", "translation_consistency")
    asked = [partial(getattr(vl.sanity, name), clf, x) for name in checks]
    for ask in (*asked, partial(vl.sanity.label_randomisation, clf, other, x)):
        assert not torch.equal(ask().value, ask(layer="blocks.0").value), ask.func.__name__
        with pytest.raises(ValueError, match="has no option 'fusion'"):
            ask(fusion="max")


def test_bad_input_is_told(clf):
    for name in ("parameter_randomisation", "class_dependence", "batch_consistency", "translation_consistency"):
        with pytest.raises(TypeError, match=rf"{name} needs a Classifier; got str\. Use vl\.load"):
            getattr(vl.sanity, name)("zoo/vit", tiny.images(2))
    with pytest.raises(TypeError, match="label_randomisation needs a Classifier"):
        vl.sanity.label_randomisation(clf, "zoo/vit", tiny.images(2))
    with pytest.raises(ValueError, match="a shift within 32 × 32 pixels"):
        vl.sanity.translation_consistency(clf, tiny.images(2), shift=(0, -32))
    with pytest.raises(ValueError, match="one class per photograph"):
        vl.sanity.class_dependence(clf, tiny.images(2), target=[1, 2])
    with pytest.raises(ValueError, match="at least one stage"):
        vl.sanity.parameter_randomisation(clf, tiny.images(1), stages=0)
