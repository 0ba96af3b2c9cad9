"""Drawings of trust: the numbers that were found, how many photographs, and which maps are class-blind."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

import vizlib as vl
from vizlib.measure.verdict import FEW, interval
from vizlib.types import Curve, Score

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def curve(method, n):
    score = torch.rand(n, 5, generator=torch.Generator().manual_seed(1))
    return Curve(torch.linspace(0, 1, 5), score, score.mean(1), "parameter_randomisation", False, method=method)


def dependence(method, values):
    return Score(torch.tensor(values), "class_dependence", False, "rank correlation", method=method)


def test_the_title_says_which_maps_are_class_blind_and_how_many_photographs():
    title = vl.plot.curves({"a": curve("rollout", 7), "b": curve("gradcam", 7)}).get_title()
    assert title.splitlines()[-1] == "class-blind: a"
    assert "7 photographs, 95 % bands" in title
    assert "class-blind: rollout" in vl.plot.curves(curve("rollout", 7)).get_title()
    assert "class-blind" not in vl.plot.curves(curve("gradcam", 7)).get_title()


def test_no_band_over_few_photographs():
    ax = vl.plot.curves(curve("gradcam", FEW - 1))
    assert not ax.collections
    assert "95 %" not in ax.get_title()
    assert f"{FEW - 1} photographs" in ax.get_title()
    assert vl.plot.curves(curve("gradcam", FEW)).collections


def test_scores_are_drawn_with_their_interval_and_told_as_they_were_measured():
    """A method that is class-blind by no table is named where its map did not change, and the reverse."""
    changing = [0.1, 0.4, -0.2, 0.3, 0.5, 0.2]
    ax = vl.plot.scores({"gradcam": dependence("gradcam", [1.0] * 6), "rollout": dependence("rollout", changing)})
    assert ax.get_title().splitlines()[-1] == "class-blind: gradcam"
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert list(dots[1]) == pytest.approx(changing)
    (low, high) = ax.containers[1][2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx(interval(torch.tensor(changing)))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["gradcam\n(class-blind)", "rollout"]


def test_planted_truth_has_a_panel_for_each_thing_that_decides():
    shares = {"gradcam": 0.4, "chefer": 0.6, "rollout": None}
    rows = [
        {"decides": decides, "family": "CNN", "model": "cnn", "method": method, "class_blind": method == "rollout",
         "share": share, "low": share and share - 0.1, "high": share and share + 0.1, "random": 0.02, "centre": 0.1,
         "photos": 9}
        for decides in ("mark", "object") for method, share in shares.items()
    ]  # fmt: skip
    first, second = vl.plot.planted(pd.DataFrame(rows))
    assert "share on the mark that decides" in first.get_xlabel()
    assert "share on the object that decides" in second.get_xlabel()
    assert sorted(v for c in first.containers for v in c[0].get_xdata()) == pytest.approx([0.4, 0.6])
