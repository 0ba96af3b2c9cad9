"""New classes in three ways: the numbers of the table, the maps, and a classifier that stays as it was."""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from vizlib import data
from vizlib.explore.adaptation import adapted
from vizlib.explore.before_after import WHOLE
from vizlib.measure.moved import on_object
from vizlib.models.load import load
from vizlib.types import Heatmap


def test_the_share_on_the_object_by_hand():
    objects = torch.zeros(1, 4, 4, dtype=torch.bool)
    objects[0, :2, :2] = True
    heat = Heatmap(torch.tensor([[[3.0, 1.0], [-5.0, 0.0]]]), torch.zeros(1, 3, 4, 4), "m", "x")
    assert on_object(heat, objects).tolist() == pytest.approx([0.75])


@pytest.fixture(scope="module")
def found():
    pytest.importorskip("peft", reason="needs peft: pip install 'vizlib[compress]'")
    clf = load(tiny.randomise(tiny.vit()), input_size=(3, 32, 32), crop_pct=1.0)
    before = copy.deepcopy(clf.module.state_dict())
    new = data.shortcuts(32, mark="never", size=32)
    held_out = data.shortcuts(20, split="test", mark="never", size=32)
    result = adapted(clf, new, held_out, epochs=2, shown=3)
    assert all(torch.equal(t, before[name]) for name, t in clf.module.state_dict().items())
    return result, clf, held_out


def test_the_table(found):
    result, _, held_out = found
    table = result.table.set_index("way")
    assert list(table.index) == [WHOLE, "head alone", "LoRA", "all weights"]
    for way, small in result.classifiers.items():
        right = (small(list(held_out.images)).argmax(1).numpy() == held_out.labels).mean()
        assert table.loc[way, "accuracy"] == pytest.approx(right)
        assert small.labels == held_out.classes
    assert np.isnan(table.loc[WHOLE, "accuracy"])  # it does not have these classes
    assert list(table.loc[WHOLE, ["trained", "added_mb", "seconds"]]) == [0, 0, 0]
    assert (table.loc[WHOLE, ["rollout_rank", "gradcam_top"]] == 1).all()
    for column in ("trained", "added_mb"):
        assert table.loc["head alone", column] < table.loc["LoRA", column] < table.loc["all weights", column]
    assert table.loc["head alone", "rollout_rank"] == pytest.approx(1)  # attention is not touched
    assert table.loc["all weights", "rollout_rank"] < 1
    shares = on_object(result.maps["LoRA"]["gradcam"], torch.as_tensor(held_out.objects[:3]))
    assert table.loc["LoRA", "gradcam_on_object"] == pytest.approx(float(shares.mean()), abs=1e-5)
    assert result.area == pytest.approx(held_out.objects[:3].mean(), abs=1e-6)


def test_the_picture_and_the_files(found, tmp_path):
    result = found[0]
    drawn = result.figure(1)
    titles = [ax.get_title() for ax in drawn.axes if "on the object" in ax.get_title()]
    assert len(titles) == 8
    assert sum("rank" in title for title in titles) == 6
    plt.close(drawn)
    assert len(pd.read_csv(result.save(tmp_path / "table.csv"))) == 4
    assert "Objects cover" in str(result)
