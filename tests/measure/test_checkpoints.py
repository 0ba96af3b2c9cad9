"""Tables of accuracy and cost: against counts made now, cards, and a Pareto front by its definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from vizlib.measure.checkpoints import front, measured, published, trained_zoo
from vizlib.measure.costs import classifier_of, cost_from_shapes, families
from vizlib.measure.memory import peak_bytes
from vizlib.models import zoo

TABLE = published()


def test_every_checkpoint_has_its_costs_at_the_size_of_its_accuracy() -> None:
    own = TABLE.query("image_px == accuracy_px")
    assert len(own) == own["model"].nunique() == 123
    assert own["accuracy"].between(0.6, 0.95).all()
    assert (own[["params", "gmacs", "memory_mb"]] > 0).all().all()
    assert (own["memory_mb"] > 4 * own["params"] / 1e6).all()  # weights alone
    assert own["source"].str.len().min() > 0
    assert own["latency_ms"].isna().all()


def test_more_data_is_told_from_the_tag() -> None:
    more = TABLE.set_index("model")["more_data"]
    assert more["timm/swin_base_patch4_window7_224.ms_in22k_ft_in1k"].all()
    assert more["timm/tf_efficientnet_b7.ns_jft_in1k"].all()
    assert more["timm/vit_base_patch16_clip_224.openai_ft_in1k"].all()
    for alone in ("swin_base_patch4_window7_224.ms_in1k", "hiera_tiny_224.mae_in1k_ft_in1k", "resnet50.a1_in1k"):
        assert not more[f"timm/{alone}"].any(), alone


@pytest.mark.parametrize(("name", "size"), [("mobilevit_xxs", 256), ("resnet18", 512), ("vit_tiny_patch16_224", 224)])
def test_stored_costs_are_those_counted_now(name: str, size: int) -> None:
    with torch.device("meta"):
        now = cost_from_shapes(classifier_of(name, size))
    row = TABLE[TABLE["model"].str.startswith(f"timm/{name}.") & (TABLE["image_px"] == size)].iloc[0]
    for column in ("params", "gmacs", "attention_gmacs", "memory_mb"):
        assert row[column] == pytest.approx(now[column], rel=1e-4), column


def test_costs_grow_with_the_image_as_they_must() -> None:
    rows = {side: TABLE.query("image_px == @side").set_index("model") for side in (512, 1024)}
    ratio = rows[1024]["gmacs"] / rows[512]["gmacs"]
    cnn = rows[512]["family"] == "CNN"
    assert ratio[cnn[cnn].index].between(3.9, 4.1).all()
    vit = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    tokens = [1 + (side // 16) ** 2 for side in (512, 1024)]
    for side, n in zip((512, 1024), tokens, strict=True):
        assert rows[side].loc[vit, "attention_gmacs"] == pytest.approx(12 * 2 * n * n * 192 / 1e9, rel=1e-4)


@pytest.mark.parametrize("module", [tiny.CNN(), tiny.vit()], ids=["cnn", "vit"])
def test_memory_from_shapes_is_memory_that_is_used(module: torch.nn.Module) -> None:
    """Without weights on the meta device, and with numbers on the processor."""
    clf = tiny.classifier(module)
    with torch.no_grad():
        used = peak_bytes(clf.module, torch.zeros(1, 3, 32, 32)) / 1e6
    assert cost_from_shapes(clf)["memory_mb"] == pytest.approx(used, rel=0.02)


def test_families_are_found_on_the_smallest_of_a_kind() -> None:
    assert families(["resnet34", "resnet18", "resmlp_12_224"]) == {
        "resnet34": "CNN", "resnet18": "CNN", "resmlp_12_224": "MLP"
    }  # fmt: skip


def test_the_zoo_stands_with_its_cards() -> None:
    table = trained_zoo().set_index("model")
    for name in zoo.trained():
        card, row = zoo.card(name), table.loc[f"zoo/{name}"]
        assert row["accuracy"] == card.top1
        assert row["low"] < row["accuracy"] < row["high"]
        assert row["params"] == card.parameters
        assert row["gmacs"] == pytest.approx(card.gmacs)
    assert table["dataset"].nunique() == 1


def test_a_module_without_a_known_accuracy_is_measured_all_the_same() -> None:
    row = measured([tiny.classifier(tiny.CNN(), name="mine")], latency=True).iloc[0]
    assert np.isnan(row["accuracy"])
    assert row["family"] == "CNN"
    assert row["latency_ms"] > 0


def test_the_front_by_hand_and_by_definition() -> None:
    rows = pd.DataFrame({"gmacs": [1, 2, 2, 3, 4, 4, 5], "accuracy": [0.5, 0.6, 0.7, 0.7, 0.9, 0.9, 0.8]})
    assert front(rows).index.tolist() == [0, 2, 4, 5]  # 3 costs more than 2 for the same; 4 and 5 are equal
    random = pd.DataFrame(np.random.default_rng(0).random((60, 2)), columns=["gmacs", "accuracy"])
    beaten = [
        any(
            (o.gmacs <= r.gmacs and o.accuracy > r.accuracy) or (o.gmacs < r.gmacs and o.accuracy >= r.accuracy)
            for o in random.itertuples()
        )
        for r in random.itertuples()
    ]
    assert set(front(random).index) == set(random.index[~np.array(beaten)])
    assert front(random)["gmacs"].is_monotonic_increasing
    assert front(random)["accuracy"].is_monotonic_increasing
