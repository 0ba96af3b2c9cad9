"""EViT: keeping all is the ViT, and what is kept is what the class token looks at."""

import pytest
import tiny
import torch
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer
from torch import nn

from vizlib.capture.trace import trace
from vizlib.models.architectures.evit import EViT


def vit() -> VisionTransformer:
    return tiny.randomise(tiny.vit(depth=4)).eval()


def test_keeping_all_is_the_vit():
    plain, x = vit(), tiny.images(2)
    with torch.no_grad():
        torch.testing.assert_close(EViT(plain, 1.0).eval()(x), plain(x), atol=1e-5, rtol=1e-4)


def test_what_the_class_token_looks_at_most_is_kept():
    plain, x = vit(), tiny.images(3)
    seen = trace(tiny.classifier(plain), x).attentions["blocks.1.attn"]  # found by looking at the run, not by the model
    looks = seen.weights()[:, 0, :, 0, 1:].mean(1)  # (b, 16)
    run = trace(tiny.classifier(EViT(plain, 0.5, stages=(2,))), x)
    wanted = looks.topk(8, 1).indices.sort(1).values
    assert torch.equal(run.kept["vit.blocks.2.attn"], wanted)
    assert torch.equal(run.kept["vit.blocks.3.attn"], wanted)
    assert "vit.blocks.1.attn" not in run.kept
    assert run.attentions["vit.blocks.3.attn"].shape[-1] == 9


def test_default_stages_are_the_quarters_and_the_share_is_taken_each_time():
    run = trace(tiny.classifier(EViT(tiny.vit(depth=8), 0.5)), tiny.images(1))
    assert [left.shape[1] for left in run.kept.values()] == [8, 8, 4, 4, 2, 2]


def test_queries_keys_and_values_are_computed_once():
    model, runs = EViT(vit(), 0.5).eval(), []
    for block in model.vit.blocks:
        block.attn.qkv.register_forward_hook(lambda *_: runs.append(1))
    model(tiny.images(1))
    assert len(runs) == len(model.vit.blocks)


def other_blocks() -> VisionTransformer:
    return VisionTransformer(32, 8, embed_dim=16, depth=2, num_heads=2, block_fn=ParallelScalingBlock)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EViT(nn.Linear(3, 3)), "got Linear"),
        (lambda: EViT(tiny.distilled()), "class token alone"),
        (lambda: EViT(other_blocks()), "this ViT has others"),
        (lambda: EViT(vit(), 0.0), r"in \(0, 1\]; got 0.0"),
        (lambda: EViT(vit(), 0.5, stages=(0,)), r"blocks from 1 to 3; got \(0,\)"),
    ],
)
def test_what_cannot_drop_patches_says_so(build, message):
    with pytest.raises(ValueError, match=message):
        build()
