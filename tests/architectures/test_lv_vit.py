"""LV-ViT: the dense head, the divided residual and MixToken."""

import torch

from vizlib.models.architectures.lv_vit import Block, LVViT, mix, random_box


def tiny(**options) -> LVViT:
    torch.manual_seed(0)
    return LVViT(24, 2, 3, num_classes=5, image_size=64, **options).eval()


def dense_of(model: LVViT, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, output of the class head, output of the dense head."""
    seen = []
    heads = model.head, model.aux_head
    hooks = [head.register_forward_hook(lambda m, args, out: seen.append(out)) for head in heads]
    with torch.no_grad():
        logits = model(x)
    for hook in hooks:
        hook.remove()
    return logits, *seen


def test_logits_are_the_class_head_and_half_the_best_patch():
    logits, head, dense = dense_of(tiny(), torch.randn(2, 3, 64, 64))
    assert dense.shape == (2, 16, 5)
    for b in range(2):
        for c in range(5):
            best = max(float(v) for v in dense[b, :, c])
            torch.testing.assert_close(logits[b, c], head[b, c] + 0.5 * best)


def test_dense_scores_stand_in_reading_order():
    model = tiny()
    model.blocks = torch.nn.Identity()  # no mixing: a patch's scores come from its own pixels
    x = torch.randn(1, 3, 64, 64)
    changed = x.clone()
    changed[:, :, 36:44, 20:28] += 3  # inside patch (2, 1) of 4 × 4, away from its border
    moved = (dense_of(model, x)[2] - dense_of(model, changed)[2]).abs().amax((0, 2))
    assert moved.argmax() == 2 * 4 + 1


def test_residuals_are_divided():
    block, x = Block(12, 3, 2.0, 2.0, 0.0).double().eval(), torch.randn(1, 4, 12).double()
    y = x + block.attn(block.norm1(x)) / 2
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)) / 2)


def test_mixing_takes_the_box_from_the_other_photo_and_undoes_itself():
    x = torch.randn(2, 4, 5, 3)
    mixed = mix(x, (1, 3, 0, 2))
    for i in range(4):
        for j in range(5):
            other = 1 <= i < 3 and j < 2
            assert torch.equal(mixed[0, i, j], x[1 if other else 0, i, j])
    assert torch.equal(mix(mixed, (1, 3, 0, 2)), x)


def test_boxes_lie_in_the_grid_and_differ():
    torch.manual_seed(0)
    boxes = [random_box(4, 7) for _ in range(200)]
    assert all(0 <= a <= b <= 4 and 0 <= c <= d <= 7 for a, b, c, d in boxes)
    assert len(set(boxes)) > 20


def test_training_gives_patch_logits_in_their_own_photos():
    model = tiny().train()
    model.blocks = torch.nn.Identity()  # so that a patch's scores depend on nothing else
    model.patch_embed.eval()
    x = torch.randn(2, 3, 64, 64)
    logits, dense, box = model(x)
    assert logits.shape == (2, 5)
    assert dense.shape == (2, 16, 5)
    model.eval()
    torch.testing.assert_close(dense, dense_of(model, x)[2])  # unmixed again, whatever the box
    assert len(box) == 4


def test_without_mixing_training_draws_nothing():
    model = tiny(mix_token=False).train()
    before = torch.get_rng_state()
    assert model(torch.randn(2, 3, 64, 64, generator=torch.Generator()))[2] == (0, 0, 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
