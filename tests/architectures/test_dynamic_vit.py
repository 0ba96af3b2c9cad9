"""DynamicViT: what is kept, and that keeping all is DeiT."""

from itertools import pairwise

import pytest
import timm
import torch

from vizlib.models.architectures.dynamic_vit import (
    Attention,
    DynamicViT,
    TokenKeeper,
    dynamicvit_deit_s_07,
    masked_softmax,
)


def tiny(**options) -> DynamicViT:
    torch.manual_seed(0)
    return DynamicViT(24, 6, 3, stages=(1, 3, 4), num_classes=5, image_size=96, **options).eval()


def run(model: DynamicViT, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[int]]:
    """Logits, kept patches of each stage, tokens that each block saw."""
    kept, lengths = [], []
    hooks = [m.register_forward_hook(lambda m, args, out: kept.append(out[1])) for m in model.token_keeper]
    hooks += [m.register_forward_hook(lambda m, args, x: lengths.append(x.shape[1])) for m in model.blocks]
    with torch.no_grad():
        logits = model(x)
    for hook in hooks:
        hook.remove()
    return logits, kept, lengths


def drawn(module: torch.nn.Module) -> torch.nn.Module:
    """Memory for a module built on the meta device, filled with drawn numbers."""
    draw = torch.Generator().manual_seed(0)
    module = module.to_empty(device="cpu").eval()
    for t in module.state_dict().values():
        t.copy_(torch.rand(t.shape, generator=draw) / 20)
    return module


def test_keeping_all_is_deit_s():
    with torch.device("meta"):
        deit = timm.create_model("deit_small_patch16_224", img_size=64)
        model = dynamicvit_deit_s_07(keep=1.0, image_size=64)
    deit, model = drawn(deit), drawn(model)
    missing, unexpected = model.load_state_dict(deit.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("score_predictor") for name in missing)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), deit(x), atol=1e-5, rtol=1e-4)


def test_tokens_are_really_gone():
    logits, kept, lengths = run(tiny(keep=0.5), torch.randn(2, 3, 96, 96))  # 36 patches
    assert logits.shape == (2, 5)
    assert lengths == [37, 19, 19, 10, 5, 5]  # 36 · 0.5, · 0.25, · 0.125 rounded down, and the class token
    for before, after in pairwise(kept):
        for b in range(2):
            assert set(after[b].tolist()) < set(before[b].tolist())
    assert not torch.equal(kept[0][0].sort().values, kept[0][1].sort().values)  # each photo has its own


def test_the_highest_scores_are_kept_with_their_tokens():
    x, score = torch.randn(2, 5, 3), torch.tensor([[0.1, 0.9, 0.3, 0.7], [0.5, 0.2, 0.8, 0.1]])
    patches = torch.tensor([[4, 7, 8, 9], [1, 3, 5, 7]])
    tokens, left = TokenKeeper()(x, score, patches, 2)
    assert left.tolist() == [[7, 9], [5, 1]]
    wanted = torch.stack([x[0, [0, 2, 4]], x[1, [0, 3, 1]]])  # the class token first
    assert torch.equal(tokens, wanted)


def test_the_predictor_ranks_the_patches_that_are_left():
    model = tiny(keep=0.5)
    x = torch.randn(1, 3, 96, 96)
    _, kept, _ = run(model, x)
    with torch.no_grad():
        tokens = model.patch_embed(x).flatten(2).transpose(1, 2) + model.pos_embed[:, 1:]
        tokens = torch.cat([model.cls_token + model.pos_embed[:, :1], tokens], 1)
        tokens = model.blocks[0](tokens)
        z = model.score_predictor[0].in_conv(tokens[:, 1:])
        joint = torch.cat([z[..., :12], z[..., 12:].mean(1, keepdim=True).expand(-1, 36, -1)], -1)
        keep = model.score_predictor[0].out_conv(joint)[0, :, 0]
    assert set(keep.topk(18).indices.tolist()) == set(kept[0][0].tolist())


def test_masked_attention_is_attention_over_what_is_left():
    torch.manual_seed(0)
    attend, x = Attention(12, 3).double(), torch.randn(1, 6, 12).double()
    decision = torch.tensor([[1, 1, 0, 1, 0, 1]]).double()
    left = decision[0].nonzero()[:, 0]
    torch.testing.assert_close(attend(x, decision)[:, left], attend(x[:, left]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attend(x, torch.ones_like(decision)), attend(x), atol=1e-5, rtol=1e-5)


def test_a_dropped_token_still_sees_itself():
    weights = masked_softmax(torch.zeros(1, 1, 3, 3), torch.tensor([[1.0, 0.0, 0.0]]))[0, 0]
    wanted = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]])
    torch.testing.assert_close(weights, wanted, atol=1e-5, rtol=0)


def test_training_gives_decisions_that_the_ratio_loss_can_move():
    model = tiny(keep=0.7).train()
    logits, decisions = model(torch.randn(2, 3, 96, 96))
    assert logits.shape == (2, 5)
    assert [d.shape for d in decisions] == [(2, 36)] * 3
    for before, after in pairwise(decisions):
        assert ((after == 0) | (after == 1)).all()
        assert (after <= before).all()  # what is dropped stays dropped
    sum((0.7 ** (s + 1) - d.mean(1)).square().mean() for s, d in enumerate(decisions)).backward()
    for predictor in model.score_predictor:
        assert predictor.in_conv[1].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("keep", [0.0, 1.1])
def test_a_share_outside_its_range_is_refused(keep):
    with pytest.raises(ValueError, match="keep is a share"):
        tiny(keep=keep)
