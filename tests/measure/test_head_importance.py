"""Importance of heads against finite differences of the loss; heads cut out against heads silenced."""

from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from timm.layers import Attention as TimmAttention

import vizlib.measure.head_importance as head_importance_file
from vizlib.capture.trace import ablate
from vizlib.measure.head_importance import head_importance, least, prune_heads, without_heads


@pytest.fixture(scope="module")
def clf():
    return tiny.classifier(tiny.vit().double())


@pytest.fixture(scope="module")
def x():
    return tiny.images(3).double()


def turned_down(clf, x, layer, head, by):
    """Losses (b,) with a head's output multiplied by 1 - by, through the columns that read it."""
    weight, width = clf.module.get_submodule(layer).proj.weight, 24 // 3
    before = weight.detach().clone()
    with torch.no_grad():
        weight[:, head * width : (head + 1) * width] *= 1 - by
        loss = F.cross_entropy(clf(x), torch.tensor([0, 1, 2]), reduction="none")
        weight.copy_(before)
    return loss


def test_importance_is_the_slope_of_the_loss(clf, x):
    table = head_importance(clf, x, [0, 1, 2], batch=2)
    for layer, rows in table.groupby("layer"):
        slopes = [turned_down(clf, x, layer, h, 1e-5) - turned_down(clf, x, layer, h, -1e-5) for h in rows["head"]]
        expected = torch.stack([(slope / 2e-5).abs().mean() for slope in slopes])
        torch.testing.assert_close(
            torch.tensor(rows["importance"].values), expected / expected.norm(), rtol=1e-4, atol=0
        )


def test_the_mean_score_is_the_same_for_all_heads(clf, x):
    table = head_importance(clf, x)
    assert table["mean_score"].tolist() == pytest.approx([1 / 17] * 6)
    assert table["spread"].nunique() == 6


def test_cut_out_is_silenced(clf, x):
    heads = {"blocks.0.attn": [0, 2], "blocks.1.attn": [1]}
    before, state = clf(x), torch.get_rng_state()
    small = without_heads(clf, heads)
    assert torch.equal(torch.get_rng_state(), state)
    with ablate(clf, heads):
        torch.testing.assert_close(small(x), clf(x))
    assert sum(p.numel() for p in small.module.parameters()) < sum(p.numel() for p in clf.module.parameters())
    assert torch.equal(clf(x), before)


def test_cut_out_of_windows_is_silenced():
    """With the position biases of the heads that stay."""
    swin, x = tiny.classifier(tiny.swin().double()), tiny.images(2).double()
    heads = {"layers.0.blocks.1.attn": [0], "layers.1.blocks.0.attn": [1, 2]}
    small = without_heads(swin, heads)
    with ablate(swin, heads):
        torch.testing.assert_close(small(x), swin(x))
    assert not torch.allclose(small(x), swin(x))


def test_the_claims_import_the_library_and_not_the_other_way_round():
    measure = Path(head_importance_file.__file__).parent
    assert not [path.name for path in measure.glob("*.py") if "vizlib.measure.claims" in path.read_text()]


def test_the_least_are_chosen_and_one_stays(clf, x):
    table = head_importance(clf, x)
    chosen = least(table, 1.0)
    assert {layer: len(heads) for layer, heads in chosen.items()} == {"blocks.0.attn": 2, "blocks.1.attn": 2}
    assert least(table, 1 / 6) == {row.layer: [row.head] for row in table.nsmallest(1, "importance").itertuples()}


def test_mistakes_are_told(clf):
    cnn, pvt = tiny.classifier(tiny.CNN()), tiny.classifier(tiny.pvt())
    gated = TimmAttention(24, 3, scale_norm=True, norm_layer=torch.nn.LayerNorm)
    with pytest.raises(ValueError, match="head importance needs attention"):
        head_importance(cnn, tiny.images())
    with pytest.raises(ValueError, match=r"Use vl\.ablate"):
        without_heads(pvt, {"stages.0.blocks.0.attn": [0]})
    with pytest.raises(ValueError, match=r"Use vl\.ablate"):
        prune_heads(gated, [0])
    with pytest.raises(ValueError, match="must stay"):
        without_heads(clf, {"blocks.0.attn": [0, 1, 2]})
