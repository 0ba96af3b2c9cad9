"""The metrics beside those of Quantus (Hedström et al. 2023, arXiv 2202.06861), on settings that both share.

Quantus spreads a map over the colour channels and takes single channels of pixels away; a classifier of one channel
makes the two alike. Its SensitivityN correlates over the photographs of a batch and not over subsets, so that ours
stands beside its faithfulness correlation, which is sensitivity-n with one n.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import vizlib as vl
from vizlib.measure.imputation import impute

quantus = pytest.importorskip("quantus", reason="needs Quantus: pip install --no-deps quantus cachetools")
SIZE, CLOSE = 16, 1e-4
PLAIN = {"abs": False, "normalise": False, "disable_warnings": True, "return_aggregate": False}


@pytest.fixture
def case():
    """A classifier, photographs, maps without equal values, and predicted classes."""
    clf, x = tiny.classifier(tiny.CNN(), SIZE), tiny.images(3, SIZE)
    coarse = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(8))
    noise = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(9))
    maps = interpolate(coarse, (SIZE, SIZE), mode="bilinear")[:, 0] + 0.01 * noise
    return clf, x, maps, clf(x).argmax(1)


def theirs(metric, clf, x: Tensor, maps: Tensor, target: Tensor, **more) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = {"x_batch": x.numpy(), "y_batch": target.numpy(), "a_batch": maps[:, None].numpy().copy()}
        return np.array(metric(model=clf.module, channel_first=True, device="cpu", **arrays, **more))


def test_pixel_flipping_is_deletion(case):
    clf, x, maps, target = case
    one, grey = tiny.classifier(OneChannel(clf.module), SIZE), x.mean(1, keepdim=True)
    metric = quantus.PixelFlipping(features_in_step=16, perturb_baseline=0.3, **PLAIN)
    expected = theirs(metric, one, grey, maps, target, softmax=True)
    ours = vl.faithfulness(gray(one), grey, maps, "deletion", steps=16, baseline=0.3, target=target, draws=0)
    np.testing.assert_allclose(ours.score[:, 1:].numpy(), expected, atol=CLOSE)  # theirs begins after the first step


def test_road_fills_in_the_same_pixels(case):
    _, x, maps, _ = case
    from quantus.functions.perturb_func import noisy_linear_imputation

    count = round(0.3 * SIZE * SIZE)
    gone = torch.zeros(3, SIZE * SIZE, dtype=torch.bool)
    gone.scatter_(1, maps.flatten(1).argsort(1, descending=True)[:, :count], True)
    ours = impute(x, gone.view(3, SIZE, SIZE), tolerance=1e-6)
    for i in range(3):
        where = gone[i].nonzero().flatten().numpy()
        expected = noisy_linear_imputation(x[i].numpy(), where, noise=0.0)
        np.testing.assert_allclose(ours[i].numpy(), expected.reshape(3, SIZE, SIZE), atol=CLOSE)


def test_faithfulness_correlation_is_sensitivity_n_of_one_n(case):
    clf, x, maps, target = case
    grey = x.mean(1, keepdim=True)
    one = tiny.classifier(OneChannel(clf.module), SIZE)
    metric = quantus.FaithfulnessCorrelation(nr_runs=12, subset_size=40, perturb_baseline=0.1, **PLAIN)
    for i in range(3):
        np.random.seed(i)  # noqa: NPY002 - Quantus draws from the global state
        drawn = [np.random.choice(SIZE * SIZE, 40, replace=False) for _ in range(12)]  # noqa: NPY002
        subsets = torch.zeros(1, 12, SIZE * SIZE, dtype=torch.bool)
        for row, chosen in enumerate(drawn):
            subsets[0, row, chosen] = True
        np.random.seed(i)  # noqa: NPY002
        expected = theirs(metric, one, grey[i : i + 1], maps[i : i + 1], target[i : i + 1], softmax=False)
        options = {"subsets": subsets.view(1, 12, SIZE, SIZE), "baseline": 0.1, "target": target[i : i + 1]}
        ours = vl.faithfulness(gray(one), grey[i : i + 1], maps[i : i + 1], "sensitivity_n", draws=0, **options)
        assert ours.value.item() == pytest.approx(expected.item(), abs=CLOSE)


def test_infidelity_on_their_perturbations(case):
    """Theirs covers block after block and keeps them covered; ours takes any perturbation, so also that one."""
    clf, x, maps, target = case
    one, grey = tiny.classifier(OneChannel(clf.module), SIZE), x.mean(1, keepdim=True)
    metric = quantus.Infidelity(perturb_baseline=0.2, perturb_patch_sizes=[8], n_perturb_samples=1, **PLAIN)
    expected = theirs(metric, one, grey, maps, target, softmax=False)
    covered = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    for i, (row, column) in enumerate(((0, 0), (0, 8), (8, 0), (8, 8))):
        covered[i:, row : row + 8, column : column + 8] = True

    left = iter(covered.repeat(3, 1, 1)[:, None])

    def block_after_block(images: Tensor) -> tuple[Tensor, Tensor]:
        without = torch.where(torch.stack([next(left) for _ in images]), 0.2, images)
        return images - without, without

    options = {"perturb": block_after_block, "samples": 4, "normalise": False, "target": target}
    ours = vl.faithfulness(gray(one), grey, maps, "infidelity", draws=0, **options)
    np.testing.assert_allclose(ours.value.numpy(), expected, rtol=CLOSE)


@pytest.mark.parametrize(("metric", "name"), [("sparsity", "Sparseness"), ("complexity", "Complexity")])
def test_complexity(case, metric, name):
    clf, x, maps, target = case
    expected = theirs(getattr(quantus, name)(**(PLAIN | {"abs": True})), clf, x, maps, target)
    ours = vl.faithfulness(clf, x, maps, metric, draws=0)
    np.testing.assert_allclose(ours.value.numpy(), expected, atol=CLOSE)


def test_max_sensitivity_is_stability(case):
    clf, x, _, target = case
    heat = vl.explain(clf, x, "gradcam", target=target)
    generator = torch.Generator().manual_seed(0)
    noise = [0.1 * (2 * torch.rand(x.shape, generator=generator) - 1) for _ in range(4)]
    left = iter(noise)

    def perturb(arr, indices, **_):
        return (torch.from_numpy(arr) + next(left).flatten(1)).numpy()

    def explain(model, inputs, targets, **_):
        made = vl.explain(clf, torch.from_numpy(inputs), "gradcam", target=torch.from_numpy(targets))
        return made.pixels()[:, None].numpy()

    metric = quantus.MaxSensitivity(nr_samples=4, perturb_func=perturb, **PLAIN)
    expected = theirs(metric, clf, x, heat.pixels(), target, explain_func=explain)
    ours = vl.faithfulness(clf, x, heat, "stability", samples=4, radius=0.1, draws=0)
    np.testing.assert_allclose(ours.value.numpy(), expected, atol=CLOSE)


@pytest.mark.parametrize(
    ("metric", "name", "options"),
    [
        ("pointing_game", "PointingGame", {}),
        ("energy_in_box", "AttributionLocalisation", {"positive_attributions": True}),
    ],
)
def test_localisation(case, metric, name, options):
    clf, x, maps, target = case
    masks = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    masks[:, 3:11, 2:9] = True
    best = maps[0].argmax()
    masks[0].view(-1)[best] = True  # one hit at least
    settings = PLAIN | options
    expected = theirs(getattr(quantus, name)(**settings), clf, x, maps, target, s_batch=masks[:, None].numpy())
    ours = vl.faithfulness(clf, x, maps, metric, where=masks, draws=0)
    np.testing.assert_allclose(ours.value.numpy(), expected, atol=CLOSE)


def test_focus_is_the_grid_pointing_game(case):
    """The share on the own quarter of a mosaic, on a map that is given."""
    clf, *_ = case
    four, target = tiny.images(4, SIZE), torch.arange(4)
    from vizlib.measure.evaluation import Evaluation
    from vizlib.measure.mosaic import _mosaics, grid_pointing

    def again(mosaics, index):
        return vl.explain(clf, mosaics, "gradcam", target=index).pixels()

    ask = Evaluation(clf, four, torch.zeros(4, SIZE, SIZE), target, 8, again)
    mosaics, cell = _mosaics(ask, 2)
    asked = [tuple(int(c == i) for i in range(4)) for c in cell.tolist()]
    metric = quantus.Focus(**PLAIN)
    maps = again(mosaics, target)
    ours = grid_pointing(ask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metric.evaluate_batch(a_batch=maps[:, None].numpy(), c_batch=asked)
    np.testing.assert_allclose(ours.numpy(), expected, atol=CLOSE)


class OneChannel(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.expand(-1, 3, -1, -1))


def gray(clf):
    return replace(clf, input_size=(1, SIZE, SIZE), mean=(0.0,), std=(1.0,))
