"""The layer for class activation maps, and where mass starts: what the logits depend on."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor, nn

from vizlib.capture.anatomy import study
from vizlib.capture.target import cam_layer, reading
from vizlib.models.architectures.efficient_vit import vit_exact, vit_performer
from vizlib.models.architectures.lv_vit import LVViT

SMALL = {"dim": 24, "depth": 2, "heads": 3, "image_size": 64, "num_classes": tiny.CLASSES}
CHOSEN = {
    "cnn": (tiny.CNN, 32, "body"),
    "class token": (tiny.vit, 32, "blocks.1.norm1"),  # after the last attention the patches are not read
    "distilled": (tiny.distilled, 32, "blocks.1.norm1"),
    "mean of tokens": (lambda: tiny.vit(class_token=False, global_pool="avg"), 32, "blocks"),
    "swin": (tiny.swin, 32, "norm"),
    "class attention": (tiny.cait_with_class_attention, 32, "blocks_token_only.1.norm1"),
    "pvt": (tiny.pvt, 32, "stages"),
    # of the patches behind the last attention, a logit reads only the best through the dense head
    "dense head": (lambda: LVViT(24, 2, 3, num_classes=tiny.CLASSES, image_size=64), 64, "blocks.1.norm1"),
    # the operation runs in a module inside the one that projects q, k and v
    "attention handed q, k, v": (lambda: vit_exact(**SMALL), 64, "blocks.1.norm1"),
    "linear attention": (lambda: vit_performer(features=8, **SMALL), 64, "blocks.1.norm1"),
}


@pytest.mark.parametrize(("build", "size", "layer"), CHOSEN.values(), ids=CHOSEN)
def test_the_last_layer_that_the_head_reads(build, size, layer):
    clf, x = tiny.classifier(build(), size), tiny.images(2, size)
    chosen = cam_layer(clf, x)
    assert chosen == layer or chosen.startswith(layer + ".")
    inside = study(clf, x).owners
    assert not any(chosen == o or chosen.startswith(o + ".") for o in inside)


def test_what_the_logits_read_of_the_last_operation():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    start = reading(clf, x).start
    assert start[1].nonzero().tolist() == [[0, 0]]  # the class token alone
    assert start[0].all()
    both = reading(tiny.classifier(tiny.distilled()), x).start[1]
    assert both.nonzero().tolist() == [[0, 0], [0, 1]]
    mean = reading(tiny.classifier(tiny.vit(class_token=False, global_pool="avg")), x).start[1]
    assert mean.all()


class Inner(nn.Module):
    """A model whose last output on a grid is unused, and whose last used one is one cell."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(3, 8, 2, 2)
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.used(x)
        self.unused(x)
        return self.head(self.pool(features).flatten(1))


def test_an_output_that_nobody_reads_is_passed_over():
    clf, x = tiny.classifier(Inner()), tiny.images(2)
    assert "unused" in study(clf, x).layouts
    assert "pool" not in study(clf, x).layouts
    assert cam_layer(clf, x) == "used"


def test_no_grid_at_all():
    clf = tiny.classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, tiny.CLASSES)), 8)
    with pytest.raises(RuntimeError, match=r"none at \(8, 8\) px.*'saliency'"):
        cam_layer(clf, tiny.images(2, 8))


def test_a_head_that_is_zero():
    clf = tiny.classifier(tiny.CNN())
    nn.init.zeros_(clf.module.fc.weight)
    with pytest.raises(RuntimeError, match=r"gradient is zero at all .* zero initialisation"):
        cam_layer(clf, tiny.images(2))


def test_the_choice_is_made_once_per_size():
    calls = []
    clf = tiny.classifier(tiny.CNN())
    clf.module.register_forward_hook(lambda *_: calls.append(1))
    cam_layer(clf, tiny.images(2))
    first = len(calls)
    cam_layer(clf, tiny.images(4, seed=5))
    assert len(calls) == first
    cam_layer(clf, tiny.images(2, 48))
    assert len(calls) > first


def test_another_model_of_the_same_shape_is_another_model():
    for seed in range(3):
        clf = tiny.classifier(tiny.CNN() if seed % 2 else Inner())
        assert cam_layer(clf, tiny.images(2)) in ("body", "body.2", "used")
    assert torch.is_grad_enabled()
