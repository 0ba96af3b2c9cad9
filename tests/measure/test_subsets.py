"""Sensitivity-n and infidelity: on a model whose contributions are known, beside Captum, and how noisy they are."""

from __future__ import annotations

from itertools import islice

import pytest
import tiny
import torch
from captum.metrics import infidelity as by_captum
from measured import SIZE, corner, truth
from torch import Tensor

import vizlib as vl
from vizlib.measure import subsets
from vizlib.measure.baselines import baseline_of
from vizlib.measure.evaluation import Evaluation


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) + 0.5


def test_a_map_that_adds_up_is_perfect(x):
    """Of a linear model the exact contributions are known: correlation 1, infidelity 0; reversed, -1."""
    clf = corner()
    exact = (x - 0.5).mean(1) * 0.1 * truth(3)
    found = vl.faithfulness(clf, x, exact, "sensitivity_n", target=1, baseline=0.5, draws=0)
    torch.testing.assert_close(found.value, torch.ones(3), atol=1e-4, rtol=0)
    turned = vl.faithfulness(clf, x, -exact, "sensitivity_n", target=1, baseline=0.5, draws=0)
    torch.testing.assert_close(turned.value, -torch.ones(3), atol=1e-4, rtol=0)
    for normalise, maps in ((False, exact), (True, 7 * exact)):
        missed = vl.faithfulness(
            clf, x, maps, "infidelity", target=1, baseline=0.5, normalise=normalise, samples=9, batch=4, draws=0
        )
        torch.testing.assert_close(missed.value, torch.zeros(3), atol=1e-5, rtol=0)
    wrong = vl.faithfulness(clf, x, exact.flip(1), "infidelity", target=1, baseline=0.5, draws=0)
    assert (wrong.value > 0.01).all()


def test_infidelity_knows_the_sign_and_the_place(x):
    """The true map is best; one that is the same everywhere foretells less; one that is turned round does worst."""
    clf = corner()

    def score(maps: Tensor) -> Tensor:
        return vl.faithfulness(clf, x, maps, "infidelity", target=1, draws=0).value

    good = x.mean(1) * truth(3)
    right, turned, constant, nothing = (score(m) for m in (good, -good, torch.ones_like(good), 0 * good))
    assert (right < 0.5 * constant).all()
    assert (constant < turned).all()
    torch.testing.assert_close(turned, nothing)
    torch.testing.assert_close(score(9 * good), right)


@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_equals_captums(normalise):
    """The same squares; theirs may take a factor below 0, so maps are taken whose factor is above it."""
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(3)
    target, maps = clf(x).argmax(1), tiny.images(3).mean(1).relu()
    ask = Evaluation(clf, x, maps, target, 4, lambda photos, _: photos)
    hidden = baseline_of(clf, x, "grey")
    left = iter(subsets._squares(ask, 20, subsets.SIDES).repeat(3, 1, 1)[:, None])

    def squares(images: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.stack(list(islice(left, len(images))))
        return mask.expand_as(images) / 3, torch.where(mask, hidden[:1], images)

    attributions, options = maps[:, None].expand_as(x), {"n_perturb_samples": 20, "normalize": normalise}
    theirs = by_captum(clf.module, squares, x, attributions, target=target, **options)
    ours = vl.faithfulness(clf, x, maps, "infidelity", samples=20, normalise=normalise, target=target, draws=0).value
    assert (theirs > 0).all()
    torch.testing.assert_close(ours, theirs)


def test_squares_lie_inside_at_every_size():
    ask = Evaluation(tiny.classifier(tiny.CNN()), torch.zeros(1, 3, 20, 40), torch.zeros(1, 20, 40), None, 1, None)
    drawn = subsets._squares(ask, 300, (0.1, 0.5))
    heights, widths = (drawn.any(axis).sum(1) for axis in (2, 1))
    assert torch.equal(heights, widths)
    assert torch.equal(drawn.sum((1, 2)), heights * widths)
    assert set(heights.tolist()) == set(range(2, 11))
    assert drawn.any(0)[1:-1, 1:-1].all()


def test_sensitivity_n_is_as_noisy_as_it_says():
    """A standard error of 0.1 for one photograph, where the map has little to do with the model."""
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(6)
    maps = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0))
    found = [vl.faithfulness(clf, x, maps, "sensitivity_n", draws=0, seed=seed).value for seed in range(12)]
    assert float(torch.stack(found).std(0).mean()) == pytest.approx(0.1, rel=0.25)


def test_bad_options_are_told(x):
    clf = corner()
    for metric, options, match in (
        ("infidelity", {"samples": 0}, "samples needs a whole number of at least 1; got 0"),
        ("infidelity", {"sides": (0.5, 0.1)}, "two shares of the shorter side"),
        ("sensitivity_n", {"samples": 2}, "at least 3; got 2"),
        ("sensitivity_n", {"shares": (0.0,)}, "between 0 and 1"),
        ("sensitivity_n", {"subsets": torch.ones(2, 3, 3)}, "subsets need the shape"),
    ):
        with pytest.raises(ValueError, match=match):
            vl.faithfulness(clf, x, truth(3), metric, draws=0, **options)
