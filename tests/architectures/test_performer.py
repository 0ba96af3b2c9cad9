"""FAVOR+: an unbiased estimate of the softmax kernel, within the paper's error."""

import math

import pytest
import torch
from torch import Tensor

from vizlib.models.architectures.efficient_vit import ExactAttention
from vizlib.models.architectures.performer import (
    LinearAttention,
    PerformerAttention,
    log_features,
    orthogonal_gaussian,
)


def test_vectors_are_orthogonal_within_blocks_and_as_long_as_gaussian_ones():
    d = 16
    w = orthogonal_gaussian(40, d, torch.Generator().manual_seed(0))
    assert w.shape == (40, d)
    product = w @ w.T
    for block in (slice(0, 16), slice(16, 32), slice(32, 40)):
        inner = product[block, block]
        torch.testing.assert_close(inner, torch.diag(inner.diagonal()), atol=1e-4, rtol=0)
    many = orthogonal_gaussian(400 * d, d, torch.Generator().manual_seed(1)).view(400, d, d)
    square = many.square().sum(2)  # chi-squared with d degrees: mean d, variance 2 d
    assert abs(square.mean() - d) < 4 * math.sqrt(2 * d / square.numel())
    assert abs(square.var() / (2 * d) - 1) < 0.1
    assert many.mean(0).abs().max() < 4.5 / math.sqrt(400)  # no direction is preferred
    assert abs(many.square().mean(0) - 1).max() < 4.5 * math.sqrt(2 / 400)


def test_features_estimate_the_kernel_without_bias_within_the_papers_error():
    d, m, draws = 8, 16, 4000
    draw = torch.Generator().manual_seed(3)
    q, k = 0.25 * torch.randn(2, d, generator=draw)
    kernel, both = math.exp(q @ k), (q + k).square().sum()
    error = float(both.exp() * kernel**2 * (1 - (-both).exp()) / m)  # if vectors are independent
    w = orthogonal_gaussian(draws * m, d, draw)  # m vectors are two blocks of d: a draw of their own
    features = [log_features(x.view(1, 1, 1, d), w).exp().view(draws, m) * math.sqrt(draws) for x in (q, k)]
    estimates = (features[0] * features[1]).sum(1)  # one for each draw of m vectors
    bound = 4 * math.sqrt(error / draws)
    assert bound < 0.02 * kernel  # or the next line would say little
    assert abs(estimates.mean() - kernel) < bound
    assert (estimates - kernel).square().mean() < error  # orthogonal vectors do better than independent ones


def test_linear_attention_is_the_implied_matrix_applied():
    draw = torch.Generator().manual_seed(0)
    q, k = torch.rand(2, 2, 3, 7, 5, generator=draw).double()
    v = torch.randn(2, 3, 7, 4, generator=draw).double()
    attend = LinearAttention()
    got, matrix = attend(q, k, v), attend.implied_matrix(q, k)
    for b in range(2):
        for a in range(3):
            for i in range(7):
                weights = [float(q[b, a, i] @ k[b, a, j]) for j in range(7)]
                row = [w / (sum(weights) + 1e-8) for w in weights]
                torch.testing.assert_close(matrix[b, a, i], torch.tensor(row).double())
                seen = sum(p * x for p, x in zip(row, v[b, a], strict=True))
                torch.testing.assert_close(got[b, a, i], seen)


def qkv(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(3, 2, 2, 9, 16, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("features", [256, 4096])
def test_performer_comes_near_exact_attention_as_features_grow(features):
    q, k, v = qkv(0.7)
    exact = ExactAttention()(q, k, v)
    error = (PerformerAttention(16, features)(q, k, v) - exact).abs().max()
    assert error < 8 / math.sqrt(features)
    assert error > 1e-6  # it is an estimate


def test_implied_matrix_is_what_the_performer_applies():
    q, k, v = qkv()
    attend = PerformerAttention(16, 64)
    matrix = attend.implied_matrix(q, k)
    torch.testing.assert_close(matrix @ v, attend(q, k, v), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 2, 9))
    assert (matrix >= 0).all()


def test_large_scores_overflow_nothing():
    q, k, v = qkv(30.0)
    assert PerformerAttention(16, 64)(q, k, v).isfinite().all()


def test_the_draw_belongs_to_the_seed_and_forward_draws_nothing():
    torch.testing.assert_close(PerformerAttention(16, 8, seed=1).w, PerformerAttention(16, 8, seed=1).w)
    assert not torch.equal(PerformerAttention(16, 8, seed=1).w, PerformerAttention(16, 8, seed=2).w)
    before = torch.get_rng_state()
    PerformerAttention(16, 8)(*qkv())
    assert torch.equal(torch.get_rng_state(), before)
