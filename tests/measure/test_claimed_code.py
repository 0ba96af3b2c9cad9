"""Code as it was read, run and seen to fail or mislead; its corrections against definitions and other libraries."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest
import timm
import tiny
import torch
import torchvision.transforms as T
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops import sigmoid_focal_loss

from vizlib.measure.claims import corrected
from vizlib.measure.claims.snippets import claimed, faults
from vizlib.models.architectures.cbam_resnet import SpatialGate

NAMES: dict[str, Any] = {"torch": torch, "nn": nn, "np": np, "T": T, "random": random, "ResNet": ResNet}
NAMES |= {"Bottleneck": Bottleneck}


def read(section: str, name: str | None = None, **others: Any) -> Any:
    """What the claimed code of a section defines under a name."""
    found = NAMES | others
    exec(claimed()[section], found)
    return found[name or section]


def test_every_section_has_code_and_a_fault() -> None:
    assert len(claimed()) == len(faults()) == 12
    assert all(map(str.strip, [*claimed().values(), *faults().values()]))


# Loss --------------------------------------------------------------------------------------------------


def test_focal_loss_does_not_exist() -> None:
    with pytest.raises(AttributeError, match="FocalLoss"):
        read("SmoothFocalLoss")()


def test_focal_loss_corrected() -> None:
    logits, target = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    loss = corrected.SmoothFocalLoss(alpha=0.25, gamma=2.0, epsilon=0.1)
    p = logits.softmax(1)[range(6), target]
    by_hand = sum(0.25 * (1 - v) ** 2 * -math.log(v) for v in p.tolist()) / 6
    smooth = nn.functional.cross_entropy(logits, target, label_smoothing=0.1)
    assert_close(loss(logits, target), 0.7 * smooth + 0.3 * torch.tensor(by_hand))
    # two classes are one sigmoid of the difference: torchvision's binary focal loss
    margin = (logits[:, 1] - logits[:, 0]) * (2 * target - 1)
    binary = sigmoid_focal_loss(margin, torch.ones(6), alpha=0.25, gamma=2.0, reduction="mean")
    assert binary.item() == pytest.approx(by_hand, rel=1e-5)


# Windows -----------------------------------------------------------------------------------------------


def touched(block: nn.Module, x: Tensor, at: tuple[int, int]) -> Tensor:
    """Which places (r, s) of the output change when one place of the input does."""
    with torch.no_grad():
        moved = x.clone()
        moved[:, at[0], at[1]] += torch.randn(x.shape[-1])
        return (block.eval()(moved) - block(x)).abs().amax((0, -1)) > 1e-7


def test_the_swin_block_has_no_windows() -> None:
    """With any attention and MLP put in for the names that are not defined, every token reaches every token."""
    with pytest.raises(NameError, match="WindowAttention"):
        read("SwinBlock")(8, 2)

    class Attention(nn.Module):
        def __init__(self, dim: int, heads: int, _window: int) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(dim, heads, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x)[0]

    block = read("SwinBlock", WindowAttention=Attention, Mlp=lambda dim: nn.Linear(dim, dim))(8, 2, 2)
    flat = torch.randn(1, 4, 4, 8)
    as_tokens = lambda x: block(x.flatten(1, 2)).unflatten(1, (4, 4))  # noqa: E731
    module = type("Tokens", (nn.Module,), {"forward": lambda _self, x: as_tokens(x)})()
    block.eval()
    assert touched(module, flat, (0, 0)).all()


def test_the_swin_block_corrected() -> None:
    x = torch.randn(1, 8, 8, 8)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:4, :4] = True
    assert torch.equal(touched(corrected.SwinBlock(8, 2, 4), x, (1, 2)), expected)
    shifted = touched(corrected.SwinBlock(8, 2, 4, shift=2), x, (3, 3))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert torch.equal(shifted, expected)


# Tokens and positions ----------------------------------------------------------------------------------


def test_the_extractor_has_a_position_too_many_and_no_forward() -> None:
    module = read("ViTExtractor")()
    patches = module.projection(torch.zeros(1, 3, 224, 224)).flatten(2).mT
    with pytest.raises(RuntimeError, match=r"196.*197|197.*196"):
        patches + module.pos_embedding
    with pytest.raises(NotImplementedError):
        module(torch.zeros(1, 3, 224, 224))


def test_the_extractor_corrected_is_the_embedding_of_timm() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1).eval()
    ours = corrected.ViTExtractor(16, 192, 32)
    ours.projection.load_state_dict(vit.patch_embed.proj.state_dict())
    ours.cls_token.data, ours.pos_embedding.data = vit.cls_token.data, vit.pos_embed.data
    x = torch.randn(2, 3, 32, 32)
    assert_close(ours(x), vit._pos_embed(vit.patch_embed(x)))


def test_the_hybrid_feeds_logits_to_a_transformer() -> None:
    def encoder(d_model: int, nhead: int) -> nn.Module:
        return nn.TransformerEncoder(nn.TransformerEncoderLayer(d_model, nhead), 1)

    module = read("HybridModel", TransformerEncoder=encoder)().eval()
    with torch.no_grad():
        assert module.cnn_backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
        with pytest.raises(RuntimeError, match="permute"):
            module(torch.zeros(1, 3, 64, 64))
        features = nn.Sequential(*list(module.cnn_backbone.children())[:-2])
        assert features(torch.zeros(1, 3, 64, 64)).shape[1] == 2048  # and not the 512 of the Transformer


# Heads -------------------------------------------------------------------------------------------------


def attention(dim: int = 24, heads: int = 3) -> nn.Module:
    return tiny.randomise(timm.layers.Attention(dim, heads)).eval()


def test_the_mean_score_is_the_same_for_every_head_and_the_mask_does_not_fit() -> None:
    scores = torch.randn(2, 3, 17, 17).softmax(-1)
    assert_close(scores.mean([0, 2, 3]), torch.full((3,), 1 / 17))
    attn = attention()
    attn.attn_scores, attn.value_proj = scores, nn.Linear(24, 24)
    model = type("Model", (), {"blocks": [type("Block", (), {"attn": attn})]})
    with pytest.raises(IndexError, match="mask"):
        read("prune_heads")(model)


def test_multiplying_an_activation_prunes_nothing() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = attention()

        def forward(self, x: Tensor) -> Tensor:
            qk = self.attn.qkv(x)[..., :48].unflatten(-1, (2, 24)).unbind(-2)
            self.attn.attn_weights = (qk[0] @ qk[1].mT).softmax(-1)
            return self.attn(x)

    block, x = Keeps(), torch.randn(1, 5, 24)
    with torch.no_grad():
        before, count = block(x), sum(p.numel() for p in block.parameters())
        read("prune_attention_heads")(type("Model", (), {"blocks": [block]}))
        assert torch.equal(block(x), before)
    assert sum(p.numel() for p in block.parameters()) == count


@pytest.mark.parametrize("keep", [[0, 2], [1]])
def test_pruned_heads_are_gone_and_the_others_as_before(keep: list[int]) -> None:
    attn, x = attention(), torch.randn(2, 5, 24)
    pruned = copy.deepcopy(attn)
    corrected.prune_heads(pruned, keep)
    silenced = copy.deepcopy(attn)
    for head in set(range(3)) - set(keep):  # the same by leaving their results out of the projection
        silenced.proj.weight.data[:, 8 * head : 8 * head + 8] = 0
    with torch.no_grad():
        assert_close(pruned(x), silenced(x))
    gone = (3 - len(keep)) * 8
    removed = sum(p.numel() for p in attn.parameters()) - sum(p.numel() for p in pruned.parameters())
    assert removed == gone * 3 * 24 + gone * 24 + (gone * 3 if attn.qkv.bias is not None else 0)


# Attention modules, scaling, augmentation, quantisation ------------------------------------------------


def test_the_spatial_attention_is_half_of_cbam_without_its_norm() -> None:
    module, gate = read("SpatialAttention")(), SpatialGate().eval()
    module.conv.weight.data = gate.spatial.conv.weight.data.flip(1)  # the paper takes the maximum first, then the mean
    module.conv.bias.data.zero_()
    x = torch.randn(2, 5, 9, 9)
    with torch.no_grad():
        assert_close(module(x), gate(x), rtol=1e-4, atol=1e-4)  # an untrained norm divides by √(1 + 1e-5)
        gate.spatial.bn.weight.fill_(3)
        assert (module(x) - gate(x)).abs().max() > 0.1


def test_compound_scaling() -> None:
    wrong = read("compound_scale")
    assert wrong(0) == (1.2, 1.1, 224)
    assert corrected.compound_scale(0) == (1, 1, 224)
    depth, width, side = corrected.compound_scale(1)
    assert depth * width**2 * (side / 224) ** 2 == pytest.approx(2, rel=0.05)
    depth, width, side = (new / old for new, old in zip(wrong(3), wrong(2), strict=True))
    assert depth * width**2 * side**2 > 9


def test_augment_claimed_and_corrected() -> None:
    augment = read("augment", "advanced_augment")
    torch.manual_seed(1)  # with these seeds the branch is taken
    random.seed(0)
    with pytest.raises(NameError, match=r"cutmix|mixup"):
        augment(torch.rand(3, 64, 64))
    mixed = 0
    for seed in range(12):
        torch.manual_seed(seed)
        images, shares = corrected.augment(torch.rand(4, 3, 40, 40), torch.tensor([0, 1, 2, 3]), 5)
        assert images.shape == (4, 3, 224, 224)
        assert_close(shares.sum(1), torch.ones(4))
        mixed += bool((shares.max(1).values < 1).any())
    assert 0 < mixed < 12


@pytest.mark.filterwarnings("ignore")
def test_dynamic_quantisation_does_not_read_the_configuration() -> None:
    plain = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    quantised = {}
    for name in ("with", "without"):
        code = claimed()["quantise"].replace("'fbgemm'", "'x86'" if "x86" in engines() else f"{engines()[-1]!r}")
        code = code if name == "with" else "\n".join(line for line in code.splitlines() if "qconfig" not in line)
        found = NAMES | {"SwinTransformer": lambda: copy.deepcopy(plain)}
        exec(code, found)
        quantised[name] = found["quantized_model"]
    x = torch.randn(3, 8)
    assert torch.equal(quantised["with"](x), quantised["without"](x))


def engines() -> list[str]:
    return torch.backends.quantized.supported_engines
