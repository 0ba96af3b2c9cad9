"""The table of compressed classifiers: right numbers, whole maps, reasons where there is none."""

from importlib.util import find_spec

import matplotlib.pyplot as plt
import numpy as np
import pytest
import tiny
import torch

from vizlib import data
from vizlib.explore.before_after import WHOLE
from vizlib.explore.compression import FIXING, MEASURED, NO_TIME, WAYS, _mixed, _right_first, compressed
from vizlib.measure.moved import moved, top_overlap
from vizlib.models.compress import half, int8, int8_kernels, pruned
from vizlib.models.load import load
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
    labelled = torch.utils.data.TensorDataset(x, labels)
    ways = {
        "bfloat16": lambda c, _: half(c),
        "nearly nothing left": lambda c, _: pruned(c, 0.95),
        "25 % of heads": lambda c, _: (_ for _ in ()).throw(ValueError("no heads here")),
    }
    found = compressed(clf, list(labelled), photos=x[:2], seen=x, ways=ways, rounds=2)
    table = found.table.set_index("way")
    assert list(table.index) == [WHOLE, "bfloat16", "nearly nothing left"]
    assert found.reasons == {"25 % of heads": "no heads here"}
    assert table.loc[WHOLE, "accuracy"] == pytest.approx(5 / 6)
    assert (table.loc[WHOLE, ["agreement", "latency_ratio", "rollout_rank", "gradcam_top"]] == 1).all()
    assert table.loc["bfloat16", "stored_mb"] < table.loc[WHOLE, "stored_mb"]
    assert table.loc["nearly nothing left", "packed_mb"] < table.loc["bfloat16", "packed_mb"]
    assert table.loc["bfloat16", "gradcam_rank"] > table.loc["nearly nothing left", "gradcam_rank"]
    drawn = found.figure(1, ["bfloat16"])
    titles = [" ".join(ax.get_title().split()) for ax in drawn.axes]
    for method in ("rollout", "gradcam"):
        rank, top = moved(found.maps[WHOLE][method][1], found.maps["bfloat16"][method][1])
        assert f"bfloat16 rank {float(rank):.2f} · top {float(top):.2f}" in titles
    photographs = [ax for ax in drawn.axes if len(ax.images) == 1 and ax.images[0].get_array().ndim == 3]
    assert len(photographs) == 1  # once, and not in every row
    plt.close(drawn)


def test_what_has_no_attention_says_so():
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(4)
    found = compressed(clf, photos=x, seen=x, ways=["25 % of heads, by gradient", "bfloat16"], rounds=1)
    assert "needs attention" in found.reasons["25 % of heads, by gradient"]
    assert np.isnan(found.table["rollout_rank"]).all()
    assert "accuracy" not in found.table
    with pytest.raises(ValueError, match="a way to compress is needed; got 'int4'"):
        compressed(clf, ways=["int4"])


def test_nothing_is_measured_on_what_ranges_were_fixed_on():
    """Neither the agreement nor, by default, the maps."""
    fixed = _mixed(FIXING, 64, seed=1)
    measured = _mixed(MEASURED, 200)
    assert not {np.asarray(picture).tobytes() for picture in fixed} & {np.asarray(p).tobytes() for p in measured}
    seen = []
    clf = load(tiny.CNN(), input_size=(3, 32, 32))
    found = compressed(clf, ways={"looks": lambda c, x: seen.append(x) or half(c)}, rounds=1)
    assert torch.equal(seen[0], clf.prepare(fixed))
    shown = found.maps[WHOLE]["gradcam"]
    pictures = {picture.numpy().tobytes() for picture in clf.picture(seen[0])}
    assert not pictures & {picture.numpy().tobytes() for picture in shown.image}


def test_the_photograph_that_the_model_names_comes_first():
    clf = load(tiny.CNN(), input_size=(3, 32, 32), labels=["a", "b", "c", "d", "e"])
    photos = clf.prepare([data.photo(name) for name in MEASURED])
    said = clf(photos).argmax(1)
    coffee = MEASURED.index("coffee")
    labels = ["espresso" if i == said[coffee] else f"class {i}" for i in range(5)]
    first = _right_first(load(clf.module, input_size=(3, 32, 32), labels=labels))
    assert torch.equal(clf.prepare(first[:1])[0], photos[coffee])


def test_what_multiplies_floats_is_not_timed():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(4)
    ways = (
        {"INT8 static": int8, "INT8 static, kernels": int8_kernels} if find_spec("torchao") else {"INT8 static": int8}
    )
    found = compressed(clf, photos=x, seen=x, ways=ways, rounds=1)
    table = found.table.set_index("way")
    assert np.isnan(table.loc["INT8 static", ["latency_ratio", "p10", "p90"]]).all()
    assert table.loc["INT8 static", "rollout_rank"] > 0.5
    assert found.reasons["INT8 static"] == NO_TIME
    if "INT8 static, kernels" in ways:
        assert table.loc["INT8 static, kernels", "latency_ratio"] > 0
        assert np.isnan(table.loc["INT8 static, kernels", ["gmacs", "rollout_rank"]]).all()
        assert "no derivative" in found.reasons["INT8 static, kernels"]
    assert "–" in str(found)


def test_tokens_kept_by_a_network_that_was_trained_on():
    clf, x = tiny.classifier(tiny.vit(depth=4)), tiny.images(16)
    untrained, trained = (WAYS[f"70 % of tokens kept, EViT {how}"](clf, x) for how in ("untrained", "trained"))
    assert (trained(x) - clf(x)).norm() < (untrained(x) - clf(x)).norm()
