"""The part of a photograph that a model sees, against the closed formula of its preprocessing."""

import pytest
import tiny
import torch
from torchvision import transforms

from vizlib import data
from vizlib.explore.window import WHOLE, seen_part, sharp, window
from vizlib.types import Classifier

SIZE = 64


def through(*steps):
    clf = tiny.classifier(tiny.CNN())
    steps = [*steps, transforms.ToTensor(), transforms.Normalize(clf.mean, clf.std)]
    return Classifier(clf.module, "", transforms.Compose(steps), (3, SIZE, SIZE))


def test_resize_and_centre_crop():
    clf = through(transforms.Resize(80), transforms.CenterCrop(SIZE))
    width, height = 600, 400  # becomes 120 × 80, of which the middle 64 × 64 stay
    expected = ((60 - 32) / 120, (40 - 32) / 80, (60 + 32) / 120, (40 + 32) / 80)
    assert window(clf, (width, height)) == pytest.approx(expected, abs=0.01)


def test_squashed_to_a_square():
    clf = through(transforms.Resize((SIZE, SIZE)))
    assert window(clf, (500, 200)) == pytest.approx((0, 0, 1, 1), abs=0.01)


@pytest.mark.parametrize(
    "step",
    [transforms.RandomHorizontalFlip(1.0), transforms.Grayscale(3), transforms.RandomRotation((30, 30))],
)
def test_what_is_no_upright_part_of_the_photograph_is_not_guessed(step):
    assert window(through(transforms.Resize((SIZE, SIZE)), step), (300, 300)) is None


def test_the_sharp_picture_shows_the_same_part_as_the_models_input():
    clf = through(transforms.Resize(80), transforms.CenterCrop(SIZE))
    photo = data.photo("coffee")
    fine = sharp(clf, photo, longest=4 * SIZE)
    seen = clf.picture(clf.prepare(photo))[0]
    coarse = torch.nn.functional.avg_pool2d(fine[None], 4)[0]
    assert fine.shape == (3, 4 * SIZE, 4 * SIZE)
    assert float((coarse - seen).abs().mean()) < 0.02
    moved = torch.roll(coarse, 3, -1)  # three pixels aside no longer fit
    assert float((moved - seen).abs().mean()) > 0.04


def test_the_part_that_is_seen_comes_with_its_box():
    clf = through(transforms.Resize(SIZE), transforms.CenterCrop(SIZE))
    photo = data.photo("coffee")  # 600 × 400
    picture, box = seen_part(clf, photo)
    assert picture.shape[0] == 3
    assert box == pytest.approx((1 / 6, 0, 5 / 6, 1), abs=0.01)
    assert seen_part(clf, clf.prepare(photo)) == (None, WHOLE)
