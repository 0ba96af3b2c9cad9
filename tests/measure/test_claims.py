"""The claims: the stored table is what the functions find, and the numbers in it are right on their own."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vizlib.measure.checkpoints import published
from vizlib.measure.claims import accuracy, cost, mechanism
from vizlib.measure.claims.table import CLAIMS, check, claims

VERDICTS = ("holds", "off", "wrong", "not checkable here")
SLOW = {"c07", "c11", "c20", "c22", "c23", "c25"}  # these run a model; their functions are tested below
STORED = claims().set_index("id")


def test_there_are_32_with_source_and_verdict() -> None:
    assert STORED.index.tolist() == [f"c{n:02}" for n in range(1, 33)] == [claim.id for claim in CLAIMS]
    assert STORED.notna().all().all()
    assert STORED["verdict"].str.startswith(VERDICTS).all()
    assert not STORED["found"].str.contains(r"\bms\b|images/s").any()  # no speed of a machine is stored


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
    assert accuracy.hybrid_gains()[0] == pytest.approx(expected)


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
