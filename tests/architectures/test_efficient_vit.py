"""Linformer and BigBird against loops; one ViT with four attentions against timm's."""

import math

import pytest
import timm
import torch
from torch import Tensor

from vizlib.models.architectures.bigbird import BigBirdAttention, bigbird_mask
from vizlib.models.architectures.efficient_vit import (
    ExactAttention,
    vit_bigbird,
    vit_exact,
    vit_linformer,
    vit_performer,
)
from vizlib.models.architectures.linformer import LinformerAttention

SMALL = {"dim": 24, "depth": 2, "heads": 3, "image_size": 48, "num_classes": 5}  # 3 × 3 patches
ALL = [vit_exact, vit_linformer, vit_performer, vit_bigbird]


def qkv(n: int, d: int = 4) -> Tensor:
    return torch.randn(3, 2, 3, n, d, generator=torch.Generator().manual_seed(n)).double()


def attend_loops(q, k, v, looks_at):
    """softmax over the keys that each query looks at; q, k, v (b, a, n, d), looks_at(i) -> keys."""
    out = torch.zeros_like(q)
    for b in range(q.shape[0]):
        for a in range(q.shape[1]):
            for i in range(q.shape[2]):
                keys = looks_at(i)
                scores = torch.stack([q[b, a, i] @ k[b, a, j] / math.sqrt(q.shape[3]) for j in keys])
                out[b, a, i] = sum(p * v[b, a, j] for p, j in zip(scores.softmax(0), keys, strict=True))
    return out


def test_exact_is_the_loops():
    q, k, v = qkv(6)
    wanted = attend_loops(q, k, v, lambda i: range(6))
    torch.testing.assert_close(ExactAttention()(q, k, v), wanted)
    torch.testing.assert_close(ExactAttention().implied_matrix(q, k) @ v, wanted)


def test_linformer_is_the_loops():
    attend, (q, k, v) = LinformerAttention(6, 3).double(), qkv(6)
    mixed = [
        torch.stack([sum(p[m, j] * t[..., j, :] for j in range(6)) for m in range(3)], 2)
        for p, t in ((attend.key_projection, k), (attend.value_projection, v))
    ]
    wanted = attend_loops(q, *mixed, lambda i: range(3))
    torch.testing.assert_close(attend(q, k, v), wanted)
    torch.testing.assert_close(attend.implied_matrix(q, k) @ v, wanted)


def test_linformer_with_the_identity_as_projection_is_exact():
    attend, (q, k, v) = LinformerAttention(6, 6).double(), qkv(6)
    with torch.no_grad():
        for p in attend.parameters():
            p.copy_(torch.eye(6))
    torch.testing.assert_close(attend(q, k, v), ExactAttention()(q, k, v))


@pytest.mark.parametrize(("window", "random"), [(1, 2), (3, 0), (3, 2), (5, 1)])
def test_bigbird_mask_is_window_and_global_and_random(window, random):
    r, s = 5, 6
    mask = bigbird_mask((r, s), window, random, torch.Generator().manual_seed(0))
    assert mask.shape == (31, 31)
    assert mask[0].all()
    assert mask[:, 0].all()
    for i in range(r * s):
        outside = 0
        for j in range(r * s):
            far = max(abs(i // s - j // s), abs(i % s - j % s))
            if far <= window // 2:
                assert mask[1 + i, 1 + j]
            else:
                outside += int(mask[1 + i, 1 + j])
        assert outside == random


def test_bigbird_is_the_loops():
    attend, (q, k, v) = BigBirdAttention((3, 4), 3, 1), qkv(13)
    wanted = attend_loops(q, k, v, lambda i: attend.mask[i].nonzero()[:, 0].tolist())
    torch.testing.assert_close(attend(q, k, v), wanted)
    matrix = attend.implied_matrix(q, k)
    torch.testing.assert_close(matrix @ v, wanted)
    assert (matrix[:, :, ~attend.mask] == 0).all()


def test_bigbird_with_a_window_over_all_is_exact():
    q, k, v = qkv(13)
    torch.testing.assert_close(BigBirdAttention((3, 4), 9, 0)(q, k, v), ExactAttention()(q, k, v))


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="odd; got 4"):
        BigBirdAttention((3, 4), 4)


def test_random_parts_are_drawn_once_and_differ_between_layers():
    model = vit_bigbird(random=2, **SMALL).eval()
    masks = [block.attn.attend.mask for block in model.blocks]
    assert not torch.equal(*masks)
    again = vit_bigbird(random=2, **SMALL)
    assert all(torch.equal(b.attn.attend.mask, mask) for b, mask in zip(again.blocks, masks, strict=True))
    assert "blocks.0.attn.attend.mask" in model.state_dict()


def test_exact_is_timms_vit():
    options = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": 48, "num_classes": 5}
    wanted = timm.create_model("vit_tiny_patch16_224", **options).eval()
    model = vit_exact(**SMALL).eval()
    model.load_state_dict(wanted.state_dict())  # strict: the names are timm's
    x = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(model(x), wanted(x))


@pytest.mark.parametrize("builder", ALL[1:])
def test_all_else_is_shared(builder):
    exact = vit_exact(**SMALL).state_dict()
    model = builder(**SMALL)
    missing, unexpected = model.load_state_dict(exact, strict=False)
    assert not unexpected
    assert all(".attend." in name for name in missing)


@pytest.mark.parametrize("builder", ALL)
def test_implied_matrix_is_what_the_layer_applies(builder):
    model = builder(**SMALL).eval()
    x = torch.randn(2, 3, 48, 48)
    seen = []
    hook = model.blocks[1].attn.attend.register_forward_hook(lambda m, args, out: seen.append((args[2], out)))
    model(x)
    hook.remove()
    (v, out), matrix = seen[0], model.implied_matrix(x, layer=1)
    assert matrix.shape == (2, 3, 10, 10)
    torch.testing.assert_close(matrix @ v, out, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("builder", [vit_linformer, vit_bigbird])
def test_fixed_numbers_of_tokens_say_so(builder):
    with pytest.raises(ValueError, match=r"10 tokens; got 13.*image_size"):
        builder(**SMALL)(torch.zeros(1, 3, 48, 64))
    model = builder(**{**SMALL, "image_size": (48, 64)})
    assert model(torch.zeros(1, 3, 48, 64)).shape == (1, 5)
