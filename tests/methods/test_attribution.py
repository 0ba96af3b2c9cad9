"""Pixel attributions: by hand on linear and quadratic models, against differences and loops in float64."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import references
import torch
from torch import Tensor, nn

from vizlib.methods import attribution
from vizlib.methods.table import METHODS, explain

ATTRIBUTIONS = [name for name, row in METHODS.items() if row.kind == "attribution"]
WEIGHT = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def linear(images: Tensor) -> Tensor:
    """Two classes: Σ w x."""
    return torch.einsum("mchw,kchw->mk", images, WEIGHT.to(images))


def quadratic(images: Tensor) -> Tensor:
    """One class: Σ w x²/2, with gradient w x."""
    return torch.einsum("mchw,chw->m", images**2 / 2, WEIGHT[0].to(images))[:, None]


@pytest.fixture
def images():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


@pytest.fixture
def double(cnn):
    return replace(cnn, module=deepcopy(cnn.module).double(), input_size=(3, 12, 12))


AT = torch.tensor([1, 0])


def test_linear_by_hand(images):
    """One photograph explained for each of the two classes."""
    weight, product = WEIGHT[AT], WEIGHT[AT] * images
    start = torch.full_like(images[:1], 0.5)
    by_hand = {
        "saliency": weight.sum(1),
        "smoothgrad": weight.sum(1),
        "input_x_gradient": product.sum(1),
        "integrated_gradients": product.sum(1),
        "gradientshap": (WEIGHT[AT] * (images - start)).sum(1),
    }
    for name, expected in by_hand.items():
        options = {"baselines": start} if name == "gradientshap" else {}
        values, notes = METHODS[name].function(linear, images, AT, **options)
        torch.testing.assert_close(values, expected.float(), msg=name)
        assert all(delta.shape == (2,) and delta.abs().max() < 1e-6 for delta in notes.values()), name


def test_absolute_is_the_largest_channel(images):
    for method in (attribution.saliency, attribution.smoothgrad):
        values, _ = method(linear, images, AT, absolute=True)
        torch.testing.assert_close(values, WEIGHT[AT].abs().amax(1).float())


def test_occlusion_by_hand(images):
    """Covering a window of a linear model takes its share; without overlap each pixel has its window's."""
    values, _ = attribution.occlusion(linear, images, AT, window=4, stride=4)
    shares = (WEIGHT[AT] * images).sum(1).unflatten(1, (2, 4)).unflatten(3, (2, 4)).sum((2, 4))
    torch.testing.assert_close(values, shares.repeat_interleave(4, 1).repeat_interleave(4, 2).float())


def test_saliency_and_input_x_gradient_equal_differences(double):
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    target = torch.tensor([2, 4])
    expected = torch.stack(
        [references.gradient(lambda z, at=at: double.module(z)[:, at], x[i]) for i, at in enumerate((2, 4))]
    )
    torch.testing.assert_close(explain(double, x, "saliency", target=target).values, expected.sum(1).float())
    torch.testing.assert_close(
        explain(double, x, "input_x_gradient", target=target).values, (x * expected).sum(1).float()
    )


@pytest.mark.parametrize("baseline", [0.0, -1.5])
def test_integrated_gradients_equal_the_twin(double, baseline):
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    heat = explain(double, x, "integrated_gradients", target=3, baseline=baseline, steps=200, batch=50)
    for i in range(2):
        start = torch.full_like(x[i], baseline)
        twin = references.integrated_gradients(lambda z: double.module(z)[:, 3], x[i], start)
        torch.testing.assert_close(heat.values[i], twin.sum(0).float(), rtol=1e-2, atol=2e-3)
    gone = heat.score - double(torch.full_like(x, baseline))[:, 3]
    missed = heat.values.sum((1, 2)) - gone.float()
    torch.testing.assert_close(heat.notes["convergence_delta"], missed, rtol=1e-3, atol=1e-5)
    assert missed.abs().max() < 0.01 * gone.abs().max()


def test_the_convergence_delta_tells_of_too_few_steps(double, x):
    few = explain(double, x.double(), "integrated_gradients", target=3, steps=2).notes["convergence_delta"]
    many = explain(double, x.double(), "integrated_gradients", target=3, steps=64).notes["convergence_delta"]
    assert (few.abs() > 5 * many.abs()).all()


def test_occlusion_equals_the_twin_with_overlap(double):
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    for batch in (1, 7, 64):
        heat = explain(double, x, "occlusion", target=1, window=4, stride=2, baseline=0.3, batch=batch)
        for i in range(2):
            twin = references.occlusion(lambda z: double.module(z)[:, 1], x[i], 4, 2, 0.3)
            torch.testing.assert_close(heat.values[i], twin.float())


def test_smoothgrad_averages_noise_of_the_right_size(images):
    """On a quadratic model smoothgrad - saliency is w · mean noise, of deviation σ/√n."""
    photo = images[:1]
    plain, _ = attribution.saliency(quadratic, photo, torch.tensor([0]))
    for samples, noise in ((1, 0.2), (100, 0.2), (100, 0.05)):
        smooth, _ = attribution.smoothgrad(quadratic, photo, torch.tensor([0]), samples=samples, noise=noise)
        expected = noise * float(photo.max() - photo.min()) / samples**0.5 * WEIGHT[0].pow(2).sum().sqrt()
        assert float((smooth - plain).pow(2).sum().sqrt()) == pytest.approx(float(expected), rel=0.25)


def test_gradientshap_sums_to_the_score_less_the_baselines(images):
    """x² - x'² in the mean over the draws; a random point on the way makes the single pixel noisy."""
    start = torch.full_like(images[:1], 0.5)
    zero = torch.zeros(2, dtype=torch.long)
    values, notes = attribution.gradientshap(quadratic, images, zero, baselines=start, samples=4000)
    expected = (WEIGHT[0] * (images**2 - start**2) / 2).sum(1).float()
    assert (values - expected).abs().max() < 0.1 * expected.abs().max()
    missed = values.sum((1, 2)) - (quadratic(images) - quadratic(start))[:, 0].float()
    torch.testing.assert_close(notes["convergence_delta"], missed, rtol=1e-3, atol=1e-3)


def test_gradientshap_draws_from_dark_mean_and_bright():
    """f = Σ x on a photograph of 0 and 1: darkest and mean are 0, brightest 1, so that a third is missing."""
    photo = torch.zeros(1, 1, 4, 4)
    photo[..., :2] = 1
    values, _ = attribution.gradientshap(lambda z: z.sum((1, 2, 3)), photo, None, samples=3000)
    torch.testing.assert_close(values[0, 0], torch.tensor([2 / 3, 2 / 3, -1 / 3, -1 / 3]), atol=0.04, rtol=0)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_batch_equals_loop(method, clf, x):
    whole = explain(clf, x, method, target=torch.tensor([1, 4]))
    assert whole.values.shape == (2, 32, 32)
    for i, at in enumerate((1, 4)):
        alone = explain(clf, x[i : i + 1], method, target=at)
        torch.testing.assert_close(alone.values[0], whole.values[i], rtol=1e-3, atol=1e-4)
        for name, note in alone.notes.items():
            torch.testing.assert_close(note[0], whole.notes[name][i], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("method", ["smoothgrad", "gradientshap"])
def test_random_ones_repeat_and_leave_the_random_state(method, cnn, x):
    torch.manual_seed(11)
    np.random.seed(11)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = explain(cnn, x, method, target=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    torch.rand(3), np.random.rand(3)  # noqa: NPY002
    assert torch.equal(explain(cnn, x, method, target=0).values, first.values)
    assert not torch.equal(explain(cnn, x, method, target=0, seed=1).values, first.values)


class Counted(nn.Module):
    """Notes how many images it is given at once."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.most = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.most = max(self.most, len(x))
        return self.inner(x)


@pytest.mark.parametrize("method", ["integrated_gradients", "smoothgrad", "occlusion", "gradientshap"])
@pytest.mark.parametrize("batch", [4, 9])
def test_no_more_images_at_once_than_asked(method, batch, cnn, x):
    counted = Counted(cnn.module)
    heat = explain(replace(cnn, module=counted), x, method, target=0, batch=batch)
    assert 2 <= counted.most <= batch
    if method != "gradientshap":  # there the draws depend on how they are grouped
        torch.testing.assert_close(heat.values, explain(cnn, x, method, target=0, batch=64).values)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_callable_target_and_silence(method, cnn, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = explain(cnn, x, method, target=lambda logits: logits[:, 1])
        named = explain(cnn, x, method, target="coffee")
    torch.testing.assert_close(own.values, named.values)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("integrated_gradients", {"steps": 0}, "steps must be at least 1; got 0"),
        ("smoothgrad", {"batch": 0}, "batch must be at least 1"),
        ("gradientshap", {"samples": -1}, "samples must be at least 1"),
        ("occlusion", {"window": 64}, r"window \(64, 64\), image \(32, 32\)"),
        ("occlusion", {"window": 4, "stride": 5}, "the stride must fit into the window"),
        ("occlusion", {"window": 0}, "window must be at least 1"),
    ],
)
def test_wrong_options(method, options, message, cnn, x):
    with pytest.raises(ValueError, match=message):
        explain(cnn, x, method, **options)
