"""Heads silenced by rules and by chance: the right numbers, for every attention, and a picture."""

import matplotlib.pyplot as plt
import pytest
import tiny
import torch

from vizlib.capture.trace import ablate
from vizlib.explore.fewer_heads import fewer_heads
from vizlib.measure.head_importance import head_importance, least


@pytest.mark.parametrize("build", [tiny.vit, tiny.swin])
def test_each_row_is_what_silencing_gives(build):
    clf, x = tiny.classifier(build()), tiny.images(24)
    labels = torch.arange(24) % tiny.CLASSES
    found = fewer_heads(clf, list(zip(x, labels, strict=True)), seen=x[:6], shares=(0.2, 0.5), seeds=2)
    table = found.table
    assert found.measure == "accuracy"
    assert found.whole == pytest.approx(float((clf(x).argmax(1) == labels).float().mean()))
    assert table["rule"].value_counts().to_dict() == {"random": 4, "importance": 2, "mean_score": 2}
    heads = head_importance(clf, x[:6])
    with ablate(clf, least(heads, 0.5, "importance")):
        expected = float((clf(x).argmax(1) == labels).float().mean())
    row = table[(table["rule"] == "importance") & (table["share"] == 0.5)].iloc[0]
    assert row["accuracy"] == pytest.approx(expected)
    assert row["heads"] == round(0.5 * len(heads))
    assert row["low"] < row["accuracy"] < row["high"]


def test_without_labels_it_is_agreement_and_the_picture_has_a_band(tmp_path):
    clf = tiny.classifier(tiny.vit())
    found = fewer_heads(clf, list(zip(tiny.images(8), clf(tiny.images(8)).argmax(1), strict=True)), seen=tiny.images(2))
    assert found.whole == 1
    ax = found.figure().axes[0]
    assert len(ax.collections) == 1
    assert {line.get_label() for line in ax.lines} == {"by importance", "by mean score", "random, mean", "all heads"}
    plt.close(ax.figure)
    assert found.save(tmp_path / "heads.csv").read_text().startswith("rule,seed,share")


def test_what_has_no_attention_says_so():
    with pytest.raises(ValueError, match="head importance needs attention"):
        fewer_heads(tiny.classifier(tiny.CNN()), seen=tiny.images())
