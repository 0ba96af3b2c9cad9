"""One operation by itself: weights against loops, products against whole matrices, gradient against autograd."""

from __future__ import annotations

import math

import pytest
import torch

from vizlib import attention
from vizlib.attention import Attention
from vizlib.tokens import PADDING, Tokens

B, G, A, Q, K, D = 2, 3, 2, 4, 6, 5


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tokens(grid: tuple[int, int] | None, n: int, groups: int = G, prefix: int = 0) -> Tokens:
    """Slots counted through all groups."""
    return Tokens(grid, prefix, torch.arange(groups * n).view(1, groups, n))


def fused(**changes: object) -> Attention:
    """Three groups of 4 queries (a grid of 3 × 4) on 6 keys (a grid of 3 × 6)."""
    given = {
        "query": draw(B, G, A, Q, D, seed=1), "key": draw(B, G, A, K, D, seed=2), "value": draw(B, G, A, K, D, seed=3),
        "output": torch.zeros(B, G, A, Q, D, dtype=torch.float64), "scale": 0.7,
        "queries": tokens((3, 4), Q), "keys": tokens((3, 6), K), "outputs": tokens((3, 4), Q),
        "image": torch.zeros(B, 3, 12, 12),
    }  # fmt: skip
    return Attention("blocks.0.attn", "spatial", **(given | changes))  # type: ignore[arg-type]


def by_loops(op: Attention, b: int, g: int, a: int, i: int) -> list[float]:
    """One row of softmax(scale · q kᵀ + mask)."""
    scores = []
    for j in range(op.shape[4]):
        score = sum(float(op.query[b, g, a, i, d]) * float(op.key[b, g, a, j, d]) for d in range(D)) * op.scale
        if op.mask is not None:
            b_m, g_m, a_m, q_m, _ = op.mask.shape
            score += float(op.mask[b % b_m, g % g_m, a % a_m, i % q_m, j])
        scores.append(score)
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


MASKS = {
    "none": None,
    "bias per head": draw(1, 1, A, Q, K, seed=4),
    "windows": draw(1, G, 1, Q, K, seed=5),
    "one row for all queries": draw(B, 1, 1, 1, K, seed=6),
    "minus infinity": torch.zeros(1, 1, 1, Q, K, dtype=torch.float64).masked_fill(
        torch.ones(Q, K).triu(2) > 0, -math.inf
    ),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_weights_equal_loops(mask):
    op = fused(mask=mask)
    weights = op.weights()
    assert weights.shape == op.shape == (B, G, A, Q, K)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, G, A, Q, dtype=torch.float64))
    for at in [(0, 0, 0, 0), (1, 2, 1, 3), (0, 1, 1, 2), (1, 0, 0, 1)]:
        torch.testing.assert_close(weights[at], torch.tensor(by_loops(op, *at), dtype=torch.float64))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_some_rows_are_rows_of_the_whole(mask):
    op = fused(mask=mask)
    for part in (slice(0, 1), slice(1, 3), slice(3, 9)):
        torch.testing.assert_close(op.weights(part), op.weights()[..., part, :])


def mixed() -> Attention:
    """A model's own matrices: heads mixed after the softmax, so that the applied rows do not sum to 1."""
    softmax = draw(B, G, A, Q, K).softmax(-1)
    matrix = torch.einsum("bgaqk,ac->bgcqk", softmax, draw(A, A, seed=8))
    return fused(query=None, key=None, softmax=softmax, matrix=matrix)


def test_weights_are_the_softmax_and_applied_what_met_the_values():
    op = mixed()
    assert op.weights() is not op.matrix
    torch.testing.assert_close(op.weights(), op.softmax)
    torch.testing.assert_close(op.weights(slice(1, 2), applied=True), op.matrix[..., 1:2, :])
    assert (op.matrix.sum(-1) - 1).abs().max() > 0.1


def test_attention_without_a_matrix_says_so():
    with pytest.raises(RuntimeError, match="no matrix of weights"):
        fused(query=None, key=None).weights()


@pytest.mark.parametrize("tile", [1, 50, 1 << 18])
@pytest.mark.parametrize("relevance", [False, True])
def test_carry_in_tiles_equals_the_whole_matrix(tile, relevance, monkeypatch):
    """420 × 420 is past the size up to which one tile is taken."""
    n = 420
    op = fused(
        query=draw(1, 1, 2, n, 3), key=draw(1, 1, 2, n, 3, seed=1), value=draw(1, 1, 2, n, 3, seed=2),
        output=torch.zeros(1, 1, 2, n, 3), gradient=draw(1, 1, 2, n, 3, seed=3),
        queries=tokens((20, 21), n, 1), keys=tokens((20, 21), n, 1), outputs=tokens((20, 21), n, 1),
    )  # fmt: skip
    monkeypatch.setattr(attention, "TILE", tile * n * 2)
    mass = torch.rand(1, 1, n, dtype=torch.float64)
    mass[..., 100:300] = 0  # whole tiles without mass are passed over
    sizes = [rows.shape[-2] for _, rows in op.tiles(relevance=relevance)]
    assert sum(sizes) == n
    assert max(sizes) == min(tile, n)
    whole = op.relevance() if relevance else op.weights()
    torch.testing.assert_close(op.carry(mass, relevance=relevance), torch.einsum("bgq,bgaqk->bgak", mass, whole))


def test_carry_by_loops():
    op = fused(mask=MASKS["windows"])
    mass = torch.rand(B, G, Q, dtype=torch.float64)
    carried = op.carry(mass)
    for b, g, a in [(0, 0, 0), (1, 2, 1)]:
        row = [sum(float(mass[b, g, i]) * by_loops(op, b, g, a, i)[j] for i in range(Q)) for j in range(K)]
        torch.testing.assert_close(carried[b, g, a], torch.tensor(row, dtype=torch.float64))


@pytest.mark.parametrize("mask", [None, MASKS["bias per head"]], ids=["none", "bias"])
def test_relevance_is_relu_of_autograds_gradient_times_the_matrix(mask):
    op = fused(mask=mask)
    matrix = op.weights().requires_grad_()
    output = matrix @ op.value
    score = (output.tanh() * draw(*output.shape, seed=9)).sum()
    to_matrix, to_output = torch.autograd.grad(score, (matrix, output))
    twin = torch.relu(to_matrix * matrix).detach()
    assert 0.2 < (twin > 0).double().mean() < 0.8
    torch.testing.assert_close(fused(mask=mask, gradient=to_output).relevance(), twin)


def test_relevance_takes_the_applied_matrix():
    op = mixed()
    gradient = draw(B, G, A, Q, D, seed=9)
    twin = (torch.einsum("bgaqd,bgakd->bgaqk", gradient, op.value) * op.matrix).relu()
    found = fused(query=None, key=None, softmax=op.softmax, matrix=op.matrix, gradient=gradient).relevance()
    torch.testing.assert_close(found, twin)


def test_relevance_without_gradients_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"traced without.*gradients=True"):
        fused().relevance()


def test_heatmap_at_a_point_is_the_row_of_that_window():
    """Row 1, column 2 of the queries' 3 × 4 grid is slot 2 of group 1; its keys are row 1 of their 3 × 6 grid."""
    op = fused()
    heat = op.heatmap((0.5, 0.6), head=1)
    twin = torch.zeros(B, 3, 6, dtype=torch.float64)
    twin[:, 1] = op.weights()[:, 1, 1, 2]
    torch.testing.assert_close(heat.values.double(), twin, rtol=1e-6, atol=1e-7)
    assert heat.unit == "attention weight"
    assert heat.layer == "blocks.0.attn"


def test_heatmap_is_the_mean_of_heads_and_sums_to_one():
    op = fused()
    mean = op.heatmap((0.1, 0.1)).values
    torch.testing.assert_close(mean, sum(op.heatmap((0.1, 0.1), h).values for h in range(A)) / A)
    torch.testing.assert_close(mean.sum((1, 2)), torch.ones(B))


def test_heatmap_of_the_mean_query_leaves_padding_out():
    index = torch.arange(Q).view(1, 1, Q).repeat(1, G, 1)
    index[:, 1:] = PADDING  # of three windows two are padding
    op = fused(outputs=Tokens((2, 2), 0, index))
    torch.testing.assert_close(op.heatmap("mean").values[:, 1:].sum(), torch.tensor(0.0))
    twin = op.weights()[:, 0].mean((1, 2)).float()
    torch.testing.assert_close(op.heatmap("mean").values[:, 0], twin)


def test_heatmap_of_a_prefix_token():
    op = fused(
        queries=tokens((1, 3), Q, 1, prefix=1), outputs=tokens((1, 3), Q, 1, prefix=1),
        keys=tokens((2, 2), K, 1, prefix=2),
        query=draw(B, 1, A, Q, D), key=draw(B, 1, A, K, D, seed=1), value=draw(B, 1, A, K, D),
        output=torch.zeros(B, 1, A, Q, D),
    )  # fmt: skip
    found = op.heatmap(0).values
    torch.testing.assert_close(found, op.weights()[:, 0, :, 0, 2:].mean(1).view(B, 2, 2).float())
    with pytest.raises(ValueError, match="has 1 prefix tokens; got query 1"):
        op.heatmap(1)


@pytest.mark.parametrize(
    ("query", "head", "message"),
    [
        (0, None, "0 prefix tokens; got query 0.*image point"),
        ((0.5, 0.5), 2, "heads 0 to 1; got 2"),
        ((0.5, 0.5), -1, "heads 0 to 1; got -1"),
        ((3, 4), None, r"in \[0, 1\]"),
        ("class", None, "got query 'class'"),
        ([0.5, 0.5], None, r"got query \[0.5, 0.5\]"),
    ],
)
def test_heatmap_refuses_what_is_not_there(query, head, message):
    with pytest.raises(ValueError, match=message):
        fused().heatmap(query, head)


def test_heatmap_of_a_patch_that_was_dropped_is_refused():
    """Of a 2 × 2 grid the second photograph has lost its last patch: a map of zeros would be a silent answer."""
    index = torch.tensor([[[0, 1, 2, 3]], [[0, 1, 2, PADDING]]])
    op = fused(
        outputs=Tokens((2, 2), 0, index), query=draw(B, 1, A, Q, D), key=draw(B, 1, A, K, D), keys=tokens((2, 3), K, 1),
        value=draw(B, 1, A, K, D), output=torch.zeros(B, 1, A, Q, D),
    )  # fmt: skip
    torch.testing.assert_close(op.heatmap((0.1, 0.1)).values.sum((1, 2)), torch.ones(B))
    with pytest.raises(ValueError, match=r"no query .* photograph 1"):
        op.heatmap((0.9, 0.9))


def test_channels_are_no_picture():
    channels = Tokens(None, K, torch.arange(K).view(1, 1, K))
    with pytest.raises(ValueError, match="channel attention: its keys are no places"):
        Attention("x", "channel", channels, channels, channels, draw(1, 1, 1, K, D), draw(1, 1, 1, K, D)).heatmap()
