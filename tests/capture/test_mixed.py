"""Attention whose matrix is more than one softmax: what is looked at is what was applied, where that is attention."""

from __future__ import annotations

import tiny
import torch
from timm.models.convit import ConVit

from vizlib.capture.hold import hold
from vizlib.capture.trace import trace


def test_position_and_content_mixed_are_the_attention() -> None:
    """ConViT: (1 - g) softmax(content) + g softmax(position), as its own code computes it."""
    module = ConVit(32, 8, embed_dim=24, depth=2, num_heads=4, num_classes=tiny.CLASSES, local_up_to_layer=1)
    clf, x = tiny.classifier(module), tiny.images(2)
    with torch.no_grad():
        module.blocks[0].attn.gating_param.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
        found = trace(clf, x).attentions["blocks.0.attn"].weights()
        tokens = module.patch_embed(x) + module.pos_embed
        expected = module.blocks[0].attn.get_attention(module.blocks[0].norm1(tokens))
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))


def test_the_share_of_content_is_a_gate_of_each_head() -> None:
    """ConViT: shut, every photograph is attended to alike, by position; the attention is still found."""
    module = ConVit(32, 8, embed_dim=24, depth=2, num_heads=4, num_classes=tiny.CLASSES, local_up_to_layer=1)
    clf, x = tiny.classifier(module), tiny.images(2)
    with torch.no_grad():
        module.blocks[0].attn.gating_param.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    gates = trace(clf, x).gates
    assert {name: gate.kind for name, gate in gates.items()} == {"blocks.0.attn": "head"}
    content = 1 - module.blocks[0].attn.gating_param.sigmoid().detach()
    torch.testing.assert_close(gates["blocks.0.attn"].values, content.view(1, 4, 1, 1))
    with hold(clf, {"blocks.0.attn": 0.0}):
        shut = trace(clf, x).attentions["blocks.0.attn"].weights()
    torch.testing.assert_close(shut[0], shut[1])
    torch.testing.assert_close(shut.sum(-1), torch.ones(shut.shape[:-1]))


def test_mixed_heads_are_looked_at_before_they_are_mixed() -> None:
    """CaiT: what is applied does not sum to 1 and can be negative; the softmax does."""
    clf = tiny.classifier(tiny.cait_with_class_attention())
    attention = trace(clf, tiny.images(2)).attentions["blocks.0.attn"]
    torch.testing.assert_close(attention.weights().sum(-1), torch.ones(attention.weights().shape[:-1]))
    assert (attention.weights() - attention.weights(applied=True)).abs().max() > 0.01
