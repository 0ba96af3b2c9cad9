"""Metrics of faithfulness: worked out by hand on models whose right answer is known, and by slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import tiny
import torch
from measured import SIZE, corner, truth
from torch import Tensor, nn

import vizlib as vl
from vizlib.measure.baselines import baseline_of, blur
from vizlib.measure.evaluation import ranks
from vizlib.measure.imputation import impute
from vizlib.measure.localisation import box_masks
from vizlib.measure.ranking import spearman
from vizlib.types import Classifier, Curve, Heatmap, Score


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) + 0.5


def test_deletion_by_hand(x):
    """A quarter of the pixels holds everything: with it gone the probability is that of a logit of 0."""
    ones = torch.ones(2, 3, SIZE, SIZE)
    found = vl.faithfulness(corner(), ones, truth(2), "deletion", target=1, steps=4, baseline=0.0, draws=0)
    full = torch.sigmoid(torch.tensor(6.4)).item()
    assert isinstance(found, Curve)
    assert found.fraction.tolist() == [0, 0.25, 0.5, 0.75, 1]
    torch.testing.assert_close(found.score, torch.tensor([[full, 0.5, 0.5, 0.5, 0.5]] * 2))
    torch.testing.assert_close(found.auc, torch.full((2,), (full / 2 + 0.5 * 3 + 0.25) / 4))


def test_insertion_is_deletion_of_what_matters_least(x):
    clf, maps = corner(), torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    options = {"target": 1, "steps": 8, "baseline": "mean", "draws": 0}
    put_in = vl.faithfulness(clf, x, maps, "insertion", **options).score
    taken = vl.faithfulness(clf, x, -maps, "deletion", **options).score
    torch.testing.assert_close(put_in, taken.flip(1))


def test_curves_equal_a_loop(x):
    clf = tiny.classifier(tiny.CNN(), SIZE)
    maps = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(6))
    found = vl.faithfulness(clf, x, maps, "deletion", target=2, steps=5, batch=4, draws=0)
    for i in range(len(x)):
        hidden = baseline_of(clf, x[i : i + 1], "blur")[0]
        order = maps[i].flatten().argsort(descending=True)
        for step in range(6):
            image = x[i].clone().flatten(1)
            gone = order[: round(step / 5 * SIZE * SIZE)]
            image[:, gone] = hidden.flatten(1)[:, gone]
            expected = clf(image.view(1, 3, SIZE, SIZE)).softmax(1)[0, 2]
            torch.testing.assert_close(found.score[i, step], expected)


def test_equal_values_are_in_no_reading_order():
    places = ranks(torch.zeros(1, 32, 32))[0].float()
    assert sorted(places.flatten().tolist()) == list(range(1024))
    assert abs(places[:16].mean() - places[16:].mean()) < 40


def test_imputation_solves_the_system_of_the_paper():
    """Against the dense linear system, written with loops; a map of 0.6 missing, holes at the edge too."""
    generator = torch.Generator().manual_seed(5)
    image, missing = torch.randn(2, 2, 9, 7, generator=generator), torch.rand(2, 9, 7, generator=generator) < 0.6
    found = impute(image, missing, tolerance=1e-6)
    for m in range(2):
        system, right = np.eye(63), np.zeros((63, 2))
        for i, j in np.ndindex(9, 7):
            if not missing[m, i, j]:
                right[i * 7 + j] = image[m, :, i, j].numpy()
                continue
            around = [(i + a, j + b, 1 / 12 if a and b else 1 / 6) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            inside = [(k, n, w) for k, n, w in around if 0 <= k < 9 and 0 <= n < 7]
            for k, n, w in inside:
                system[i * 7 + j, k * 7 + n] = -w / sum(w for *_, w in inside)
        expected = torch.from_numpy(np.linalg.solve(system, right)).T.view(2, 9, 7).float()
        torch.testing.assert_close(found[m], expected, atol=1e-4, rtol=0)


def test_road_takes_the_important_pixels_away(x):
    clf, options = corner(), {"target": 1, "shares": (0.25, 0.5), "noise": 0.0, "draws": 0}
    x = x.clone()
    x[:, :, SIZE // 2 :] = x[:, :, :, SIZE // 2 :] = -1.0
    most = vl.faithfulness(clf, x, truth(3), "road", **options)
    least = vl.faithfulness(clf, x, truth(3), "road", order="least", **options)
    assert (most.auc < 0.5).all()
    assert (least.auc > 0.9).all()
    assert least.higher_is_better
    assert not most.higher_is_better


def test_confidence_through_the_map():
    """Shown through its own quarter the photograph keeps all of its score; through the rest it loses it."""
    clf, ones = corner(), torch.ones(1, 3, SIZE, SIZE)
    assert vl.faithfulness(clf, ones, truth(), "average_drop", target=1, baseline=0.0, draws=0).value.item() == 0
    other = vl.faithfulness(clf, ones, 1 - truth(), "average_drop", target=1, baseline=0.0, draws=0)
    full = torch.sigmoid(torch.tensor(6.4)).item()
    assert other.value.item() == pytest.approx((full - 0.5) / full, abs=1e-6)
    raised = vl.faithfulness(clf, -ones, 1 - truth(), "increase", target=1, baseline=0.0, draws=0)
    assert raised.value.item() == 1


def test_simple_maps_are_sparse():
    one, even = torch.zeros(1, SIZE, SIZE), torch.ones(1, SIZE, SIZE)
    one[0, 3, 4] = -2.0
    clf, ones, n = corner(), torch.ones(1, 3, SIZE, SIZE), SIZE * SIZE

    def score(maps: Tensor, metric: str) -> float:
        return vl.faithfulness(clf, ones, maps, metric, draws=0).value.item()

    assert score(one, "sparsity") == pytest.approx(1 - 1 / n)
    assert score(even, "sparsity") == pytest.approx(0, abs=1e-6)
    assert score(one, "complexity") == pytest.approx(0, abs=1e-6)
    assert score(even, "complexity") == pytest.approx(math.log(n))


def test_stability_is_the_largest_change_of_the_map():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(2)
    heat = vl.explain(clf, x, "gradcam")
    found = vl.faithfulness(clf, x, heat, "stability", samples=3, radius=0.2, draws=0)
    generator, changes = torch.Generator().manual_seed(0), []
    for _ in range(3):
        noisy = x + 0.2 * (2 * torch.rand(x.shape, generator=generator) - 1)
        moved = vl.explain(clf, noisy, "gradcam", target=heat.target).pixels() - heat.pixels()
        changes.append(moved.flatten(1).norm(dim=1) / heat.pixels().flatten(1).norm(dim=1))
    torch.testing.assert_close(found.value, torch.stack(changes).amax(0))
    assert (found.value > 0).all()
    still = vl.faithfulness(clf, x, heat, "stability", radius=0.0, draws=0)
    torch.testing.assert_close(still.value, torch.zeros(2), atol=1e-5, rtol=0)


def test_localisation_by_hand(x):
    maps = torch.zeros(3, SIZE, SIZE)
    maps[0, 2, 2], maps[0, 9, 9], maps[0, 5, 5] = 3.0, 1.0, -8.0
    maps[1, 9, 9], maps[1, 2, 2] = 3.0, 1.0
    maps[2] = -1.0
    masks = truth(3).bool()
    clf = corner()
    hit = vl.faithfulness(clf, x, maps, "pointing_game", where=masks, draws=0).value
    inside = vl.faithfulness(clf, x, maps, "energy_in_box", where=masks, draws=0).value
    assert hit[:2].tolist() == [1, 0]
    assert inside.tolist() == pytest.approx([0.75, 0.25, 0])


def test_boxes_follow_the_preprocessing():
    """From 128 pixels to 64: the box shrinks along."""
    clf = vl.load("zoo/vit")
    photo = np.zeros((128, 128, 3), np.uint8)
    mask = box_masks(clf, photo, [(64, 32, 127, 95)])[0]
    expected = torch.zeros(64, 64, dtype=torch.bool)
    expected[16:48, 32:] = True
    assert (mask != expected).float().mean() < 0.02
    with pytest.raises(ValueError, match="one box per photograph"):
        box_masks(clf, [photo, photo], [(0, 0, 5, 5)])


class Colours(nn.Module):
    """Red, green, blue, dark: each pixel speaks for one."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.cat([torch.eye(3), -torch.ones(1, 3)])[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).relu().mean((2, 3))


def test_the_grid_pointing_game_is_won_by_the_right_photograph():
    clf = Classifier(Colours(), "colours", lambda p: torch.zeros(3, 8, 8), (3, 8, 8))
    x = 0.01 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    x[0, 0], x[1, 1], x[2, 2], x[3] = 1.0 + x[0, 0], 1.0 + x[1, 1], 1.0 + x[2, 2], -1.0 + x[3]
    found = vl.faithfulness(clf, x, "gradcam", "grid_pointing", target=torch.arange(4))
    assert (found.value > 0.95).all()
    assert found.references["centre"].value.tolist() == pytest.approx([0.25] * 4, abs=1e-5)
    with pytest.raises(ValueError, match="photographs of 4 classes; got 1"):
        vl.faithfulness(clf, x[:1].repeat(4, 1, 1, 1), "gradcam", "grid_pointing", target=0)


@pytest.mark.parametrize("metric", vl.METRICS)
def test_every_metric_on_a_transformer(metric):
    """A batch equals its photographs one by one; words, references and the model's state are in order."""
    clf, x = tiny.classifier(tiny.vit()), tiny.images(4)
    clf.module.train()
    heat = vl.explain(clf, x, "chefer", target=torch.arange(4))
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[:, 8:20, 8:20] = True
    options = {"deletion": {"steps": 4}, "insertion": {"steps": 4}, "sensitivity_n": {"samples": 4}}.get(metric, {})
    options |= {"where": masks} if metric in ("pointing_game", "energy_in_box") else {}
    before = torch.random.get_rng_state()
    found = vl.faithfulness(clf, x, heat, metric, batch=3, draws=1, **options)
    assert torch.equal(before, torch.random.get_rng_state())
    assert clf.module.training
    assert found.value.shape == (4,)
    assert found.value.isfinite().all()
    alone = vl.METRICS[metric].caveat
    assert set(found.references) == set(found.beats) == (set() if alone else {"random", "centre"})
    assert alone in str(found)
    assert found.higher_is_better == vl.METRICS[metric].higher_is_better
    assert metric in str(found)
    assert vl.METRICS[metric].unit in str(found)
    if metric not in ("grid_pointing", "stability", "road"):  # these draw per photograph
        rest = {k: v[2:3] if isinstance(v, Tensor) else v for k, v in options.items()}
        alone = vl.faithfulness(clf, x[2:3], heat[2], metric, batch=7, draws=0, **rest)
        torch.testing.assert_close(alone.value, found.value[2:3], atol=1e-5, rtol=1e-4)


def test_a_score_that_is_not_shown_to_be_better_than_random_is_said_in_words():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(6)
    noise = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(9))
    found = vl.faithfulness(clf, x, noise, "deletion", steps=5)
    assert not found.beats["random"]
    assert "Not shown to be better than a random map" in found.verdict
    assert "with 6 photographs" in found.verdict
    assert "blur" in found.verdict


def test_the_best_map_beats_both_references(x):
    ones = torch.ones(6, 3, SIZE, SIZE)
    found = vl.faithfulness(corner(), ones, truth(6), "deletion", target=1, steps=8, baseline=0.0)
    assert found.beats == {"random": True, "centre": True}
    assert found.verdict.endswith("Better than a random map and a centre Gaussian.")
    assert isinstance(found.references["random"], Curve)


def test_rank_correlation_shares_ranks_as_scipy_does():
    from scipy.stats import spearmanr

    a = torch.randint(0, 4, (3, 5, 6), generator=torch.Generator().manual_seed(1)).float()
    b = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(2))
    expected = [spearmanr(i.flatten(), j.flatten()).statistic for i, j in zip(a, b, strict=True)]
    assert spearman(a, b).tolist() == pytest.approx(expected, abs=1e-6)
    assert spearman(torch.ones(2, 2), b[0, :2, :2]).item() == 0


def test_baselines():
    clf = tiny.classifier(tiny.CNN())
    x = tiny.images(2)
    assert torch.equal(baseline_of(clf, x, "mean")[:, :, 0, 0], x.mean((2, 3)))
    torch.testing.assert_close(clf.picture(baseline_of(clf, x, "grey")), torch.full_like(x, 0.5))
    torch.testing.assert_close(blur(torch.full_like(x, 3.0), 2.0), torch.full_like(x, 3.0))
    point = torch.zeros(1, 3, 33, 33)
    point[..., 16, 16] = 1
    spread = blur(point, 2.0)[0, 0]
    offsets = torch.arange(-16, 17.0)
    assert (spread.sum(0) * offsets**2).sum().item() == pytest.approx(4, rel=0.05)
    with pytest.raises(ValueError, match="a baseline is one of blur, mean, grey"):
        baseline_of(clf, x, "black")
    with pytest.raises(ValueError, match="broadcasts to"):
        baseline_of(clf, x, torch.zeros(3, 5))


def test_bad_input_is_told():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(2)
    heat = vl.explain(clf, x)
    with pytest.raises(ValueError, match=r"a metric is needed; got 'deleton'\. Take one of: deletion"):
        vl.faithfulness(clf, x, heat, "deleton")
    with pytest.raises(ValueError, match=r"deletion has no option 'shares'\. It accepts: steps, baseline"):
        vl.faithfulness(clf, x, heat, "deletion", shares=3)
    with pytest.raises(ValueError, match="one map per photograph is needed, \\(1, r, s\\)"):
        vl.faithfulness(clf, x[:1], heat)
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        vl.faithfulness(clf, x, heat.values / 0)
    with pytest.raises(ValueError, match="needs to know where the object lies"):
        vl.faithfulness(clf, x, heat, "pointing_game")
    with pytest.raises(ValueError, match="masks need the shape"):
        vl.faithfulness(clf, x, heat, "pointing_game", where=torch.ones(2, 3, 3))
    with pytest.raises(ValueError, match="needs a method of METHODS"):
        vl.faithfulness(clf, x, heat.values, "stability")
    with pytest.raises(ValueError, match="steps needs a whole number of at least 1; got 0"):
        vl.faithfulness(clf, x, heat, steps=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        vl.faithfulness(clf, x, heat, "road", shares=(0.5, 1.0))
    with pytest.raises(TypeError, match=r"needs a Classifier; got CNN. Use vl.load"):
        vl.faithfulness(clf.module, x, heat)
    with pytest.raises(TypeError, match="a Heatmap, an array"):
        vl.faithfulness(clf, x, 3)


def test_half_precision_models_are_judged_in_float32():
    clf = tiny.classifier(timm.create_model("resnet10t", num_classes=5).bfloat16())
    found = vl.faithfulness(clf, tiny.images(2), "gradcam", "insertion", steps=3, draws=1)
    assert found.score.dtype == torch.float32
    assert isinstance(vl.faithfulness(clf, tiny.images(2), "gradcam", "infidelity", samples=3, draws=0), Score)


@pytest.mark.gpu
@pytest.mark.parametrize("metric", ["deletion", "road", "sensitivity_n", "infidelity", "stability"])
def test_on_the_gpu_as_on_the_cpu(metric):
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    expected = vl.faithfulness(clf, x, "chefer", metric, draws=1)
    clf.module.cuda()
    found = vl.faithfulness(clf, x, "chefer", metric, draws=1)
    assert found.value.is_cuda
    torch.testing.assert_close(found.value.cpu(), expected.value, atol=1e-3, rtol=1e-2)


def test_heatmaps_of_a_method_and_its_name_are_the_same():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(2)
    heat = vl.explain(clf, x, "gradcam", target=2)
    assert isinstance(heat, Heatmap)
    by_map = vl.faithfulness(clf, x, heat, steps=4)
    by_name = vl.faithfulness(clf, x, "gradcam", steps=4, target=2)
    assert torch.equal(by_map.auc, by_name.auc)
    assert str(by_map) == str(by_name)
