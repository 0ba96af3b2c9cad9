"""Activations and gradients at a layer equal those of a plain forward and backward through the whole model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch import Tensor, nn

from vizlib.capture.taps import resolve, taps

LAYERS = {  # model -> layer, its size, and from its output to (b, c, r, s)
    "conv": (tiny.CNN, "stem.0", 32, lambda y: y),
    "before an in-place ReLU": (tiny.CNN, "body.1", 32, lambda y: y),
    "the in-place ReLU": (tiny.CNN, "body", 32, lambda y: y),
    "tokens": (tiny.vit, "blocks.0", 32, lambda y: y[:, 1:].transpose(1, 2).unflatten(2, (4, 4))),
    "registers": (lambda: tiny.vit(reg_tokens=3), "blocks.0.norm2", 32,
                  lambda y: y[:, 4:].transpose(1, 2).unflatten(2, (4, 4))),
    "NHWC": (tiny.swin, "layers.0", 32, lambda y: y.permute(0, 3, 1, 2)),
    "NHWC non-square": (lambda: tiny.swin((32, 48)), "layers.1.blocks.0.norm1", (32, 48),
                        lambda y: y.permute(0, 3, 1, 2)),
    "map before tokens": (tiny.pvt, "stages.0", 32, lambda y: y),
}  # fmt: skip


def plainly(module: nn.Module, x: Tensor, layer: str, classes: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The layer's output as it is when it is returned, and the gradient of each class's logits there."""
    kept: list[Tensor] = []

    def keep(_m: nn.Module, _a: object, out: Tensor) -> Tensor:
        kept.append(out)
        return out.clone()  # what follows may work in place

    hook = module.get_submodule(layer).register_forward_hook(keep)
    logits = module(x)
    hook.remove()
    return kept[0].detach(), [torch.autograd.grad(logits[:, c].sum(), kept[0], retain_graph=True)[0] for c in classes]


@pytest.mark.parametrize(("build", "layer", "size", "to_maps"), LAYERS.values(), ids=LAYERS)
def test_equals_a_plain_backward(build, layer, size, to_maps):
    clf, x = tiny.classifier(build(), size), tiny.images(2, size)
    activation, gradients = plainly(clf.module, x, layer, [3, 1])
    (tap,) = taps(clf, x, [3, 1], [layer])
    torch.testing.assert_close(tap.activation, to_maps(activation))
    for i, gradient in enumerate(gradients):
        torch.testing.assert_close(tap.gradient[:, i], to_maps(gradient), rtol=1e-4, atol=1e-7)
    assert tap.layer == layer
    assert torch.equal(tap.logits, clf(x))
    torch.testing.assert_close(tap.score, clf(x)[:, [3, 1]])
    assert not tap.activation.requires_grad
    assert not tap.score.requires_grad


def test_several_layers_of_one_run():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    both = taps(clf, x, 2, ["blocks.0", "blocks.1.norm1"])
    for tap in both:
        (alone,) = taps(clf, x, 2, [tap.layer])
        torch.testing.assert_close(tap.activation, alone.activation)
        torch.testing.assert_close(tap.gradient, alone.gradient, rtol=1e-4, atol=1e-7)
        assert tap.single
    assert not torch.equal(both[0].gradient, both[1].gradient)


class Several(nn.Module):
    """A stage that returns a size beside its maps, and a dict after that."""

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, 4)

        def forward(self, x: Tensor) -> tuple[tuple[int, int], Tensor]:
            y = self.conv(x)
            return (y.shape[2], y.shape[3]), y

    class Relu(nn.Module):
        def forward(self, pair: tuple[tuple[int, int], Tensor]) -> dict[str, Tensor]:
            return {"features": pair[1].relu_()}

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.relu, self.head = self.Stage(), self.Relu(), nn.Linear(8, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.stage(x))["features"].mean((2, 3)))


@pytest.mark.parametrize("layer", ["stage", "relu"])
def test_tuples_and_dicts(layer):
    clf, x = tiny.classifier(Several()), tiny.images(2)
    (tap,) = taps(clf, x, 1, [layer])
    y = clf.module.stage.conv(x).detach()
    weight = clf.module.head.weight[1].detach()
    gradient = weight.view(1, 8, 1, 1).expand_as(y) / 64
    expected = gradient * (y > 0) if layer == "stage" else gradient
    torch.testing.assert_close(tap.activation, y if layer == "stage" else y.relu())
    torch.testing.assert_close(tap.gradient[:, 0], expected)
    assert torch.equal(tap.logits, clf(x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_under_the_callers_own_modes(mode):
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    (expected,) = taps(clf, x, 2, ["blocks.0"])
    fresh = tiny.classifier(tiny.vit())
    with mode():
        (found,) = taps(fresh, x * 1, 2, ["blocks.0"])
    torch.testing.assert_close(found.gradient, expected.gradient)


def test_nothing_is_recorded_before_the_layer():
    """The graph begins at the layer: no gradient reaches the input or any parameter."""
    clf, x = tiny.classifier(tiny.CNN()), tiny.images(2).requires_grad_()
    saved: list[tuple[int, ...]] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(tuple(t.shape)) or t, lambda t: t):
        taps(clf, x.detach(), 2, ["body"])
    assert saved
    assert not any(shape[-2:] in [(32, 32), (16, 16)] for shape in saved if len(shape) == 4)
    assert x.grad is None


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("blocks.0.atn", r"no module 'blocks.0.atn'. Near ones: blocks.0.attn"),
        ("head", r"spatial grid is needed; 'head' .* name one of: "),
        ("blocks.1.mlp", "gradient of the target is zero at every patch of 'blocks.1.mlp'"),
    ],
)
def test_layers_that_do_not_serve(layer, message):
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    with pytest.raises((ValueError, RuntimeError), match=message):
        taps(clf, x, 2, [layer])
    assert not any(m._forward_hooks for m in clf.module.modules())


FORMS = {
    "an array of labels": (np.array(["coffee", "tea"]), [[1], [4]]),
    "a column of pandas": (pd.Series(["coffee", "tea"]), [[1], [4]]),
    "NumPy's integer": (np.int64(4), [[4], [4]]),
    "NumPy's text": (np.str_("tea"), [[4], [4]]),
    "a tensor of one": (torch.tensor(4), [[4], [4]]),
    "a tensor of half the width": (torch.tensor([1, 4], dtype=torch.int32), [[1], [4]]),
    "a list of all sorts": ([np.int64(4), "coffee", torch.tensor(0)], [[4, 1, 0], [4, 1, 0]]),
}


@pytest.mark.parametrize(("target", "expected"), FORMS.values(), ids=FORMS)
def test_targets_in_every_form(target, expected):
    found, single = resolve(tiny.classifier(tiny.CNN()), torch.zeros(2, 5), target)
    assert found.tolist() == expected
    assert single == (len(expected[0]) == 1)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (np.array(["coffee", "te"]), ValueError, "'te'.*'tea'"),
        (torch.tensor([1, 2, 3]), ValueError, r"shape \(2,\); got \(3,\)"),
        (torch.tensor([1.0, 2.0]), TypeError, "got Tensor of float32"),
        (True, TypeError, "got bool"),
        (object(), TypeError, "a class index, a label, a list or an array.*got object"),
    ],
)
def test_what_is_no_target(target, error, message):
    with pytest.raises(error, match=message):
        resolve(tiny.classifier(tiny.CNN()), torch.zeros(2, 5), target)


def test_an_empty_list_of_targets():
    with pytest.raises(ValueError, match="empty list"):
        taps(tiny.classifier(tiny.vit()), tiny.images(2), [])
