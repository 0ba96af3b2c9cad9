import math

import pytest
import torch

from vizlib.models.accuracy import accuracy, expected_calibration_error, wilson


def test_counts_by_hand():
    logits = torch.tensor([[2.0, 1, 0], [0, 3, 1], [5, 0, 1], [0, 1, 2]])
    found = accuracy(logits, torch.tensor([0, 1, 1, 2]))
    assert found.photos == 4
    assert found.top1 == 0.75
    assert found.top5 == 1.0  # three classes: the best five are all
    assert found.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert found.per_class.tolist() == [1.0, 0.5, 1.0]


def test_top5_is_not_top1_and_not_everything():
    logits = torch.arange(8.0).expand(3, 8)  # class 7 first, class 3 fifth, class 2 sixth
    assert accuracy(logits, torch.tensor([7, 3, 2])).top5 == pytest.approx(2 / 3)


def test_class_without_photos_has_no_accuracy():
    assert math.isnan(accuracy(torch.eye(2), torch.tensor([0, 0])).per_class[1])


def test_no_photo_is_an_error():
    with pytest.raises(ValueError, match="at least one photo"):
        accuracy(torch.empty(0, 3), torch.empty(0, dtype=torch.long))


def test_wilson_against_published_values():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_wilson_ends_solve_its_equation():
    z = 1.959964
    for end in wilson(62, 100):
        assert abs(0.62 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 100), rel=1e-9)


def test_calibration_error_by_hand():
    # Two photos of 0.95, one of them right, share a bin: gap |1 − 1.9|; two of 0.5, both right: gap |2 − 1|.
    probability = torch.tensor([0.95, 0.95, 0.5, 0.5])
    right = torch.tensor([True, False, True, True])
    assert expected_calibration_error(probability, right) == pytest.approx((0.9 + 1.0) / 4, rel=1e-6)


def test_calibration_error_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(500, generator=generator).double()
    right = torch.rand(500, generator=generator) < 0.6
    total = 0.0
    for low in range(15):
        inside = (probability > low / 15) & (probability <= (low + 1) / 15)
        if inside.any():
            gap = right[inside].double().mean() - probability[inside].mean()
            total += inside.double().mean().item() * abs(gap.item())
    assert expected_calibration_error(probability, right) == pytest.approx(total, rel=1e-9)
