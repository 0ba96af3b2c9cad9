"""CSWin: stripes and LePE against loops in float64."""

import math

import pytest
import torch
from torch import Tensor

from vizlib.models.architectures.cswin import CSWin, CSWinBlock, StripeAttention


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)), dtype=torch.float64)


def stripe_loops(q, k, v, weight, bias, heads, stripe):
    """Attention within windows plus LePE, one query and one head at a time. q, k, v (r, s, c)."""
    r, s, c = q.shape
    rows, columns = stripe[0] or r, stripe[1] or s
    d = c // heads
    out = torch.zeros_like(q)
    for i in range(r):
        for j in range(s):
            cells = [(y, x) for y in range(r) for x in range(s)]
            mine = [(y, x) for y, x in cells if y // rows == i // rows and x // columns == j // columns]
            for head in range(heads):
                part = slice(head * d, head * d + d)
                scores = torch.stack([q[i, j, part] @ k[y, x, part] / math.sqrt(d) for y, x in mine])
                weights = zip(scores.softmax(0), mine, strict=True)
                out[i, j, part] += sum(p * v[y, x, part] for p, (y, x) in weights)
            near = [(y, x) for y, x in mine if abs(y - i) <= 1 and abs(x - j) <= 1]
            out[i, j] += bias + sum(weight[:, 0, y - i + 1, x - j + 1] * v[y, x] for y, x in near)
    return out


@pytest.mark.parametrize("stripe", [(None, 2), (2, None), (None, None), (3, None), (None, 3)])
def test_stripe_attention_is_the_loops(stripe):  # 3 does not divide the grid: padding
    attend = StripeAttention(4, 2, stripe).double()
    q, k, v = draw(3, 2, 4, 5, 4)
    if stripe == (None, 2):
        q, k, v = (t[:, :, :4] for t in (q, k, v))
    got = attend(q, k, v)
    conv = attend.get_v
    photos = zip(q, k, v, strict=True)
    wanted = torch.stack([stripe_loops(*photo, conv.weight, conv.bias, 2, stripe) for photo in photos])
    torch.testing.assert_close(got, wanted)


def influence(stripe: int | None, cell: tuple[int, int], channels: slice) -> Tensor:
    """Which cells the attention's output at `cell` depends on, in some of its channels: (r, s) bool."""
    block = CSWinBlock(8, 2, stripe, 2.0, 0.0).double()
    block.proj, block.norm1 = torch.nn.Identity(), torch.nn.Identity()  # keep channels and cells apart
    block.mlp = torch.nn.Identity()
    x = draw(1, 4, 6, 8).requires_grad_()
    seen = torch.cat([a(*t) for a, t in zip(block.attns, parts(block, x), strict=True)], -1)
    seen[0, cell[0], cell[1], channels].sum().backward()
    return x.grad[0].abs().sum(-1) > 0


def parts(block: CSWinBlock, x: Tensor):
    q, k, v = block.qkv(x).chunk(3, -1)
    return zip(*(t.chunk(len(block.attns), -1) for t in (q, k, v)), strict=True)


def test_first_half_of_the_channels_sees_columns_the_second_rows():
    down, across = influence(2, (1, 3), slice(0, 4)), influence(2, (1, 3), slice(4, 8))
    assert down.nonzero()[:, 1].unique().tolist() == [2, 3]
    assert down[:, 2:4].all()
    assert across.nonzero()[:, 0].unique().tolist() == [0, 1]
    assert across[:2].all()


def test_last_stage_sees_the_whole_grid():
    assert influence(None, (1, 3), slice(0, 8)).all()


def tiny() -> CSWin:
    torch.manual_seed(0)
    return CSWin(8, (1, 1, 2, 1), (2, 2, 2, 4), stripes=(1, 2, 3), num_classes=5).eval()


def test_padding_changes_nothing_that_a_dividing_stripe_computes():
    wide, exact = StripeAttention(4, 2, (None, 7)).double(), StripeAttention(4, 2, (None, 5)).double()
    exact.load_state_dict(wide.state_dict())
    q, k, v = draw(3, 1, 3, 5, 4)  # one stripe of 7 columns over 5: the whole grid, as a stripe of 5
    torch.testing.assert_close(wide(q, k, v), exact(q, k, v))


def test_block_is_pre_norm_attention_and_mlp():
    block = CSWinBlock(8, 2, 1, 2.0, 0.0).double().eval()
    x = draw(2, 3, 4, 8)
    seen = torch.cat([a(*t) for a, t in zip(block.attns, parts(block, block.norm1(x)), strict=True)], -1)
    y = x + block.proj(seen)
    torch.testing.assert_close(block(x), y + block.mlp(block.norm2(y)))


def test_stripes_change_what_is_computed():
    model = tiny()
    other = CSWin(8, (1, 1, 2, 1), (2, 2, 2, 4), stripes=(2, 2, 3), num_classes=5).eval()
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(model(x), other(x), atol=1e-6)
