"""Planted truth on detectors written by hand, whose right map is known to the pixel, and on networks that learn it."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import vizlib as vl
from vizlib.measure import planted as module
from vizlib.measure.planted import CLASSES, planted_classifier, planted_twins

METHODS = ("saliency", "input_x_gradient", "rollout")


class Detector(nn.Module):
    """Adds up what in a picture is as yellow as the sticker's yellow cells, or as light as objects are."""

    def __init__(self, decides: str) -> None:
        super().__init__()
        self.decides = decides
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        red, green, blue = (x * self.std + self.mean).unbind(1)
        if self.decides == "mark":
            seen = (red + green - blue - 1.5).relu().sum((1, 2)) - 0.5
        else:
            seen = ((red + green + blue) / 3 - 0.5).relu().sum((1, 2)) - 10
        return self.scale * torch.stack([-seen, seen], 1)


def detector(decides: str) -> vl.Classifier:
    return vl.load(
        Detector(decides), input_size=(3, 64, 64), crop_pct=1.0, labels=list(CLASSES[decides]), name=f"the {decides}"
    )


@pytest.fixture(scope="module")
def table():
    return vl.planted([detector("mark"), detector("object")], METHODS, n=40).set_index(["decides", "method"])


@pytest.mark.parametrize("decides", CLASSES)
def test_pictures_with_and_without_differ_in_what_decides_alone(decides):
    present, absent, differ = module._pairs(decides, 12, 3, "test")
    made = vl.data.shortcuts(12, 3, split="test", mark="always" if decides == "mark" else "chance", place="anywhere")
    np.testing.assert_array_equal(present, made.images)
    np.testing.assert_array_equal((present != absent).any(-1), differ)
    decisive, other = (made.marks, made.objects) if decides == "mark" else (made.objects, made.marks)
    assert differ[decisive].mean() > 0.98
    assert not differ[other].any()


def test_a_map_of_what_decides_lies_on_it(table):
    """The detectors' gradient is zero elsewhere; noise of a texture may be as light as an object here and there."""
    assert table.loc["mark", "saliency"].share == pytest.approx(1, abs=1e-6)
    assert table.loc["object", "saliency"].share > 0.9
    for decides in CLASSES:
        row = table.loc[decides, "input_x_gradient"]
        assert row.photos > 20
        assert row.low <= row.share <= row.high
        assert row.hits == 1
        assert row.model == f"the {decides}"
        assert "no attention" in table.loc[decides, "rollout"].reason


def test_the_centre_is_right_about_objects_and_not_about_marks(table):
    """Beside every share stands what maps that know nothing have."""
    mark, thing = (table.loc[decides, "saliency"] for decides in CLASSES)
    assert mark.random == pytest.approx(64 / 64**2, rel=0.01)
    assert mark.centre < 2 * mark.random
    assert thing.centre > 1.8 * thing.random


def test_only_pictures_that_are_told_right_count():
    """A detector that says yes to everything is right about no picture without."""
    clf = detector("mark")
    with torch.no_grad():
        clf.module.scale.fill_(-1)
    with pytest.raises(RuntimeError, match=r"the mark has none among 6\. Train it for longer"):
        vl.planted(clf, n=6)


def test_a_classifier_of_something_else_is_told():
    with pytest.raises(ValueError, match=r"known what decides; zoo/vit has 20 classes\. Train one with"):
        vl.planted("zoo/vit", ["gradcam"])
    with pytest.raises(ValueError, match="gradcamm"):
        vl.planted(detector("mark"), ["gradcamm"])
    with pytest.raises(ValueError, match="'mark' or 'object' decides; got 'shape'"):
        planted_classifier("cnn", decides="shape")


def test_twins_learn_the_labels_and_nothing():
    """And their maps for one class have little in common."""
    true, shuffled = planted_twins("cnn", decides="object", n=100, epochs=4)
    present, absent, _ = module._pairs("object", 30, 1, "test")
    pictures, labels = list(np.concatenate([present, absent])), torch.arange(2).flip(0).repeat_interleave(30)
    right, by_chance = ((clf(pictures).argmax(1) == labels).float().mean() for clf in (true, shuffled))
    assert right > 0.9
    assert by_chance < 0.75
    found = vl.planted(true, ["integrated_gradients"], n=20).iloc[0]
    assert found.low > 1.5 * found.random
    asked = {"target": "object", "method": "integrated_gradients"}
    assert vl.sanity.label_randomisation(true, shuffled, list(present[:8]), **asked).value.mean() < 0.5


def test_the_command_writes_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "planted_classifier", lambda network, *, decides, **_: detector(decides))
    monkeypatch.setattr(module, "NETWORKS", ("cnn",))
    module.main(["--out", str(tmp_path / "deep" / "table.csv"), "--n", "4"])
    found = pd.read_csv(tmp_path / "deep" / "table.csv")
    assert set(found.decides) == set(CLASSES)
    assert {"family", "model", "method", "share", "low", "high", "random", "centre", "reason"} <= set(found)
    assert "saliency" in capsys.readouterr().out


def test_the_table_that_comes_along_is_whole():
    with (files("vizlib.tables") / "planted.csv").open(encoding="utf-8") as file:
        stored = pd.read_csv(file)
    assert set(stored.method) <= set(vl.METHODS)
    assert set(stored.family) >= {"CNN", "Transformer", "hybrid"}
    scored = stored[stored.share.notna()]
    assert ((scored.low <= scored.share) & (scored.share <= scored.high)).all()
    assert (scored.photos >= 50).all()
