"""What summary says, against what is known of tiny models."""

import pytest
import tiny
from timm.models import create_model

from vizlib.explore.summary import summary
from vizlib.methods.table import METHODS, explain


@pytest.fixture(scope="module")
def vit():
    return summary(tiny.classifier(tiny.vit()))


def test_operations_with_heads_grids_and_windows(vit):
    assert (vit.family, vit.classes, vit.input_size) == ("Transformer", tiny.CLASSES, (3, 32, 32))
    assert vit.attentions["name"].tolist() == ["blocks.0.attn", "blocks.1.attn"]
    row = vit.attentions.iloc[0]
    assert (row["heads"], row["key grid"], row["prefix tokens"], row["windows"]) == (3, "4 × 4", 1, "")
    windows = summary(tiny.classifier(tiny.swin())).attentions["windows"]
    assert windows.iloc[0] == "16 of 16 keys"  # 16 × 16 tokens in windows of 4 × 4


def test_gates_are_listed():
    clf = tiny.classifier(create_model("seresnet18", num_classes=tiny.CLASSES))
    found = summary(clf)
    assert found.gates["kind"].unique().tolist() == ["channel"]
    assert len(found.gates) == 8
    assert found.attentions.empty


@pytest.mark.parametrize("module", [tiny.CNN, tiny.vit])
def test_a_method_is_said_to_apply_where_it_does(module):
    clf = tiny.classifier(module())
    reasons = summary(clf).methods
    assert list(reasons) == list(METHODS)
    for name in ("gradcam", "cam", "rollout", "chefer", "attention", "saliency"):
        if reasons[name]:
            with pytest.raises((ValueError, RuntimeError)):
                explain(clf, tiny.images(1), name)
        else:
            explain(clf, tiny.images(1), name)


def test_the_text_has_operations_and_reasons(vit):
    text = str(vit)
    assert "blocks.0.attn … blocks.1.attn (2)" in text
    assert "not cam: plain CAM needs" in text
    assert "rollout" in text.partition("methods that apply:")[2].partition("not cam")[0]
