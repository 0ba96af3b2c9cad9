"""Model × method × {normal, bad target, the model raises}: afterwards the model and the process are as they were."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam  # noqa: F401 - importing it draws random numbers, which is not the library's doing
import tiny
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vizlib.capture.trace import ablate, trace
from vizlib.methods.table import METHODS, explain
from vizlib.types import Classifier


class Fragile(nn.Module):
    """A layer that does nothing, draws from every generator, and raises when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def forward(self, x: Tensor) -> Tensor:
        if self.broken:
            raise IndexError("the user's own mistake")
        torch.rand(1), np.random.rand(), random.random()  # noqa: NPY002
        return x


class WithPytorchsAttention(nn.Module):
    """nn.MultiheadAttention between a convolution and the fragile layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attn = nn.Conv2d(3, 12, 8, 8), nn.MultiheadAttention(12, 3, batch_first=True)
        self.norm, self.fragile, self.head = nn.BatchNorm1d(12), nn.Identity(), nn.Linear(12, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.attn(tokens, tokens, tokens)[0]
        return self.head(self.fragile(self.norm(tokens.transpose(1, 2))).mean(2))


def broken_cnn() -> nn.Module:
    module = tiny.CNN()
    module.body = nn.Sequential(*module.body, Fragile())
    return module


def broken_vit() -> nn.Module:
    module = tiny.vit()
    module.blocks[1].mlp.drop1 = Fragile()
    return module


def broken_swin() -> nn.Module:
    module = tiny.swin()
    module.layers[1].blocks[0].attn.proj_drop = Fragile()
    return module


def broken_pytorch() -> nn.Module:
    module = WithPytorchsAttention()
    module.fragile = Fragile()
    return module


MODELS = {"cnn": broken_cnn, "vit": broken_vit, "swin": broken_swin, "pytorch": broken_pytorch}
FEW = {"integrated_gradients": {"steps": 2}, "smoothgrad": {"samples": 2}, "gradientshap": {"samples": 2},
       "occlusion": {"window": 16, "stride": 16}}  # fmt: skip


def _ablated(clf: Classifier, x: Tensor, target: Any) -> None:
    names = list(trace(clf, x, target=target).attentions)
    with ablate(clf, {n: [0] for n in names}):
        clf(x)
        trace(clf, x, target=target)


RUNS: dict[str, Callable[[Classifier, Tensor, Any], object]] = {
    "trace": lambda clf, x, target: trace(clf, x, target=target),
    "ablate": _ablated,
    **{m: lambda clf, x, target, m=m: explain(clf, x, m, target=target, **FEW.get(m, {})) for m in METHODS},
}


def in_use(build: Callable[[], nn.Module]) -> Classifier:
    """As somebody works with it: training, one part frozen and in evaluation mode, gradients gathered."""
    clf = tiny.classifier(build())
    clf.module.train()
    first, *_ = clf.module.children()
    first.eval()
    next(first.parameters()).requires_grad_(False)
    for i, p in enumerate(clf.module.parameters()):
        if p.requires_grad and i % 2:
            p.grad = torch.full_like(p, i)
    return clf


def everything(clf: Classifier) -> dict[str, Any]:
    """What a run could leave behind, in a form that compares."""
    modules = dict(clf.module.named_modules())
    state = {
        "training": {n: m.training for n, m in modules.items()},
        "requires_grad": {n: p.requires_grad for n, p in clf.module.named_parameters()},
        "grad": {n: p.grad if p.grad is None else p.grad.tolist() for n, p in clf.module.named_parameters()},
        "weights": {n: t.tolist() for n, t in clf.module.state_dict().items()},
        "identity": {n: id(p) for n, p in clf.module.named_parameters()} | {n: id(m) for n, m in modules.items()},
        "hooks": {n: [len(v) for k, v in vars(m).items() if "_hooks" in k] for n, m in modules.items()},
        "attributes": {n: sorted(vars(m)) for n, m in modules.items()},
        "forward": {n: m.forward.__func__ for n, m in modules.items()},
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(v) for v in np.random.get_state()],  # noqa: NPY002
        "python": random.getstate(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch._C._len_torch_function_stack(),
                  torch._C._len_torch_dispatch_stack(), torch.backends.mha.get_fastpath_enabled()),
        "patches": [getattr(F, n) for n in ("has_torch_function", "has_torch_function_unary",
                                            "has_torch_function_variadic", "scaled_dot_product_attention", "softmax")],
        "global hooks": [len(getattr(nn.modules.module, f"_global_forward{k}_hooks")) for k in ("", "_pre")],
    }  # fmt: skip
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state().tolist()
    return state


@pytest.fixture(scope="module", params=MODELS)
def used(request: pytest.FixtureRequest) -> tuple[str, Classifier]:
    return request.param, in_use(MODELS[request.param])


@pytest.mark.parametrize("fault", ["normal", "bad target", "the model raises"])
@pytest.mark.parametrize("method", RUNS)
def test_nothing_is_left_behind(used, method, fault):
    (model, clf), x = used, tiny.images(2)
    fragile = next(m for m in clf.module.modules() if isinstance(m, Fragile))
    fragile.broken = fault == "the model raises"
    before, pixels = everything(clf), x.clone()
    target = 99 if fault == "bad target" else 1
    raised = None
    try:
        RUNS[method](clf, x, target)
    except Exception as error:  # noqa: BLE001 - which one is looked at below
        raised = error
    fragile.broken = False
    after = everything(clf)
    for what in before:
        assert after[what] == before[what], what
    assert torch.equal(x, pixels)
    assert x.grad is None
    if fault == "the model raises":
        assert isinstance(raised, IndexError)
        assert str(raised) == "the user's own mistake"
    elif fault == "bad target" and isinstance(raised, ValueError):
        assert "99" in str(raised)
    elif raised is not None or fault == "bad target":  # the method does not apply, and says so
        assert isinstance(raised, RuntimeError)
        assert "needs" in str(raised)
        assert model == "cnn" or method == "cam"


def test_running_statistics_and_flags_of_a_model_in_training():
    """Evaluation mode inside: BatchNorm and dropout act as they will when the model is used."""
    clf = tiny.classifier(tiny.CNN())
    x = tiny.images(4)
    expected = clf(x)
    clf.module.train()
    running = clf.module.stem[1].running_mean.clone()
    assert torch.equal(trace(clf, x).logits, expected)
    assert torch.equal(clf(x), expected)
    assert torch.equal(clf.module.stem[1].running_mean, running)
    assert int(clf.module.stem[1].num_batches_tracked) == 0
    assert clf.module.training
    assert clf.module.drop.training


@pytest.mark.parametrize("model", MODELS)
def test_a_fault_in_the_very_first_run(model):
    """The model raises while it is being found out about; the next run is right."""
    clf, x = in_use(MODELS[model]), tiny.images(2)
    fragile = next(m for m in clf.module.modules() if isinstance(m, Fragile))
    before = everything(clf)
    expected = clf(x)
    for start in (trace, _ablated):
        fragile.broken = True
        with pytest.raises(IndexError, match="own mistake"):
            start(clf, x, target=1)
        fragile.broken = False
        assert everything(clf) == before
    run = trace(clf, x, target=1)
    torch.testing.assert_close(run.logits, expected, rtol=1e-3, atol=1e-6)
    assert run.gradient.any()


def test_a_trace_holds_no_graph():
    """Nothing in it leads back to the model's parameters or keeps the run's graph alive."""
    run = trace(in_use(broken_vit), tiny.images(2), target=1)
    tensors = [run.logits, run.activation, run.gradient, run.target]
    for found in run.attentions.values():
        tensors += [t for t in vars(found).values() if isinstance(t, Tensor)]
    assert len(tensors) > 15
    assert not any(t.requires_grad or t.grad_fn is not None for t in tensors)


# ---- faults of other libraries, each once


def test_two_photographs_at_once():
    heat = explain(tiny.classifier(tiny.CNN()), tiny.images(2), "gradcam")
    assert heat.values.shape == (2, 8, 8)


def test_the_grid_of_a_non_square_photograph():
    for build, grid in [(tiny.CNN, (7, 10)), (lambda: tiny.vit(img_size=(28, 40), patch_size=4), (7, 10))]:
        clf = tiny.classifier(build(), (28, 40))
        assert explain(clf, tiny.images(1, (28, 40)), "gradcam").values.shape == (1, *grid)


def test_fused_attention_gives_as_many_maps_as_there_are_blocks():
    """timm's fused attention never shows a softmax to a hook; none found would be an error and no empty answer."""
    module = tiny.vit(depth=3)
    assert all(block.attn.fused_attn for block in module.blocks)
    run = trace(tiny.classifier(module), tiny.images(2))
    assert len(run.attentions) == 3
    assert all(a.weights().std() > 0 for a in run.attentions.values())
    with pytest.raises(RuntimeError, match="no attention"):
        explain(tiny.classifier(tiny.CNN()), tiny.images(2), "rollout")


def test_evaluation_mode_and_gradients_are_not_touched():
    clf = in_use(broken_vit)
    before = {n: p.grad for n, p in clf.module.named_parameters()}
    explain(clf, tiny.images(2), "gradcam", target=1)
    assert clf.module.training
    assert all(p.grad is before[n] for n, p in clf.module.named_parameters())
