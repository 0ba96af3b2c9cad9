"""Compressed classifiers: INT8 against arithmetic by hand and torchao's kernels; what is stored; nothing changed."""

import copy

import pytest
import tiny
import torch
from torch import nn

from vizlib.capture.trace import trace
from vizlib.methods.table import explain
from vizlib.models.compress import (
    Round,
    half,
    int8,
    int8_kernels,
    multiplies_integers,
    pruned,
    rounds_in_float,
    stored,
    taught,
    trained_int8,
)
from vizlib.types import Classifier


@pytest.fixture
def clf():
    return tiny.classifier(tiny.vit())


@pytest.fixture
def cnn():
    return tiny.classifier(tiny.CNN())


def linear(weight):
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor(weight)
    module = nn.Sequential(nn.Flatten(), layer)
    return Classifier(module, "linear", lambda photo: photo, (2, 1, 1))


def test_static_rounding_by_hand():
    """Weights of a row in steps of a 127th of its largest, activations in 255 steps between what was seen."""
    small = int8(linear([[1.27, 0.004], [-2.54, 0.054]]), torch.tensor([[[[-1.0]], [[1.55]]]]))
    layer = small.module[1]
    assert torch.allclose(layer.weight, torch.tensor([[1.27, 0.0], [-2.54, 0.06]]), atol=1e-6)
    x = torch.tensor([[0.514, 9.0]]).view(1, 2, 1, 1)  # 0.514 -> 0.51, 9 is cut to 1.55
    assert torch.allclose(small(x), torch.tensor([[1.27 * 0.51, -2.54 * 0.51 + 0.06 * 1.55]]), atol=1e-5)


def test_rounding_keeps_zero_and_has_derivative_one():
    x = torch.tensor([0.0, 0.3, -0.2], requires_grad=True)
    rounded = Round(torch.tensor(-0.31), torch.tensor(0.7))(x)
    rounded.sum().backward()
    assert rounded[0] == 0
    assert (rounded - x).abs().max() <= 1.01 / 255 / 2 + 1e-6
    assert torch.equal(x.grad, torch.ones(3))


def test_dynamic_errs_as_much_as_torchaos_kernels():
    pytest.importorskip("torchao", reason="needs torchao: pip install 'vizlib[compress]'")
    clf, x = tiny.classifier(tiny.vit()), tiny.images(4)
    kernels, ours, whole = int8_kernels(clf), int8(clf), clf(x)
    assert 0.5 < (ours(x) - whole).norm() / (kernels(x) - whole).norm() < 2
    theirs, weight = kernels.module.blocks[0].mlp.fc1.weight.dequantize(), ours.module.blocks[0].mlp.fc1.weight
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((theirs - weight).abs() / step).max() < 1.01


def test_static_kernels_round_as_the_float_form_does():
    pytest.importorskip("torchao", reason="needs torchao: pip install 'vizlib[compress]'")
    clf = linear([[1.27, 0.004], [-2.54, 0.054]])
    seen = torch.tensor([[[[-1.0]], [[1.55]]]])
    x = torch.tensor([[0.514, 9.0]]).view(1, 2, 1, 1)  # 9 is cut to 1.55
    kernels, ours = int8_kernels(clf, seen), int8(clf, seen)
    torch.testing.assert_close(kernels(x), ours(x), atol=0.02, rtol=0)
    assert (int8_kernels(clf)(x) - clf(x)).abs().max() < 0.2 < (kernels(x) - clf(x)).abs().max()
    assert multiplies_integers(kernels)
    assert not multiplies_integers(ours)


def test_torchao_sets_nothing_for_the_whole_process():
    pytest.importorskip("torchao", reason="needs torchao: pip install 'vizlib[compress]'")
    before = torch.get_float32_matmul_precision(), torch._inductor.config.coordinate_descent_tuning
    int8_kernels(tiny.classifier(tiny.vit())), int8_kernels(tiny.classifier(tiny.vit()), tiny.images())
    assert (torch.get_float32_matmul_precision(), torch._inductor.config.coordinate_descent_tuning) == before


def test_taught_answers_more_like_its_teacher():
    clf, seen = tiny.classifier(tiny.vit()), tiny.images(16)
    small = pruned(clf, 0.5)
    after = taught(small, clf, seen, epochs=10, lr=1e-3)
    assert (after(seen) - clf(seen)).norm() < 0.5 * (small(seen) - clf(seen)).norm()
    assert torch.equal(small(seen), pruned(clf, 0.5)(seen))


def test_kernels_do_not_bear_derivatives_and_their_likeness_does(clf):
    pytest.importorskip("torchao", reason="needs torchao: pip install 'vizlib[compress]'")
    with pytest.raises(RuntimeError):
        explain(int8_kernels(clf), tiny.images(1), "gradcam")
    for method in ("gradcam", "rollout"):
        assert explain(int8(clf), tiny.images(1), method).values.std() > 0


@pytest.mark.parametrize("build", [tiny.vit, tiny.swin, tiny.CNN])
def test_static_covers_linear_layers_and_convolutions(build):
    clf = tiny.classifier(build())
    before, x = copy.deepcopy(clf.module.state_dict()), tiny.images(4)
    small = int8(clf, x)
    weights = [m for m in clf.module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    integers = [t for t in small.module.state_dict().values() if t.dtype == torch.int8]
    assert sum(t.numel() for t in integers) == sum(m.weight.numel() for m in weights)
    assert (small(x) - clf(x)).norm() < 0.1 * clf(x).norm()
    assert trace(small, x).logits.equal(small(x))
    assert all(torch.equal(before[name], t) for name, t in clf.module.state_dict().items())


def test_training_brings_the_rounded_model_nearer(cnn):
    seen = tiny.images(16)
    before, after = int8(cnn, seen), trained_int8(cnn, seen, epochs=10, lr=1e-4, batch=8)

    def apart(clf):
        return nn.functional.kl_div(clf(seen).log_softmax(1), cnn(seen).softmax(1), reduction="batchmean")

    assert apart(after) < apart(before)
    assert rounds_in_float(after)
    assert not rounds_in_float(cnn)
    assert torch.int8 in {t.dtype for t in after.module.state_dict().values()}


def test_half_and_pruned(cnn):
    assert len(stored(half(cnn))) < len(stored(cnn))
    assert half(cnn, torch.float16)(tiny.images()).dtype == torch.float16
    small = pruned(cnn, 0.5)
    weights = [m.weight for m in small.module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    gone = torch.cat([(w == 0).flatten() for w in weights])
    before = torch.cat([m.weight.flatten() for m in cnn.module.modules() if isinstance(m, nn.Linear | nn.Conv2d)])
    assert gone.sum() == round(0.5 * len(gone))
    assert before[gone].abs().max() <= before[~gone].abs().min()


def test_mistakes_are_told(cnn):
    with pytest.raises(ValueError, match="between 0 and 1; got 1"):
        pruned(cnn, 1)
    with pytest.raises(ValueError, match="float16 or"):
        half(cnn, torch.float64)
