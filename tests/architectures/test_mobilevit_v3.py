"""MobileViTv3: unfolding, and the fusion of local, global and input features."""

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vizlib.models.architectures.mobilevit_v3 import MobileViTv3Block, fold, unfold
from vizlib.models.architectures.registry import build

# 10⁶ multiplications: the papers' tables (arXiv 2209.15159, 2110.02178)
PUBLISHED = {
    "mobilevitv3_xxs": 289, "mobilevitv3_xs": 927, "mobilevitv3_s": 1841,
    "mobilevit_xxs": 364, "mobilevit_xs": 986, "mobilevit_s": 2009,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_count_is_ours_but_for_the_products_of_attention(name):
    """They come out with n · d² for each product over n tokens, in place of n² · d."""
    with torch.device("meta"):
        model = (build if "v3" in name else timm.create_model)(name).eval().requires_grad_(False)
    less = []

    def note(_block, inputs):
        b, n, d = inputs[0].shape
        less.append(2 * b * (n * n * d - n * d * d))

    for module in model.modules():
        if isinstance(module, Block):
            module.register_forward_pre_hook(note)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, 3, 256, 256, device="meta"))
    assert (counter.get_total_flops() / 2 - sum(less)) / 1e6 == pytest.approx(PUBLISHED[name], rel=0.01)


def test_unfolding_groups_the_cells_at_one_place_of_their_patches():
    x = torch.randn(2, 3, 4, 6)
    groups = unfold(x)
    assert groups.shape == (8, 6, 3)
    for b in range(2):
        for i in range(4):
            for j in range(6):
                group, patch = 4 * b + 2 * (i % 2) + j % 2, 3 * (i // 2) + j // 2
                assert torch.equal(groups[group, patch], x[b, :, i, j])
    assert torch.equal(fold(groups, (4, 6)), x)


def block() -> MobileViTv3Block:
    torch.manual_seed(0)
    return MobileViTv3Block(6, 8, 2).double().eval()


def test_block_fuses_local_global_and_input():
    model, x = block(), torch.randn(2, 6, 4, 6).double()
    near = model.local(x)
    far = torch.zeros_like(near)
    for i in (0, 1):
        for j in (0, 1):  # every other row and column attend to each other
            tokens = near[:, :, i::2, j::2]
            seen = model.norm(model.transformer(tokens.flatten(2).transpose(1, 2)))
            far[:, :, i::2, j::2] = seen.transpose(1, 2).reshape(tokens.shape)
    conv, bn, _ = model.fuse
    y = torch.cat([near, model.project(far)], 1)
    wanted = x + F.silu(bn(torch.einsum("bchw,oc->bohw", y, conv.weight[:, :, 0, 0])))
    torch.testing.assert_close(model(x), wanted)


def test_local_convolution_is_depthwise():
    depthwise, pointwise = block().local[0][0], block().local[1]
    assert (depthwise.weight.shape, depthwise.groups) == ((6, 1, 3, 3), 6)
    assert pointwise.weight.shape == (8, 6, 1, 1)


def test_odd_grids_are_resized_for_the_transformer_alone():
    model, x = block(), torch.randn(1, 6, 5, 3).double()
    assert model(x).shape == x.shape
    model.transformer, model.norm = torch.nn.Identity(), torch.nn.Identity()
    near = model.local(x)
    far = F.interpolate(F.interpolate(near, (6, 4), mode="bilinear"), (5, 3), mode="bilinear")
    torch.testing.assert_close(model(x), x + model.fuse(torch.cat([near, model.project(far)], 1)))
