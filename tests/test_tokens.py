"""Slots, tokens and grids: mass goes where it belongs and none is made or lost on the way."""

from __future__ import annotations

import pytest
import torch

from vizlib.tokens import PADDING, Tokens, regrid

# a class token, the patches of a 2 × 2 grid in two overlapping groups, one slot of padding
OVERLAPPING = Tokens((2, 2), 1, torch.tensor([[[0, 1, 2, 4], [0, 3, 4, PADDING]]]))


def plain(rows: int, columns: int, prefix: int = 0) -> Tokens:
    return Tokens((rows, columns), prefix, torch.arange(prefix + rows * columns).view(1, 1, -1))


def test_gather_shares_a_token_between_its_slots():
    slots = OVERLAPPING.gather(torch.tensor([[2.0, 3, 5, 7, 8]]))
    assert slots.tolist() == [[[1, 3, 5, 4], [1, 7, 4, 0]]]


def test_scatter_sums_the_slots_of_a_token_and_drops_padding():
    tokens = OVERLAPPING.scatter(torch.tensor([[[1.0, 2, 4, 8], [16, 32, 64, 128]]]))
    assert tokens.tolist() == [[17, 2, 4, 32, 72]]


def test_scatter_undoes_gather():
    mass = torch.rand(3, 5, dtype=torch.float64)
    torch.testing.assert_close(OVERLAPPING.scatter(OVERLAPPING.gather(mass)), mass)


def test_each_photograph_has_its_own_places():
    """Tokens dropped by what is in the photograph: patch 1 is left of the first one, patch 3 of the second."""
    tokens = Tokens((2, 2), 1, torch.tensor([[[0, 2]], [[0, 4]]]))
    assert tokens.scatter(torch.tensor([[[1.0, 2]], [[3, 4]]])).tolist() == [[1, 0, 2, 0, 0], [3, 0, 0, 0, 4]]
    assert tokens.gather(torch.arange(10.0).view(2, 5)).tolist() == [[[0, 2]], [[5, 9]]]
    assert tokens.present().tolist() == [[True, False, True, False, False], [True, False, False, False, True]]


def test_patches_are_a_picture_without_the_prefix():
    assert OVERLAPPING.patches(torch.tensor([[9.0, 1, 2, 3, 4]])).tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("point", "token"), [((0, 0), 0), ((0.4, 0.9), 2), ((0.5, 0), 3), ((1, 1), 5), ((0.99, 0.34), 4)]
)
def test_slots_at_a_point_of_the_image(point, token):
    assert plain(2, 3).slots_at(point)[0, 0].nonzero().flatten().tolist() == [token]


def test_slots_at_finds_every_copy():
    assert OVERLAPPING.slots_at((0.9, 0.9))[0].nonzero().tolist() == [[0, 3], [1, 2]]


@pytest.mark.parametrize("point", [(1.2, 0.5), (0.5, -0.1), (112, 40)])
def test_a_point_in_pixels_is_refused(point):
    with pytest.raises(ValueError, match=r"in \[0, 1\].*Divide pixels"):
        plain(2, 3).slots_at(point)


def test_tokens_without_places_are_refused():
    channels = Tokens(None, 4, torch.arange(4).view(1, 1, 4))
    with pytest.raises(ValueError, match=r"no places|have none"):
        channels.patches(torch.ones(1, 4))
    with pytest.raises(ValueError, match="have none"):
        channels.slots_at((0.5, 0.5))
    with pytest.raises(ValueError, match="lie in the image"):
        regrid(torch.ones(1, 4), channels, plain(2, 2))


def test_regrid_by_hand():
    """Three columns onto two: the middle one is halved. Two rows onto one: summed."""
    moved = regrid(torch.tensor([[1.0, 2, 3, 10, 20, 30]]), plain(2, 3), plain(1, 2))
    assert moved.tolist() == [[22, 44]]


@pytest.mark.parametrize(
    ("source", "target"), [((7, 7), (14, 14)), ((14, 10), (7, 5)), ((5, 7), (3, 4)), ((2, 9), (8, 3))]
)
def test_regrid_equals_pixels_counted_one_by_one(source, target):
    mass = torch.rand(2, source[0] * source[1], dtype=torch.float64)
    found = regrid(mass, plain(*source), plain(*target))
    size = (source[0] * target[0], source[1] * target[1])  # pixels that neither grid cuts
    twin = torch.zeros(2, target[0] * target[1], dtype=torch.float64)
    for row in range(size[0]):
        for column in range(size[1]):
            old = row // target[0] * source[1] + column // target[1]
            new = row // source[0] * target[1] + column // source[1]
            twin[:, new] += mass[:, old] / (target[0] * target[1])
    torch.testing.assert_close(found, twin)
    torch.testing.assert_close(found.sum(1), mass.sum(1))


def test_regrid_keeps_prefix_tokens_by_order():
    mass = torch.tensor([[5.0, 6, 1, 1, 1, 1]])
    assert regrid(mass, plain(2, 2, 2), plain(1, 1, 3)).tolist() == [[5, 6, 0, 4]]
    assert regrid(mass, plain(2, 2, 2), plain(1, 1, 1)).tolist() == [[5, 4]]  # what the target lacks stays behind
