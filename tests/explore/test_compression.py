"""The table of compressed classifiers: right numbers, whole maps, reasons where there is none."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tiny
import torch

from vizlib.explore.compression import WHOLE, compressed
from vizlib.measure.moved import moved, top_overlap
from vizlib.models.compress import half, pruned
from vizlib.types import Heatmap


def test_overlap_and_rank_by_hand():
    a = torch.tensor([[[9.0, 8.0, 1.0, 0.0, 0.0]]])
    b = torch.tensor([[[9.0, 0.0, 8.0, 1.0, 0.0]]])
    assert top_overlap(a, b, 0.4).tolist() == [0.5]
    image = torch.zeros(1, 3, 4, 4)
    rank, top = moved(Heatmap(a, image, "m", "x"), Heatmap(-a, image, "m", "x"), 0.4)
    assert rank.tolist() == pytest.approx([-1])
    assert top.tolist() == [0]


def test_the_table_and_the_maps():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(6)
    labels = clf(x).argmax(1)
    labels[0] = (labels[0] + 1) % tiny.CLASSES
    data = torch.utils.data.TensorDataset(x, labels)
    ways = {
        "bfloat16": lambda c, _: half(c),
        "nearly nothing left": lambda c, _: pruned(c, 0.95),
        "25 % of heads": lambda c, _: (_ for _ in ()).throw(ValueError("no heads here")),
    }
    found = compressed(clf, list(data), photos=x[:2], seen=x, ways=ways, rounds=2)
    table = found.table.set_index("way")
    assert list(table.index) == [WHOLE, "bfloat16", "nearly nothing left"]
    assert found.reasons == {"25 % of heads": "no heads here"}
    assert table.loc[WHOLE, "accuracy"] == pytest.approx(5 / 6)
    assert (table.loc[WHOLE, ["agreement", "latency_ratio", "rollout_rank", "gradcam_top"]] == 1).all()
    assert table.loc["bfloat16", "stored_mb"] < table.loc[WHOLE, "stored_mb"]
    assert table.loc["nearly nothing left", "packed_mb"] < table.loc["bfloat16", "packed_mb"]
    assert table.loc["bfloat16", "gradcam_rank"] > table.loc["nearly nothing left", "gradcam_rank"]
    drawn = found.figure(0, ["bfloat16"])
    assert len([ax for ax in drawn.axes if ax.get_ylabel() == "bfloat16"]) == 1
    plt.close(drawn)


def test_what_has_no_attention_says_so():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(4)
    found = compressed(clf, photos=x, seen=x, ways=["25 % of heads, by gradient", "bfloat16"], rounds=1)
    assert "needs attention" in found.reasons["25 % of heads, by gradient"]
    assert np.isnan(found.table["rollout_rank"]).all()
    assert "accuracy" not in found.table
    with pytest.raises(ValueError, match="a way to compress is needed; got 'int4'"):
        compressed(clf, ways=["int4"])
