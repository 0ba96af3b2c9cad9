"""Which maps are judged: of these photographs, of this model, made as they say; flat ones; and input that is told."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from measured import SIZE, corner, truth
from torch import nn
from torch.nn.functional import interpolate

import vizlib as vl
from vizlib.measure.evaluation import Evaluation
from vizlib.measure.localisation import pointing_game
from vizlib.types import Classifier


@pytest.fixture
def cnn() -> Classifier:
    return tiny.classifier(tiny.CNN())


@pytest.fixture
def vit() -> Classifier:
    return tiny.classifier(tiny.vit(), name="tiny vit")


@pytest.mark.parametrize(
    ("method", "options"),
    [("rollout", {"discard": 0.9, "fusion": "max"}), ("attention", {"query": (0.4, 0.6), "head": 1})],
)
def test_maps_are_made_again_with_their_options(vit, method, options):
    x = tiny.images(4)
    heat = vl.explain(vit, x, method, **options)
    assert heat[1].options == options
    still = vl.faithfulness(vit, x, heat, "stability", radius=0.0, samples=1)
    torch.testing.assert_close(still.value, torch.zeros(4), atol=1e-5, rtol=0)
    plain = vl.faithfulness(vit, x, method, "grid_pointing", target=torch.arange(4), draws=0)
    asked = vl.faithfulness(vit, x, heat, "grid_pointing", target=torch.arange(4), draws=0)
    assert not torch.allclose(plain.value, asked.value)


def test_maps_that_the_method_does_not_make_are_refused(cnn, vit):
    x = tiny.images(2)
    heat = vl.explain(cnn, x, "gradcam", target=1)
    for changed, target in (
        (replace(heat, values=heat.values.relu() + 1), None),
        (heat, 2),
        (vl.explain(cnn, x, "gradcam", target=lambda logits: logits[:, 1] - logits[:, 2]), 1),
    ):
        with pytest.raises(ValueError, match="stability makes the maps again and needs them as gradcam makes them"):
            vl.faithfulness(cnn, x, changed, "stability", target=target)
    with pytest.raises(ValueError, match="needs a method of METHODS, on tiny vit; got maps of 'gradcam' on tiny"):
        vl.faithfulness(vit, x, heat, "stability")


def test_maps_of_other_photographs_are_refused(cnn):
    x = interpolate(tiny.images(3, 4), (32, 32), mode="bilinear")
    heat = vl.explain(cnn, x)
    with pytest.raises(ValueError, match="as tiny sees them; those of photograph 0, 2 show something else"):
        vl.faithfulness(cnn, x.flip(0), heat)
    larger = replace(heat, image=interpolate(heat.image, (64, 64), mode="bilinear"))
    assert vl.faithfulness(cnn, x, larger, steps=2, draws=0).value.isfinite().all()
    with pytest.raises(ValueError, match="show something else"):
        vl.faithfulness(cnn, x.flip(0), larger)


def test_the_judge_of_another_models_map_is_named(cnn, vit):
    x = tiny.images(2)
    heat = vl.explain(cnn, x, target=3)
    found = vl.faithfulness(vit, x, heat, steps=2, draws=0)
    assert "of gradcam on tiny, judged by tiny vit, 2 photographs" in str(found)
    assert torch.equal(found.auc, vl.faithfulness(vit, x, heat.values, steps=2, target=3, draws=0).auc)
    assert "judged by" not in str(vl.faithfulness(cnn, x, heat, steps=2, draws=0))
    other = replace(vit, labels=("cat", "coffee", "dog", "tea", "rocket"))
    with pytest.raises(ValueError, match="'rocket' of tiny is 'tea' in tiny vit"):
        vl.faithfulness(other, x, heat)
    with pytest.raises(ValueError, match="a class index from 0 to 4 is needed; got 7"):
        vl.faithfulness(cnn, x, replace(heat, target=torch.tensor([1, 7])))
    with pytest.raises(ValueError, match="speak about a score of your own"):
        vl.faithfulness(cnn, x, vl.explain(cnn, x, target=lambda logits: logits[:, 0]))


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_flat_map_gets_what_chance_gets(level):
    """0.3 everywhere, scaled up, is not the same everywhere to the last bit."""
    clf, ones, flat = corner(), torch.ones(1, 3, SIZE, SIZE), torch.full((1, 7, 7), level)
    masks = truth(1).bool()

    def score(metric: str, **options: object) -> float:
        found = vl.faithfulness(clf, ones, flat, metric, draws=2, target=1, **options)
        assert "The map is flat, the same everywhere, and says nothing" in str(found)
        assert "etter than" not in str(found)
        assert not any(found.beats.values())
        return found.value.item()

    assert score("pointing_game", where=masks) == 0.25
    assert score("sparsity") == pytest.approx(0, abs=1e-6)
    assert score("complexity") == pytest.approx(math.log(SIZE * SIZE))
    for metric in ("deletion", "insertion", "road", "infidelity", "sensitivity_n", "average_drop", "increase"):
        assert math.isfinite(score(metric))


def test_stability_of_a_map_that_was_zero_is_finite(cnn):
    ask = Evaluation(cnn, tiny.images(2), torch.zeros(2, 4, 4), None, 8, lambda x, _: torch.eye(2)[:, :, None] * 3)
    assert vl.METRICS["stability"].function(replace(ask, maps=torch.zeros(2, 2, 1))).tolist() == [1, 1]
    still = replace(ask, maps=torch.zeros(2, 4, 4), again=lambda x, _: torch.zeros(2, 4, 4))
    assert vl.METRICS["stability"].function(still).tolist() == [0, 0]


class Sure(nn.Module):
    """Class 0 beyond doubt: the probability of class 1 is below the smallest number in float32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        light = x.mean((1, 2, 3))
        return torch.stack([300 * light, -300 * light], 1)


def test_the_drop_of_a_probability_that_underflows():
    clf, ones = replace(corner(), module=Sure()), torch.ones(1, 3, SIZE, SIZE)
    full, half = torch.ones(1, SIZE, SIZE), truth()
    for target, drop, higher in ((1, 0, 1), (0, 0, 0)):
        options = {"target": target, "baseline": 0.0, "draws": 0}
        assert vl.faithfulness(clf, ones, full, "average_drop", **options).value.item() == 0
        assert vl.faithfulness(clf, ones, half, "average_drop", **options).value.item() == drop
        assert vl.faithfulness(clf, ones, half, "increase", **options).value.item() == higher
    dark = vl.faithfulness(clf, -ones / 300, half, "average_drop", target=1, baseline=0.0, draws=0).value.item()
    before, after = (1 / (1 + math.exp(-2 * light)) for light in (1, 0.25))
    assert dark == pytest.approx((before - after) / before, abs=1e-6)


def test_the_tolerance_of_the_pointing_game():
    """From the quarter's edge at row and column 7 to (10, 11): 3 and 4 pixels, 5 in all."""
    maps = torch.zeros(1, SIZE, SIZE)
    maps[0, 10, 11] = 1
    for tolerance, hit in ((0, 0), (4, 0), (5, 1)):
        options = {"where": truth().bool(), "tolerance": tolerance, "draws": 0}
        found = vl.faithfulness(corner(), torch.ones(1, 3, SIZE, SIZE), maps, "pointing_game", **options)
        assert found.value.item() == hit


def test_places_that_share_the_largest_value_share_the_hit():
    maps = torch.zeros(1, 4, 4)
    maps[0, 0, 0] = maps[0, 3, 3] = maps[0, 3, 2] = maps[0, 0, 1] = 2
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = True
    ask = Evaluation(corner(), torch.zeros(1, 3, 4, 4), maps, torch.zeros(1), 1, lambda x, _: x, masks)
    assert pointing_game(ask).item() == 0.25


def test_least_important_first_is_better_where_it_is_higher():
    """Taking the least important pixels first, the true map keeps its class, and that is better than random maps."""
    x = torch.ones(6, 3, SIZE, SIZE)
    x[:, :, SIZE // 2 :] = x[:, :, :, SIZE // 2 :] = -1.0
    found = vl.faithfulness(corner(), x, truth(6), "road", target=1, order="least", shares=(0.25, 0.5, 0.7))
    assert found.beats["random"]
    assert found.verdict.endswith("Better than a random map and a centre Gaussian.")


def test_arrays_and_lists_are_taken_as_tensors_are(cnn):
    x, maps = tiny.images(2), np.random.default_rng(0).random((2, 32, 32))
    expected = vl.faithfulness(cnn, x, torch.from_numpy(maps), steps=2, draws=0).auc
    assert torch.equal(vl.faithfulness(cnn, x, maps, steps=2, draws=0).auc, expected)
    assert torch.equal(vl.faithfulness(cnn, x, maps[:, ::-1], steps=2, draws=0).auc,
                       vl.faithfulness(cnn, x, maps[:, ::-1].copy(), steps=2, draws=0).auc)  # fmt: skip
    masks = maps > 0.5
    whole = vl.faithfulness(cnn, x, maps, "energy_in_box", where=masks, draws=0).value
    assert torch.equal(vl.faithfulness(cnn, x, maps, "energy_in_box", where=list(masks), draws=0).value, whole)


@pytest.mark.parametrize(
    ("metric", "options", "match"),
    [
        ("deletion", {"batch": 0}, "batch needs a whole number of at least 1; got 0. Give one, or leave batch out"),
        ("deletion", {"draws": -1}, "draws needs a whole number of at least 0; got -1"),
        ("deletion", {"steps": 2.5}, "steps needs a whole number of at least 1; got 2.5"),
        ("deletion", {"cells": 1}, "cells needs a whole number of at least 2; got 1"),
        ("deletion", {"cells": 33}, "at most 32 cells fit the shorter side; got 33. Take fewer"),
        ("stability", {"samples": 0}, "samples needs a whole number of at least 1; got 0"),
        ("sensitivity_n", {"samples": 1}, "samples needs a whole number of at least 3; got 1"),
        ("grid_pointing", {"k": 0}, "k needs a whole number of at least 2; got 0"),
        ("grid_pointing", {"k": 1}, "k needs a whole number of at least 2; got 1"),
        ("road", {"shares": 0.5}, "shares need a tuple of numbers between 0 and 1; got 0.5. Take"),
        ("road", {"shares": ()}, "between 0 and 1; got \\(\\)"),
        ("sensitivity_n", {"shares": "half"}, "between 0 and 1; got 'half'"),
        ("pointing_game", {"tolerance": -1, "where": torch.ones(2, 32, 32)}, "tolerance needs a whole number"),
        ("pointing_game", {"where": 5}, "masks \\(b, h, w\\) or boxes of four numbers; got 5. Pass xmin"),
        ("pointing_game", {"where": [torch.ones(32, 32)]}, "masks need the shape \\(2, 32, 32\\); got \\(1, 32, 32\\)"),
        (["deletion"], {}, "a metric is needed; got \\['deletion'\\]"),
    ],
)
def test_bad_options_are_told(cnn, metric, options, match):
    x = tiny.images(2)
    with pytest.raises(ValueError, match=match):
        vl.faithfulness(cnn, x, vl.explain(cnn, x), metric, **options)


def test_a_metric_that_does_not_ask_the_model_has_no_references(cnn):
    x = tiny.images(2)
    found = vl.faithfulness(cnn, x, "gradcam", "sparsity")
    assert found.references == found.beats == {}
    assert str(found).endswith("higher is better. It does not ask the model: a map can be simple and wrong.")
    assert "etter than" not in str(vl.faithfulness(cnn, x, "gradcam", "stability", samples=1))
