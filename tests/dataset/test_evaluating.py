import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vizlib as vl
from vizlib import dataset
from vizlib.models.accuracy import wilson


class Brightest(nn.Module):
    """Names the colour channel that is brightest; the other logits follow in a fixed order."""

    def forward(self, x):
        rest = torch.linspace(-1, -2, 5, device=x.device).expand(len(x), 5)
        return torch.cat([x.mean((2, 3)), rest], 1)


@pytest.fixture(scope="module")
def clf():
    labels = ["red", "green", "blue", "cyan", "magenta", "yellow", "black", "white"]
    return vl.load(Brightest(), input_size=(3, 8, 8), labels=labels, mean=(0, 0, 0), std=(1, 1, 1), device="cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """val/: three of four photographs are the colour of their folder; white is the last of all the logits."""
    root = tmp_path_factory.mktemp("photos")
    (root / "train" / "red").mkdir(parents=True)
    for i, (label, colour) in enumerate(
        [("red", (200, 0, 0)), ("green", (0, 200, 0)), ("blue", (0, 0, 200)), ("white", (200, 0, 0))]
    ):
        (root / "val" / label).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), colour, np.uint8)).save(root / "val" / label / f"{i}.png")
    return root


def test_counts_are_those_made_by_hand(clf, root):
    found = dataset.evaluate(clf, root)
    assert (found.photos, found.unreadable) == (4, 0)
    assert found.top1 == found.top5 == 0.75  # white is eighth of eight
    assert found.top1_interval == wilson(3, 4)
    assert "top-1  75.0 %" in str(found)
    assert dataset.evaluate(clf, root / "val") == found


def test_right_among_five_is_not_right_at_once(clf, root):
    found = dataset.evaluate(clf, root / "val", labels={"white": "magenta"})  # fifth logit in its photograph
    assert (found.top1, found.top5) == (0.75, 1.0)


def test_broken_files_are_counted_and_kept_apart(clf, root, tmp_path):
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="no photograph that has one"):
        dataset.evaluate(clf, tmp_path)
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "red" / "fine.png")
    found = dataset.evaluate(clf, tmp_path)
    assert (found.photos, found.unreadable, found.top1) == (1, 1, 1.0)
    assert "1 unreadable" in str(found)


@pytest.mark.skipif(not os.environ.get("VIZLIB_DATA"), reason="set VIZLIB_DATA to the photo set, folder or tar")
def test_every_card_is_found_again():
    for name in vl.zoo.trained():
        card = vl.zoo.card(name)
        found = dataset.evaluate(vl.load(f"zoo/{name}", device="cpu"), vl.data.tiny_imagenet20())
        assert (found.photos, found.top1, found.top5) == (card.photos, card.top1, card.top5)
        assert found.top1_interval == pytest.approx(card.top1_interval)
