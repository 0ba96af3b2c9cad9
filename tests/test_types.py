"""How what was found prints: short, by name and shape, never a dump of numbers."""

from __future__ import annotations

import pytest
import timm
import tiny
import torch

from vizlib.capture.trace import trace
from vizlib.methods.table import explain
from vizlib.types import Curve, Score


def test_a_trace_prints_as_a_table_of_its_operations():
    done = trace(tiny.classifier(tiny.swin()), tiny.images(), target=3)
    lines = repr(done).splitlines()
    assert lines[0] == "Trace of tiny on 2 photographs of 3 × 32 × 32, target rocket"
    assert lines[1] == "attentions: 4"
    row = "spatial, 2 heads, 16 groups, queries 16 (grid 16 × 16), keys 16 (grid 16 × 16), with gradients"
    assert lines[2] == f"  layers.0.blocks.0.attn  {row}"
    assert lines[-1].startswith("class-activation layer: ")
    assert [line.strip() for line in lines[2:6]] == repr(done.attentions).splitlines()
    assert repr(done.attentions["layers.0.blocks.0.attn"]) == f"Attention layers.0.blocks.0.attn: {row}"
    assert repr(done.gates) == "none"


def test_gates_print_with_kind_shape_and_range():
    clf = tiny.classifier(timm.create_model("test_efficientnet_gn", num_classes=5))
    done = trace(clf, tiny.images(1))
    name, gate = next(iter(done.gates.items()))
    assert repr(gate).startswith(f"Gate {name}: channel gate {tuple(gate.values.shape)}, sigmoid, 0.")
    assert f"  {name}" in repr(done)


def test_a_heatmap_prints_its_shape_range_and_classes():
    clf = tiny.classifier(tiny.CNN())
    text = repr(explain(clf, tiny.images(), target=["coffee", "tea"]))
    assert text.startswith("Heatmap of gradcam on tiny at 'body': 2 × 2 maps of 8 × 8, ")
    assert text.endswith(" logits, about coffee | tea")
    assert "tensor" not in text


def test_a_heatmap_ends():
    heat = explain(tiny.classifier(tiny.CNN()), tiny.images())
    assert len(list(heat)) == 2
    with pytest.raises(IndexError, match="holds 2 photographs; got 2"):
        heat[2]


def test_measures_print_their_verdict_or_their_numbers():
    curve = Curve(torch.linspace(0, 1, 3), torch.rand(2, 3), torch.tensor([0.25, 0.5]), "deletion", False)
    assert repr(curve) == "Curve of deletion: probability, area 0.25, 0.5"
    assert (
        str(Score(torch.arange(6.0), "sparsity", True, "Gini index")) == "Score of sparsity: 0, 1, 2, 3, … Gini index"
    )
