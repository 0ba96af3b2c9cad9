"""The claims: the stored table is what the functions find, and the numbers in it are right on their own."""

from __future__ import annotations

import re
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import timm
import tiny
import torch
from torch import nn

from vizlib.measure.checkpoints import published
from vizlib.measure.claims import cost, hybrids, mechanism, speed
from vizlib.measure.claims.evidence import SPEED, Verdict
from vizlib.measure.claims.table import CLAIMS, check, claims
from vizlib.measure.cost import params_of
from vizlib.types import Classifier

SLOW = {"c07", "c11", "c20", "c22", "c23", "c25"}  # these run a model; their functions are tested below
STORED = claims().set_index("id")


def test_there_are_32_with_source_and_verdict() -> None:
    assert STORED.index.tolist() == [f"c{n:02}" for n in range(1, 33)] == [claim.id for claim in CLAIMS]
    assert STORED.notna().all().all()
    assert STORED["verdict"].isin(get_args(Verdict)).all()
    assert not STORED["found"].str.contains(r"\bms\b|images/s").any()  # no speed of a machine is stored


def test_a_verdict_is_one_of_five_and_its_reason_does_not_say_another() -> None:
    """What holds with one of its numbers alone, or under a condition, does not count as what holds."""
    assert (STORED.loc[["c10", "c14", "c15", "c19", "c30"], "verdict"] == "holds in part").all()
    assert not STORED["reason"].str.match(r"(holds|off|wrong)\b").any()
    assert 0 < (STORED["verdict"] == "holds").sum() < 10


def test_a_source_is_a_paper_a_table_or_what_was_counted_here() -> None:
    sources = STORED["source"]
    assert sources.str.contains(r"arXiv \d{4}\.\d{5}|data/\w+\.csv|counted here").all()
    assert not sources.str.contains(r"vl\.").any()  # the package is no source of published figures
    bare = r"(?<!vizlib\.measure\.)(?<!vizlib\.)\b(?:claims|measure)\.\w"
    assert not sources.str.contains(bare).any()
    for name in ("c03", "c05", "c09", "c28"):
        assert "arXiv" in sources[name], name


def test_a_speed_that_is_promised_is_measured() -> None:
    promised = STORED.index[STORED["reason"].str.contains(re.escape(SPEED), regex=True)]
    assert promised.tolist() == sorted(speed.CLAIMED)
    told = STORED["claim"].str.contains(r"×(?! 7)|images/s|img/s") & ~STORED.index.isin(["c31"])
    assert set(STORED.index[told]) - {"c26"} <= set(speed.CLAIMED)


def test_claimed_speeds_are_measured_as_times_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_layer(name: str) -> Classifier:
        layers = [nn.Linear(3072, 3072) for _ in range(8 if name == "Swin-T" else 1)]
        return tiny.classifier(nn.Sequential(nn.Flatten(), *layers))

    monkeypatch.setattr(speed, "network", one_layer)
    table = speed.measured("c31", rounds=5).set_index(pd.Index(["slow", "fast"]))
    assert table["claimed"].tolist() == ["1", "3"]
    assert [speed._times(claimed) for claimed in speed.CLAIMED["c20"].values()] == ["1", "3 to 5", "3 to 5", "–"]
    assert table["measured"]["slow"] == 1
    assert table["measured"]["fast"] > 2
    assert table["from"]["fast"] <= table["measured"]["fast"] <= table["to"]["fast"]


def test_networks_of_claimed_speeds() -> None:
    names = {name for claim in speed.CLAIMED.values() for name in claim}
    assert names - set(speed._NAMES) - set(speed._LONG) == {"ViT-B/16, a third of the heads gone"}
    with torch.device("meta"):
        pruned, whole = speed._pruned(), timm.create_model("vit_base_patch16_224")
    gone = 12 * 4 * 4 * (64 * 768) + 12 * 3 * 4 * 64  # blocks · heads · (q, k, v, back) · their rows, and biases
    assert params_of(whole) - params_of(pruned) == gone


def test_the_stored_table_is_what_is_found_now() -> None:
    now = check(tuple(claim for claim in CLAIMS if claim.id not in SLOW)).set_index("id")
    for name in now.index:
        assert now.loc[name].to_dict() == STORED.loc[name].to_dict(), name


def test_head_share_by_hand() -> None:
    """ViT-B/16: 12 blocks, 197 tokens, width 768; per block 4 d² of projections and 8 d² of MLP."""
    n, d = 197, 768
    attention = 12 * (4 * n * d * d + 2 * n * n * d) / 1e9
    whole = attention + 12 * 8 * n * d * d / 1e9 + (196 * d * 768 + 1000 * d) / 1e9
    assert cost.head_share("vit_base_patch16_224")["gmacs"] == pytest.approx((whole, attention))
    assert cost.head_share("vit_base_patch16_224")["params"][1] == 12 * (4 * d * d + 4 * d)


def test_int8_of_linear_layers_by_hand() -> None:
    assert cost.smaller_by_int8("resnet50") == pytest.approx(0.75 * 2048 * 1000 / 25_557_032)


def test_memory_of_attention_is_linear_fused_and_quadratic_written_out() -> None:
    assert cost.scaled_memory(fused=True, tokens=256) == pytest.approx(2, rel=0.05)
    assert cost.scaled_memory(fused=False, tokens=256) > 3.3


def test_hybrid_gains_against_a_fit_of_their_own() -> None:
    rows = published().query("image_px == accuracy_px and not more_data")
    pure = rows[rows["family"].isin(["CNN", "Transformer"])]
    design = np.column_stack([np.log10(pure["params"]), np.ones(len(pure))])
    line = np.linalg.lstsq(design, pure["accuracy"], rcond=None)[0]
    first = rows[rows["family"] == "hybrid"].iloc[0]
    expected = 100 * (first["accuracy"] - line @ [np.log10(first["params"]), 1])
    assert hybrids.over_the_line(*hybrids.groups())[0] == pytest.approx(expected)


def test_gains_of_hybrids_by_hand() -> None:
    """Others on the line 10 · log parameters, later one of them 3 points above; one hybrid has no rival."""
    others = np.arange(1.0, 21)[:, None] * [1, 10]
    mixed = np.array([[1.0, 11], [2.1, 23], [29, 295]])
    assert hybrids.over_the_line(mixed, others).tolist() == pytest.approx([1, 2, 5])
    rivals = np.vstack([others, [2.2, 25]])
    assert hybrids.over_the_best(mixed, rivals).tolist() == pytest.approx([1, -2])
    assert hybrids.interval_over_the_line(mixed[:1].repeat(9, 0), others) == pytest.approx((1, 1))


def test_the_interval_of_a_median_widens_with_the_spread() -> None:
    random = np.random.default_rng(1)
    sizes = random.uniform(15, 18, 60)
    others, mixed = np.split(np.column_stack([sizes, 4 * sizes + random.normal(0, 1, 60)]), [40])
    narrow = hybrids.interval_over_the_line(mixed, others)
    wide = hybrids.interval_over_the_line(np.repeat(mixed[:5], 1, 0), others)
    assert narrow[0] < np.median(hybrids.over_the_line(mixed, others)) < narrow[1]
    assert 0.3 < narrow[1] - narrow[0] < wide[1] - wide[0]


def test_those_with_a_teacher_are_left_out() -> None:
    every, untaught = hybrids.groups(), hybrids.groups(teachers=False)
    assert (len(every[0]), len(untaught[0])) == (27, 19)  # five EfficientFormers, LeViT, EdgeNeXt, VOLO are gone
    names = published()["model"]
    assert names.str.contains(hybrids._TEACHER).sum() > 14


def test_like_recipes_stand_beside_like() -> None:
    """DeiT-S and ResNet-50 were trained 300 and 600 epochs: that is no equal recipe."""
    found, reason = STORED.loc["c32", ["found", "reason"]]
    assert "300 epochs" in found
    assert "600 epochs" in found
    assert "equal recipes the difference is gone" not in reason


def test_int8_of_the_zoo_is_that_of_the_table() -> None:
    rows = cost.int8_of_the_zoo().set_index("model")
    assert rows["smaller"].between(0.5, 0.75).all()
    assert rows["gained"].abs().max() < rows["half"].max()
    for name in rows.index:
        assert name in STORED.loc["c15", "found"]


def test_savings_grow_with_the_sequence() -> None:
    saved = [1 - cost.attention_peak("performer", size) / cost.attention_peak("exact", size) for size in (512, 2048)]
    assert saved[0] < 0.9 < saved[1]


def test_position_terms() -> None:
    assert mechanism.position_spread("swin") < 1e-5
    assert mechanism.position_spread("vit") > 0.1


def test_the_map_without_the_gradient_is_class_blind() -> None:
    moved, of = mechanism.heatmap_moves()
    assert moved == 0
    assert of > 0.1


def test_channel_attention_is_squeeze_and_excitation() -> None:
    assert mechanism.channel_attention_differs() < 1e-6


def test_numbers_in_the_table_are_those_of_the_published_one() -> None:
    """Spot checks read from the text."""
    found = STORED["found"]
    assert re.search(r"ConvNeXt-XL has 350\.2 M", found["c04"])
    assert re.search(r"ResNet-50 has 25\.6 M", found["c16"])
    assert "60.2 M parameters" in found["c01"]
