"""Where the tokens of every operation lie, against the closed formulas of the papers."""

from __future__ import annotations

import pytest
import tiny
import torch
import torch.nn.functional as F
from timm.layers.halo_attn import HaloAttn
from timm.models.levit import Levit
from timm.models.mobilevit import MobileVitBlock
from torch import Tensor, nn

from vizlib.attention import Attention
from vizlib.capture.anatomy import Site, study
from vizlib.capture.trace import trace
from vizlib.models.architectures.t2t_vit import T2TViT
from vizlib.tokens import PADDING


def sites(module: nn.Module, size: int | tuple[int, int]) -> dict[str, Site]:
    clf = tiny.classifier(module, size)
    return study(clf, tiny.images(2, size)).named()


class Around(nn.Module):
    """Convolution with a stride of 2, the module under test, mean, head."""

    def __init__(self, inner: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, channels, 2, 2), inner
        self.head = nn.Linear(channels, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.stem(x)).mean((2, 3)))


def shifted_windows(grid: tuple[int, int], window: int, shift: int) -> Tensor:
    """Token of slot (u, v) of window (i, j): rows and columns rolled by the shift, padded behind; (g, n)."""
    (r, s), groups = grid, []
    for i in range(-(-r // window)):
        for j in range(-(-s // window)):
            slots = []
            for u in range(window):
                for v in range(window):
                    row, column = i * window + u, j * window + v
                    inside = row < r and column < s
                    slots.append((row + shift) % r * s + (column + shift) % s if inside else PADDING)
            groups.append(slots)
    return torch.tensor(groups)


@pytest.mark.parametrize(
    ("size", "grids"),
    [
        (32, [(16, 16), (8, 8)]),
        ((32, 48), [(16, 24), (8, 12)]),
        ((36, 44), [(18, 22), (9, 11)]),  # no multiple of the window: padded in both stages
    ],
)
def test_swin_equals_the_shifted_window_formula(size, grids):
    found = sites(tiny.swin(size, window_size=4), size)
    assert len(found) == 4
    for stage, grid in enumerate(grids):
        for block, shift in enumerate((0, 2)):
            site = found[f"layers.{stage}.blocks.{block}.attn"]
            formula = shifted_windows(grid, 4, shift)
            for where in (site.queries, site.keys, site.outputs):
                assert where.grid == grid
                assert where.prefix == 0
                assert torch.equal(where.index[0], formula)
            assert site.arrangement.heads == (2, 3)[stage]


def test_prefix_tokens_come_first():
    for module, prefix in [(tiny.vit(), 1), (tiny.vit(reg_tokens=3), 4), (tiny.distilled(), 2),
                           (tiny.vit(class_token=False, global_pool="avg"), 0)]:  # fmt: skip
        for site in sites(module, 32).values():
            for where in (site.queries, site.keys, site.outputs):
                assert where.prefix == prefix
                assert where.grid == (4, 4)
                assert where.index.flatten().tolist() == list(range(16 + prefix))


def test_non_square_input():
    site = sites(tiny.vit(img_size=(24, 56)), (24, 56))["blocks.1.attn"]
    assert site.keys.grid == (3, 7)
    assert site.keys.index.flatten().tolist() == list(range(22))


def test_pooled_keys_lie_on_a_coarser_grid():
    found = sites(tiny.pvt(), (32, 64))
    early, late = found["stages.0.blocks.1.attn"], found["stages.1.blocks.0.attn"]
    assert (early.queries.grid, early.keys.grid, early.outputs.grid) == ((8, 16), (2, 4), (8, 16))
    assert early.keys.index.flatten().tolist() == list(range(8))
    assert (late.queries.grid, late.keys.grid) == ((4, 8), (4, 8))


def test_halo_neighbourhoods_overlap_and_are_padded():
    """Blocks of 4 × 4 with a halo of 2: keys of block (i, j) are rows 4i - 2 … 4i + 5, likewise columns."""
    attn = HaloAttn(8, num_heads=2, dim_head=4, block_size=4, halo_size=2)
    site = sites(Around(attn), (16, 24))["inner"]
    groups, queries = [], []
    for i in range(2):
        for j in range(3):
            groups.append(
                [
                    row * 12 + column if 0 <= row < 8 and 0 <= column < 12 else PADDING
                    for row in range(4 * i - 2, 4 * i + 6)
                    for column in range(4 * j - 2, 4 * j + 6)
                ]
            )
            queries.append([(4 * i + u) * 12 + 4 * j + v for u in range(4) for v in range(4)])
    assert site.keys.grid == site.queries.grid == (8, 12)
    assert site.keys.index[0].tolist() == groups
    assert site.queries.index[0].tolist() == queries
    assert site.arrangement.heads == 2


def test_mobilevit_attends_between_pixels_at_the_same_spot_of_each_patch():
    block = MobileVitBlock(8, 8, kernel_size=3, transformer_dim=12, transformer_depth=1, num_heads=3, patch_size=2)
    (site,) = sites(Around(block), (16, 24)).values()
    assert site.keys.grid == (8, 12)
    groups = [[(2 * i + u) * 12 + 2 * j + v for i in range(4) for j in range(6)] for u in range(2) for v in range(2)]
    assert site.keys.index[0].tolist() == groups
    assert site.outputs.index[0].tolist() == groups
    assert site.arrangement.heads == 3


def test_t2t_soft_splits_are_read_row_by_row():
    found = sites(T2TViT(24, 1, 3, 2.0, "transformer", num_classes=5, image_size=32), (32, 48))
    grids = [(site.keys.grid, site.keys.prefix) for site in found.values()]
    assert grids == [((8, 12), 0), ((4, 6), 0), ((2, 3), 1)]
    for site in found.values():
        assert site.keys.index.flatten().tolist() == list(range(site.keys.count))


def test_levit_keeps_every_other_query():
    """The query of cell (i, j) on the coarse grid is the token at (2i, 2j): it is drawn over that cell's extent."""
    module = Levit(32, num_classes=5, embed_dim=(16, 24), key_dim=4, depth=(1, 1), num_heads=(2, 3),
                   stem_type="s4_custom", stem_backbone=nn.Conv2d(3, 16, 4, 4), stem_stride=4,
                   use_conv=False)  # fmt: skip
    found = sites(module, 32)
    down = next(s for s in found.values() if s.queries.count != s.keys.count)
    assert (down.queries.grid, down.keys.grid, down.outputs.grid) == ((4, 4), (8, 8), (4, 4))
    assert down.queries.index.flatten().tolist() == list(range(16))
    assert down.keys.index.flatten().tolist() == list(range(64))


def test_class_attention_has_a_query_without_a_place():
    site = sites(tiny.cait_with_class_attention(), 32)["blocks_token_only.0.attn"]
    assert (site.outputs.grid, site.outputs.prefix, site.outputs.index.tolist()) == (None, 1, [[[0]]])
    assert (site.keys.grid, site.keys.prefix) == ((4, 4), 1)
    assert site.keys.index.flatten().tolist() == list(range(17))


def test_stripes_side_by_side():
    found = sites(tiny.cswin(), 64)
    down, across = found["stage2.0.attns.0"].keys, found["stage2.0.attns.1"].keys  # stripes of 2 on 8 × 8
    assert down.index[0, 1].tolist() == [8 * row + column for row in range(8) for column in (2, 3)]
    assert across.index[0, 3].tolist() == list(range(48, 64))


def test_dropped_patches_have_the_places_the_model_says():
    clf, x = tiny.classifier(tiny.dynamic_vit(), 64), tiny.images(3, 64)
    said: list[Tensor] = []
    keeper = next(m for n, m in clf.module.named_modules() if type(m).__name__ == "TokenKeeper")
    hook = keeper.register_forward_hook(lambda m, args, out: said.append(out[1]))
    clf(x)
    hook.remove()
    run = trace(clf, x)
    assert not torch.equal(said[0][0], said[0][1])  # photographs differ in what they keep
    assert run.attentions["blocks.0.attn"].keys.index.shape == (1, 1, 17)
    for name in ("blocks.1.attn", "blocks.2.attn"):
        keys = run.attentions[name].keys
        assert keys.grid == (4, 4)
        assert torch.equal(keys.index[:, 0, 1:] - 1, said[0])
        assert torch.equal(run.kept[name], said[0].sort(1).values)
    assert "blocks.0.attn" not in run.kept


class Unfolded(nn.Module):
    """Local attention of every pixel to its 3 × 3 neighbourhood, by unfold."""

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        around = F.unfold(x, 3, padding=1).view(b, c, 9, h * w).permute(0, 3, 2, 1)  # (b, n, 9, c)
        query = x.flatten(2).transpose(1, 2)[:, :, None]  # (b, n, 1, c)
        seen = (query @ around.transpose(-2, -1)).softmax(-1) @ around
        return seen.squeeze(2).transpose(1, 2).view(b, c, h, w)


def test_neighbourhoods_by_unfold():
    (site,) = sites(Around(Unfolded()), (12, 16)).values()
    assert site.keys.grid == (6, 8)
    for row, column in [(0, 0), (2, 3), (5, 7), (0, 4)]:
        around = [
            r * 8 + c if 0 <= r < 6 and 0 <= c < 8 else PADDING
            for r in range(row - 1, row + 2)
            for c in range(column - 1, column + 2)
        ]
        assert site.keys.index[0, row * 8 + column].tolist() == around
        assert site.queries.index[0, row * 8 + column].tolist() == [row * 8 + column]


class Twisted(nn.Module):
    """Tokens in column order and flipped from right to left: places follow, whatever the order."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flip(3).permute(0, 3, 2, 1).flatten(1, 2)
        seen = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return seen.transpose(1, 2)[..., None]


def test_order_of_tokens_does_not_matter():
    (site,) = sites(Around(Twisted()), (8, 12)).values()
    assert site.keys.grid == (4, 6)
    assert site.keys.index.flatten().tolist() == [row * 6 + column for column in range(5, -1, -1) for row in range(4)]


# ---- a map moves with its image: change one patch, and the predicted tokens change, and only those


def changed(before: Attention, after: Attention) -> Tensor:
    """Which key slots (g, k) differ between two runs."""
    difference = (before.value - after.value).abs().amax((0, 2, 4))
    return difference > 1e-7 * before.value.abs().max()


@pytest.mark.parametrize("cell", [(0, 0), (1, 2), (3, 3)])
def test_one_patch_is_one_key_of_a_vit(cell):
    clf, x = tiny.classifier(tiny.vit()), tiny.images(1)
    other = x.clone()
    other[..., 8 * cell[0] : 8 * cell[0] + 8, 8 * cell[1] : 8 * cell[1] + 8] += 1
    before, after = (trace(clf, i).attentions["blocks.0.attn"] for i in (x, other))
    slots = changed(before, after)
    assert before.keys.index[0][slots].tolist() == [1 + cell[0] * 4 + cell[1]]


@pytest.mark.parametrize("cell", [(5, 9), (15, 15), (8, 7)])
def test_one_patch_spreads_in_swin_by_windows_and_shifts(cell):
    """What an operation mixes is predicted from its places and weights, through both windows of the first stage."""
    clf, x = tiny.classifier(tiny.swin()), tiny.images(1)
    other = x.clone()
    other[..., 2 * cell[0] : 2 * cell[0] + 2, 2 * cell[1] : 2 * cell[1] + 2] += 1
    runs = [trace(clf, i) for i in (x, other)]
    touched = torch.zeros(1, 256)
    touched[0, cell[0] * 16 + cell[1]] = 1
    for block in range(2):
        before, after = (run.attentions[f"layers.0.blocks.{block}.attn"] for run in runs)
        slots = changed(before, after)[None].expand(1, before.groups, -1)
        found = before.keys.scatter(slots.float()) > 0
        assert torch.equal(found, touched > 0)
        reads = (before.weights().sum(2) > 1e-12).float()  # (1, g, q, k)
        told = torch.einsum("bgqk,bgk->bgq", reads, before.keys.gather(touched))
        touched = ((touched + before.outputs.scatter(told)) > 0).float()
    assert 16 < touched.sum() < 128
    before, after = (run.attentions["layers.1.blocks.0.attn"] for run in runs)  # merged two by two
    merged = F.max_pool2d(touched.view(1, 1, 16, 16), 2).flatten(1)
    assert torch.equal(before.keys.scatter(changed(before, after)[None].float()), merged)
