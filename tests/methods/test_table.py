"""explain() and contrast(): every method through the one call."""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vizlib.capture.trace import ablate, trace
from vizlib.explore.summary import summary
from vizlib.methods.kinds import Method
from vizlib.methods.names import NAMES
from vizlib.methods.table import METHODS, contrast, explain, shared_out
from vizlib.show.caption import caption

ATTENTION = {"rollout", "gradient_rollout", "chefer", "attention"}


def applies(method: str, model: str) -> bool:
    """The CNN has no attention; only it and Swin end in pooling and a linear layer."""
    return not (model == "cnn" and method in ATTENTION) and not (model == "vit" and method == "cam")


MODELS = ("cnn", "vit", "swin")
PAIRS = [(model, method) for model in MODELS for method in METHODS if applies(method, model)]
AWARE = [(model, method) for model, method in PAIRS if not METHODS[method].class_blind]


class Counted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.runs = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.inner(x)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_on_every_model(method, clf, x, cheap):
    if not applies(method, clf.name):
        with pytest.raises(RuntimeError, match=r"needs|is needed"):
            explain(clf, x, method, **cheap)
        return
    heat = explain(clf, x, method, **cheap)
    row, best = METHODS[method], clf(x).argmax(1)
    assert heat.values.ndim == 3
    assert len(heat.values) == 2
    assert heat.values.dtype == torch.float32
    assert not heat.values.requires_grad
    assert (heat.method, heat.model, heat.unit) == (method, clf.name, row.unit)
    torch.testing.assert_close(heat.image, clf.picture(x))
    assert bool(heat.layer) == row.takes_layer
    if row.class_blind:
        assert heat.target is None
        assert heat.score is None
        assert heat.labels == ()
    else:
        assert torch.equal(heat.target, best)
        torch.testing.assert_close(heat.score, clf(x).amax(1))
        assert heat.labels == tuple(clf.labels[i] for i in best)
    again = explain(clf, x, method, **cheap)
    assert torch.equal(heat.values, again.values)


@pytest.mark.parametrize(("clf", "method"), PAIRS, indirect=["clf"])
def test_targets_in_every_form(method, clf, x, cheap):
    both = explain(clf, x, method, target=["coffee", 4], **cheap)
    if METHODS[method].class_blind:
        assert both.values.ndim == 3
        with pytest.raises(ValueError, match="coffee"):
            explain(clf, x, method, target="cofee", **cheap)
        return
    assert both.values.shape[:2] == both.target.shape == both.score.shape == (2, 2)
    assert both.labels == ("coffee | tea",) * 2
    forms = {0: "coffee", 1: 4}
    for column, name in forms.items():
        single = explain(clf, x, method, target=name, **cheap)
        torch.testing.assert_close(single.values, both.values[:, column], rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(single.score, both.score[:, column])
    each = explain(clf, x, method, target=torch.tensor([1, 4]).numpy(), **cheap)
    assert each.labels == ("coffee", "tea")
    torch.testing.assert_close(each.values[1], both.values[1, 1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("clf", "method"), AWARE, indirect=["clf"])
def test_callable_target(method, clf, x, cheap):
    if method == "cam":
        with pytest.raises(RuntimeError, match="not a weight row"):
            explain(clf, x, method, target=lambda logits: 2 * logits[:, 1], **cheap)
        return
    own = explain(clf, x, method, target=lambda logits: logits[:, 1], **cheap)
    named = explain(clf, x, method, target=1, **cheap)
    torch.testing.assert_close(own.values, named.values, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(own.score, named.score)
    assert own.target is None
    assert own.labels == ("a score of the logits",) * 2


@pytest.mark.parametrize(("clf", "method"), AWARE, indirect=["clf"])
def test_contrast_is_the_difference(method, clf, x, cheap):
    true = clf(x).argmin(1)
    versus = contrast(clf, x, method, against=true, **cheap)
    predicted, other = explain(clf, x, method, **cheap), explain(clf, x, method, target=true, **cheap)
    torch.testing.assert_close(versus.values, predicted.values - other.values, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(versus.score, predicted.score - other.score)
    assert torch.equal(versus.target, predicted.target)
    assert torch.equal(versus.notes["against"], true)
    names = zip(predicted.labels, other.labels, strict=True)
    assert versus.labels == tuple(f"{a} − {b}" for a, b in names)
    assert set(versus.notes) == {*predicted.notes, "against"}


def test_contrast_refuses(cnn, vit, x):
    with pytest.raises(ValueError, match="rollout is class-blind"):
        contrast(vit, x, "rollout", 1, 2)
    with pytest.raises(ValueError, match="the same for photograph 0, 1"):
        contrast(cnn, x)
    for given in ([1, 2], lambda logits: logits[:, 0]):
        with pytest.raises(ValueError, match=r"one class per photograph.*Pass an array"):
            contrast(cnn, x, "gradcam", given, 2)


def test_equal_classes_of_one_photograph_leave_the_others_alone(cnn, x):
    with pytest.warns(UserWarning, match=r"photograph 1 it is 0 everywhere, since target and against are the same"):
        versus = contrast(cnn, x, "gradcam", np.array(["coffee", "dog"]), "dog")
    assert versus.notes["flat"].tolist() == [False, True]
    assert not versus.values[1].any()
    torch.testing.assert_close(versus[0].values, contrast(cnn, x[:1], "gradcam", "coffee", "dog").values)
    assert caption(versus, 1).endswith("says nothing")
    assert "coffee − dog" in caption(versus, 0)


def test_one_run_for_cams_several_layers_classes_and_contrasts(cnn, x):
    clf = replace(cnn, module=Counted(cnn.module))
    explain(clf, x)  # the study of the model, once
    for ask in (
        lambda: explain(clf, x),
        lambda: explain(clf, x, "layercam", target=[0, 1, 2]),
        lambda: explain(clf, x, layer=["inner.stem.0", "inner.stem"]),
        lambda: contrast(clf, x, "hirescam", 0, 1),
    ):
        before = clf.module.runs
        ask()
        assert clf.module.runs == before + 1


def test_several_layers(cnn, vit, x):
    for clf, method, layers, sizes in (
        (cnn, "gradcam", ["stem", "stem.0"], [8, 16]),
        (cnn, "scorecam", ["stem.0", "stem"], [16, 8]),
        (vit, "attention", ["blocks.1.attn", "blocks.0.attn"], [4, 4]),
    ):
        maps = explain(clf, x, method, layer=layers)
        assert [m.layer for m in maps] == layers
        assert [m.values.shape[-1] for m in maps] == sizes
        for heat in maps:
            alone = explain(clf, x, method, layer=heat.layer)
            torch.testing.assert_close(alone.values, heat.values, rtol=1e-3, atol=1e-5)
    pair = contrast(cnn, x, "gradcam", 0, 1, layer=["stem", "stem.0"])
    assert [m.values.shape for m in pair] == [(2, 8, 8), (2, 16, 16)]


def test_raw_attention_options(vit, x):
    row = explain(vit, x, "attention", layer="blocks.0.attn", query=(0.9, 0.1), head=1)
    other = explain(vit, x, "attention", layer="blocks.0.attn", query=(0.1, 0.1), head=1)
    assert not torch.allclose(row.values, other.values)
    first = [explain(vit, x, "attention", layer="blocks.0.attn", head=h).values for h in (0, 1)]
    mean = explain(vit, x, "attention", layer="blocks.0.attn", query=0).values
    torch.testing.assert_close((first[0] + first[1]) / 2, mean)
    assert (mean.sum((1, 2)) < 1).all()  # the class token keeps the rest
    with pytest.raises(ValueError, match=r"blocks\.1\.attn"):
        explain(vit, x, "attention", layer="blocks.1.atn")
    with pytest.raises(ValueError, match="heads 0 to 1; got 2"):
        explain(vit, x, "attention", head=2)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("gradcm", {}, r"got 'gradcm'. Near ones: gradcam"),
        ("zzz", {}, r"There are: gradcam, gradcam\+\+"),
        ("gradcam", {"steps": 3}, "gradcam has no option 'steps'. It accepts: none"),
        ("integrated_gradients", {"step": 3}, "Did you mean 'steps'. It accepts: baseline, steps, batch"),
        ("saliency", {"layer": "stem"}, "saliency takes no layer. Leave layer out"),
        ("gradcam", {"layer": []}, "at least one layer is needed"),
        ("gradcam", {"layer": "stm"}, "stem"),
        ("gradcam", {"layer": "fc"}, "a layer with a spatial grid is needed"),
        ("gradcam", {"target": 5}, "a class index from 0 to 4 is needed; got 5"),
        ("gradcam", {"target": []}, "Name at least one class"),
        ("gradcam", {"target": torch.tensor([1, 2, 3])}, r"shape \(2,\); got \(3,\)"),
        ("saliency", {"target": "rockt"}, "'rocket'"),
    ],
)
def test_mistakes_are_told(method, options, message, cnn, x):
    with pytest.raises(ValueError, match=message):
        explain(cnn, x, method, **options)


def test_a_module_is_no_classifier(cnn, x):
    with pytest.raises(TypeError, match=r"explain needs a Classifier; got TinyCNN\. Use vl\.load"):
        explain(cnn.module, x)
    for ask in (trace, summary):
        with pytest.raises(TypeError, match=rf"{ask.__name__} needs a Classifier; got str\. Use vl\.load"):
            ask("zoo/vit", *[x] * (ask is trace))
    with pytest.raises(TypeError, match=r"ablate needs a Classifier; got TinyCNN"), ablate(cnn.module, {}):
        pass


def test_a_layer_is_a_path(cnn, x):
    with pytest.raises(TypeError, match=r"layer is a module path or a list of them; got 3\."):
        explain(cnn, x, layer=3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda a: a.new_full((2, 1, 4, 4), 0.1), "for photograph 0 it is 0.1 everywhere at 'stem'"),
        (lambda a: a.new_zeros((2, 1, 4, 4)), "it is 0 everywhere"),
        (lambda a: torch.eye(4).expand(2, 1, 4, 4) / 0 * 0, "it is not finite"),
    ],
)
def test_a_constant_map_is_an_error(value, message, cnn, x, monkeypatch):
    monkeypatch.setitem(METHODS, "odd", Method("odd", lambda a, g: value(a), "cam", "", ""))
    with pytest.raises(RuntimeError, match=message):
        explain(cnn, x, "odd", layer="stem")


def test_flat_maps_of_some_photographs_leave_the_others_alone(cnn, x, monkeypatch):
    some = torch.tensor([1, 0, 0]).view(3, 1, 1, 1)
    odd = Method("odd", lambda a, g: torch.eye(4).repeat(3, 2, 1, 1) * some, "cam", "", "")
    monkeypatch.setitem(METHODS, "odd", odd)
    three = torch.cat([x, x[:1]])
    with pytest.warns(
        UserWarning, match=r"for photograph 1 it is 0 everywhere at 'stem'\. So it is for 2 of 3: 1, 2\."
    ):
        heat = explain(cnn, three, "odd", target=[0, 1], layer="stem")
    assert heat.notes["flat"].tolist() == [[False, False], [True, True], [True, True]]
    assert heat.cpu()[1].notes["flat"].all()
    assert heat.values[0].any()


def test_a_new_method_is_one_function_and_one_row(cnn, x, monkeypatch):
    def strongest(activation: Tensor, gradient: Tensor, *, power: float = 1.0) -> Tensor:
        return (activation.amax(1) ** power)[:, None].expand(-1, gradient.shape[1], -1, -1)

    monkeypatch.setitem(METHODS, "strongest", Method("strongest", strongest, "cam", "activation", "own"))
    heat = explain(cnn, x, "strongest", power=2.0)
    torch.testing.assert_close(heat.values, cnn.module.stem(x).amax(1).detach() ** 2)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ATTENTION])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(method, dtype, cnn, x, cheap):
    exact = explain(cnn, x, method, target=1, **cheap).values
    other = explain(replace(cnn, module=deepcopy(cnn.module).to(dtype)), x, method, target=1, **cheap).values
    assert other.dtype in (torch.float32, torch.float64)
    pair = torch.stack([exact.flatten(), other.flatten().float()])
    assert torch.corrcoef(pair)[0, 1] > (0.9 if dtype == torch.bfloat16 else 0.999999)


@pytest.mark.gpu
@pytest.mark.parametrize(("clf", "method"), PAIRS, indirect=["clf"])
def test_the_gpu_gives_the_same(method, clf, x, cheap):
    if method == "smoothgrad":
        cheap = {**cheap, "noise": 0.0}  # a device draws noise of its own
    there = explain(replace(clf, module=deepcopy(clf.module).cuda()), x, method, target=1, **cheap)
    assert there.values.is_cuda
    here = explain(clf, x, method, target=1, **cheap).values
    assert float((there.values.cpu() - here).abs().max()) < 1e-2 * float(here.abs().max())


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.inner(x))


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ATTENTION])
def test_outputs_with_logits_inside_no_grad_and_not_square(method, cnn, cheap):
    wide = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(4))
    plain = explain(cnn, wide, method, target=1, **cheap).values
    assert plain.shape[1:] in ((8, 12), (32, 48))
    with torch.no_grad():
        wrapped = explain(replace(cnn, module=Wrapped(cnn.module)), wide, method, target=1, **cheap).values
    torch.testing.assert_close(wrapped, plain)


def test_the_table_prints_a_line_a_method():
    lines = repr(METHODS).splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    options = "fusion='mean', discard=0.0, start_layer=0, start='read'"
    chefer = next(line for line in lines if line.startswith("chefer"))
    assert f"  rollout, of a class, in relevance; options: {options}; Chefer et al. 2021" in chefer


def test_the_rows_are_complete():
    for name, row in METHODS.items():
        assert name == row.name
        assert row.unit, name
        assert "arXiv" in row.source or "doi" in row.source or "package" in row.source, name
        assert inspect.getdoc(row.function), name
        assert "Source:" in inspect.getdoc(row.function), name
        assert inspect.Parameter.empty not in row.options.values(), name


def test_the_names_that_need_no_torch_are_those_of_the_table():
    assert tuple(METHODS) == NAMES


def test_options_go_to_the_methods_that_have_them():
    given = {"discard": 0.5, "absolute": True}
    found = shared_out(["rollout", "saliency", "gradcam", "auto"], given)
    assert found == {"rollout": {"discard": 0.5}, "saliency": {"absolute": True}, "gradcam": {}, "auto": given}
    with pytest.raises(ValueError, match=r"got 'head'\. They accept: saliency: absolute; gradcam: none"):
        shared_out(["saliency", "gradcam"], {"head": 2})
