"""The receptive field by gradient: numbers by hand, the whole Jacobian, and what must not change it."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor, nn

from vizlib.measure.receptive_field import reach, receptive_field
from vizlib.types import Classifier


class Ones(nn.Module):
    """Three 3 × 3 convolutions of ones over one channel: counts the ways from pixel to cell."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3 if i == 0 else 1, 1, 3, padding=1, bias=False) for i in range(3)))
        for p in self.parameters():
            nn.init.ones_(p)
        self.head = nn.Linear(1, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class Gated(nn.Module):
    """One convolution, then a squeeze-and-excitation gate that reads the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4), nn.Linear(4, 5)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = self.out(x * self.squeeze(x.mean((2, 3))).sigmoid()[..., None, None])
        return self.head((x * 1).mean((2, 3)))


def plain(module: nn.Module) -> Classifier:
    return Classifier(module.eval(), "toy", lambda photo: torch.zeros(3, 15, 15), (3, 15, 15))


def test_ways_from_pixel_to_cell_by_hand() -> None:
    """Paths through 3 × 3 ones: 1 1 1, then 1 2 3 2 1, then 1 3 6 7 6 3 1 along each side; three colours add."""
    fields = receptive_field(plain(Ones()), torch.randn(1, 3, 15, 15), [f"layers.{i}" for i in range(3)])
    for field, side in zip(fields, ([1, 1, 1], [1, 2, 3, 2, 1], [1, 3, 6, 7, 6, 3, 1]), strict=True):
        ways = torch.tensor(side).float()
        n = len(side)
        expected = torch.zeros(15, 15)
        expected[7 - n // 2 : 8 + n // 2, 7 - n // 2 : 8 + n // 2] = 3**0.5 * torch.outer(ways, ways)
        torch.testing.assert_close(field.values[0], expected)
        assert field.notes["touched"].item() == pytest.approx(n * n / 225)
    one = (4 * 1 + 4 * 2**0.5) / 9 / 15
    assert fields[0].notes["radius"].item() == pytest.approx(one)


def test_many_draws_come_near_the_whole_jacobian() -> None:
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(1)
    (found,) = receptive_field(clf, x, "body", point=(0.3, 0.7), draws=400)
    jacobian = torch.func.jacrev(lambda t: clf.module.body(clf.module.stem(t))[0, :, 2, 5])(x)  # (c, 1, 3, h, w)
    expected = jacobian[:, 0].square().sum((0, 1)).sqrt()
    torch.testing.assert_close(found.values[0] > 0, expected > 0)
    assert (found.values[0] - expected).norm() < 0.05 * expected.norm()


def test_batch_equals_loop_and_the_order_is_as_asked() -> None:
    clf, x = tiny.classifier(tiny.swin()), tiny.images(2)
    names = ["layers.1", "layers.0"]
    both = receptive_field(clf, x, names, draws=2)
    assert [heat.layer for heat in both] == names
    for photo in range(2):
        alone = receptive_field(clf, x[photo : photo + 1], names, draws=2)
        for a, b in zip(alone, both, strict=True):
            torch.testing.assert_close(a.values[0], b.values[photo], rtol=1e-4, atol=1e-6)


def test_it_moves_with_the_point() -> None:
    clf, x = plain(Ones()), torch.randn(1, 3, 15, 15)
    for point, peak in (((0.3, 0.8), (4, 12)), ((1.0, 0.0), (14, 0))):
        (field,) = receptive_field(clf, x, "layers.0", point=point)
        touched = (field.values[0] > 0).nonzero().float().mean(0)
        assert (touched - torch.tensor(peak)).abs().max() <= 0.5


def test_a_gate_sees_the_whole_image_and_a_window_does_not() -> None:
    clf, x = plain(tiny.randomise(Gated())), torch.randn(1, 3, 15, 15)
    conv, gated = receptive_field(clf, x, ["conv", "out"])
    assert conv.notes["touched"].item() == pytest.approx(9 / 225)
    assert gated.notes["touched"].item() == 1
    (window,) = receptive_field(tiny.classifier(tiny.swin()), tiny.images(1), "layers.0.blocks.0")
    assert window.notes["touched"].item() == pytest.approx(1 / 16)  # one window of 4 × 4 on 16 × 16


def test_layer_norm_does_not_hide_it() -> None:
    (field,) = receptive_field(tiny.classifier(tiny.vit()), tiny.images(1), "blocks.0")
    assert field.values.min() > 0
    assert 0.2 < field.notes["radius"].item() < 0.6


def test_nothing_is_left_behind() -> None:
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(1)
    before = clf(x)
    receptive_field(clf, x, "body")
    assert not any(m._forward_hooks for m in clf.module.modules())
    assert all(p.grad is None and p.requires_grad for p in clf.module.parameters())
    assert x.grad is None
    assert not x.requires_grad
    torch.testing.assert_close(clf(x), before, rtol=0, atol=0)


def test_reach_by_hand() -> None:
    values = torch.tensor([[[1.0, 0.0, 0.0, 3.0]]])
    assert reach(values, (0.5, 0.125)).item() == pytest.approx(3 * 0.75 / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "nowhere"}, "no module 'nowhere'"),
        ({"layers": "fc"}, "a layer with a spatial grid is needed"),
        ({"layers": "body", "point": (20, 3)}, r"in \[0, 1\]"),
        ({"layers": "body", "draws": 0}, "at least one draw"),
    ],
)
def test_wrong_questions(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        receptive_field(tiny.classifier(tiny.CNN()), tiny.images(1), **options)
