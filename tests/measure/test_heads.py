"""Attention distance and entropy per head: numbers by hand, and a slow twin written from the definition."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from vizlib.attention import Attention
from vizlib.measure.heads import heads
from vizlib.tokens import Tokens
from vizlib.types import Trace


def tokens(grid: tuple[int, int] | None, prefix: int, index: list) -> Tokens:
    index = torch.tensor(index)
    return Tokens(grid, prefix, index.view(1, *index.shape) if index.ndim == 2 else index)


def every(grid: tuple[int, int], prefix: int = 0) -> Tokens:
    return tokens(grid, prefix, [list(range(prefix + grid[0] * grid[1]))])


def attention(
    matrix: Tensor,
    queries: Tokens,
    keys: Tokens,
    size: tuple[int, int] = (8, 8),
    name: str = "attn",
    kind: Literal["spatial", "channel"] = "spatial",
) -> Attention:
    value, output = matrix.mT[..., :0], matrix[..., :0]  # nothing here looks at what is carried
    image = torch.zeros(len(matrix), 3, *size)
    return Attention(name, kind, queries, keys, queries, value, output, softmax=matrix, image=image)


def trace(*attentions: Attention) -> Trace:
    x = torch.zeros(1, 3, 8, 8)
    return Trace(x, x, torch.zeros(1, 2), torch.zeros(1), "toy", attentions={a.name: a for a in attentions})


def twin(a: Attention) -> list[tuple[float, float]]:
    """One query after the other, one key after the other, in plain floats."""
    b, _, count, _, _ = a.shape
    size = a.image.shape[-2:]

    def place(at: Tokens, photo: int, group: int, slot: int) -> tuple[float, float] | None:
        index = int(at.index.expand(b, -1, -1)[photo, group, slot])
        if index < at.prefix or at.grid is None:
            return None
        row, column = divmod(index - at.prefix, at.grid[1])
        unit = max(size)
        return (row + 0.5) * size[0] / at.grid[0] / unit, (column + 0.5) * size[1] / at.grid[1] / unit

    found = []
    for head in range(count):
        distances, entropies = [], []
        for photo in range(b):
            for group in range(a.groups):
                for q in range(a.shape[3]):
                    start = place(a.queries, photo, group, q)
                    if start is None:
                        continue
                    row = a.weights()[photo, group, head, q].tolist()
                    ends = [place(a.keys, photo, group, k) for k in range(len(row))]
                    mass = sum(w for w, end in zip(row, ends, strict=True) if end)
                    distances.append(
                        sum(w * math.dist(start, end) for w, end in zip(row, ends, strict=True) if end) / mass
                    )
                    entropies.append(-sum(w * math.log(w) for w in row if w > 0))
        found.append((sum(distances) / len(distances), sum(entropies) / len(entropies)))
    return found


def random_rows(*shape: int) -> Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))).softmax(-1)


def test_by_hand() -> None:
    """Head 0 looks at itself, head 1 at all four cells alike, head 2 at the cell beside."""
    grid = every((2, 2))
    matrices = torch.stack([torch.eye(4), torch.full((4, 4), 0.25), torch.eye(4)[[1, 0, 3, 2]]])
    table = heads(trace(attention(matrices[None, None], grid, grid)))
    assert table["layer"].tolist() == ["attn"] * 3
    assert table["head"].tolist() == [0, 1, 2]
    assert table["distance"].tolist() == pytest.approx([0, (0.5 + 0.5 + 0.5**0.5) / 4, 0.5])
    assert table["entropy"].tolist() == pytest.approx([0, math.log(4), 0])


CASES = {
    "class token": attention(random_rows(2, 1, 3, 7, 7), every((2, 3), 1), every((2, 3), 1), (4, 6)),
    "pooled keys": attention(random_rows(2, 1, 2, 12, 4), every((3, 4)), every((2, 2)), (30, 40)),
    "windows with padding": attention(
        random_rows(1, 2, 2, 4, 4),
        tokens((2, 3), 0, [[0, 1, 3, 4], [2, -1, 5, -1]]),
        tokens((2, 3), 0, [[0, 1, 3, 4], [2, -1, 5, -1]]),
        (20, 30),
    ),
    "other tokens in each photo": attention(
        random_rows(2, 1, 1, 3, 3),
        tokens((2, 2), 1, [[[0, 1, 4]], [[0, 2, 3]]]),
        tokens((2, 2), 1, [[[0, 1, 4]], [[0, 2, 3]]]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_against_the_slow_twin(name: str) -> None:
    table = heads(trace(CASES[name]))
    expected = twin(CASES[name])
    assert table["distance"].tolist() == pytest.approx([d for d, _ in expected])
    assert table["entropy"].tolist() == pytest.approx([e for _, e in expected])


def test_long_sequences_in_tiles_agree_with_the_whole() -> None:
    """Beyond 400 x 400 weights the rows come in tiles."""
    grid = every((21, 21))
    rows = random_rows(1, 1, 2, 441, 441)
    table = heads(trace(attention(rows, grid, grid)))
    centres = torch.cartesian_prod(torch.arange(21), torch.arange(21)).add(0.5).div(21).double()
    distance = (rows[0, 0].double() * torch.cdist(centres, centres)).sum(-1).mean(-1)
    assert table["distance"].tolist() == pytest.approx(distance.tolist())


def test_class_attention_has_an_entropy_and_no_distance() -> None:
    only_class = tokens((2, 2), 1, [[0]])
    table = heads(trace(attention(torch.full((1, 1, 1, 1, 5), 0.2), only_class, every((2, 2), 1))))
    assert math.isnan(table["distance"][0])
    assert table["entropy"][0] == pytest.approx(math.log(5))


def test_operations_without_places_are_left_out_and_none_is_an_error() -> None:
    grid = every((2, 2))
    spatial = attention(random_rows(1, 1, 1, 4, 4), grid, grid, name="a")
    nowhere = tokens(None, 0, [[0, 1, 2, 3]])
    channel = attention(random_rows(1, 1, 1, 4, 4), nowhere, nowhere, name="b", kind="channel")
    assert heads(trace(spatial, channel))["layer"].tolist() == ["a"]
    with pytest.raises(ValueError, match="toy has channel"):
        heads(trace(channel))
    with pytest.raises(ValueError, match="no attention operation that was seen"):
        heads(trace())
