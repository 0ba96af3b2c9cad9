"""Held against what the authors published: state dicts, and outputs under drawn weights."""

import numpy as np
import pytest
import torch

from vizlib.models.architectures.registry import ARCHITECTURES, build

PUBLISHED = [n for n in ARCHITECTURES if not n.startswith(("mobilevitv3", "vit_", "hybrid"))]
GOLDEN = ["cswin_t", "t2t_vit_7", "t2t_vit_t_14", "lvvit_t", "resnet18_cbam", "resnet18_bam"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_are_the_checkpoints(name, published_shapes):
    wanted = published_shapes(name)
    with torch.device("meta"):
        ours = {key: tuple(t.shape) for key, t in build(name).state_dict().items()}
    assert ours == wanted


@pytest.mark.parametrize("name", GOLDEN)
def test_logits_are_the_authors(name, golden):
    assert golden.check(build(name), name) < 1e-3


def test_the_check_can_fail(golden):
    model = build("t2t_vit_7")
    for block in model.blocks:
        block.norm1.eps = 0.01
    with pytest.raises(ValueError, match="logits differ"):
        golden.check(model, "t2t_vit_7")


def test_dynamicvit_logits_and_kept_patches_are_the_authors(facts, golden):
    model, kept = build("dynamicvit_deit_s_07"), []
    for keeper in model.token_keeper:
        keeper.register_forward_hook(lambda module, args, output: kept.append(output[1]))
    assert golden.check(model, "dynamicvit_deit_s_07") < 1e-3
    wanted = np.load(facts / "golden" / "dynamicvit_deit_s_07.npz")
    assert [patches.shape for patches in kept] == [(2, 137), (2, 96), (2, 67)]
    for stage, patches in enumerate(kept):
        assert np.array_equal(patches.sort(1).values.numpy(), np.sort(wanted[f"kept{stage}"], 1))
