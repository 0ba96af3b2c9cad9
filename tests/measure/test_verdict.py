"""What follows from scores beside those of references, against permutations written as loops."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from vizlib.measure.verdict import beats, better, interval, sentence


def test_the_bootstrap_interval_is_that_of_the_mean():
    """For a normal sample the interval is ± 1.96 standard errors."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = interval(values)
    error = float(values.std() / 20)
    assert low == pytest.approx(float(values.mean()) - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(float(values.mean()) + 1.96 * error, abs=0.15 * error)


@pytest.mark.parametrize(
    ("photos", "draws", "shown"),
    [(1, 38, None), (1, 39, True), (2, 5, None), (2, 6, True), (3, 2, None), (3, 3, True), (5, 1, None), (6, 1, True)],
)
def test_how_many_wins_show_that_a_map_is_better(photos, draws, shown):
    """Better than every reference on every photograph: by chance in one of (1 + draws) ** photos cases."""
    value, reference = torch.ones(photos), torch.zeros(draws, photos)
    assert better(value, reference, True) is shown
    assert better(value, reference, False) is (None if shown is None else False)
    assert better(value, value.expand(draws, -1), True) is None


def test_swaps_within_photographs_as_a_loop():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        value, reference = torch.rand(3, generator=generator) + 0.4, torch.rand(4, 3, generator=generator)
        each = torch.cat([value[None], reference]).double()
        sums = [float(sum(each[i, n] for n, i in enumerate(chosen))) for chosen in product(range(5), repeat=3)]
        own = float(value.double().sum())
        expected = sum(s >= own - 1e-9 for s in sums) / len(sums) <= 0.025
        assert beats(value, reference, True) == expected


def test_of_many_photographs_the_mean_decides():
    """Maps that differ from their references in spread and not in the mean are shown better in 1 of 40 cases."""
    generator = torch.Generator().manual_seed(1)
    found = [better(3 * torch.randn(40, generator=generator), torch.randn(3, 40, generator=generator), True)
             for _ in range(200)]  # fmt: skip
    assert found.count(True) <= 12
    assert found.count(False) <= 12
    assert beats(torch.full((40,), 0.4), torch.randn(3, 40, generator=generator), True)
    assert beats(torch.full((40,), 0.4), torch.randn(3, 40, generator=generator), False) is False


def test_what_is_not_shown_is_not_said():
    value, outcome = torch.tensor([0.2]), {"random": None, "centre": False}
    text = sentence("x", value, "nats", False, {"random": 0.3, "centre": 0.1}, outcome)
    assert text.endswith("Worse than a centre Gaussian. Not shown to be better than a random map with 1 photograph.")
    assert "95 %" not in text
    text = sentence("x", value.repeat(7), "nats", False, {}, {}, flat=2, caveat="It asks nothing")
    assert text.endswith(
        "lower is better. 2 of 7 maps are flat, the same everywhere, and say nothing. It asks nothing."
    )
    assert "95 %" in text
