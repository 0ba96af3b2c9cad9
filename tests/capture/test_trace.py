"""One run with everything in it: the logits stay, gradients are autograd's, silenced heads are silent."""

from __future__ import annotations

import re

import pytest
import tiny
import torch
from timm.models.crossvit import CrossVit
from torch import Tensor, nn

from vizlib.capture.summary import obstacles
from vizlib.capture.trace import ablate, trace
from vizlib.methods.table import explain
from vizlib.models.architectures.lv_vit import LVViT

MODELS = {
    "cnn": (tiny.CNN, 32),
    "vit": (tiny.vit, 32),
    "swin": (tiny.swin, 32),
    "swin v2": (tiny.swin_v2, 32),
    "pvt": (tiny.pvt, 32),
    "cait": (tiny.cait_with_class_attention, 32),
    "cswin": (tiny.cswin, 64),
    "pruned": (tiny.dynamic_vit, 64),
}


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_the_same_to_the_bit(name):
    build, size = MODELS[name]
    clf, x = tiny.classifier(build(), size), tiny.images(2, size)
    plain = clf(x)
    for options in ({}, {"target": 1}):
        run = trace(clf, x, **options)
        assert torch.equal(run.logits, plain)
        assert not run.logits.requires_grad
        for found in run.attentions.values():
            assert (found.gradient is not None) == bool(options)
            assert not found.output.requires_grad
    assert torch.equal(clf(x), plain)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "cnn"])
def test_rows_sum_to_one_and_give_the_output(name):
    build, size = MODELS[name]
    run = trace(tiny.classifier(build(), size), tiny.images(2, size))
    for found in run.attentions.values():
        rows = found.weights()
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(found.weights(applied=True) @ found.value, found.output, rtol=1e-4, atol=1e-6)


def projections(module: nn.Module) -> dict[str, nn.Linear]:
    return {n: m.proj for n, m in module.named_modules() if hasattr(m, "proj") and n.endswith("attn")}


@pytest.mark.parametrize("build", [tiny.vit, tiny.swin, tiny.pvt])
@pytest.mark.parametrize("grad_mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_gradients_are_those_of_the_whole_model(build, grad_mode):
    """In whatever mode the caller is; against what autograd hands to the projection behind each operation."""
    clf, x = tiny.classifier(build()), tiny.images(2)
    read: dict[str, Tensor] = {}
    hooks = [
        m.register_forward_pre_hook(lambda m, args, n=n: read.__setitem__(n, args[0]))
        for n, m in projections(clf.module).items()
    ]
    score = clf.module(x)[:, 2].sum()
    expected = dict(zip(read, torch.autograd.grad(score, list(read.values())), strict=True))
    for hook in hooks:
        hook.remove()
    with grad_mode():
        run = trace(clf, x, target=2)
    assert len(run.attentions) == len(expected) > 1
    for name, found in run.attentions.items():
        written = found.outputs.index.expand(2, *found.output.shape[1:4:2])[0]  # (g, q)
        ours = found.gradient.transpose(2, 3).flatten(3)  # (b, g, q, a·d)
        theirs = expected[name]
        if theirs.shape[0] == 2:
            theirs = theirs.reshape(2, *written.shape, -1)
        else:  # (b · windows, n, c)
            theirs = theirs.unflatten(0, (2, -1))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)
    assert run.activation.shape[0] == 2
    assert run.gradient.any()


def test_layers_choose_what_is_kept():
    clf, x = tiny.classifier(tiny.vit(depth=3)), tiny.images(2)
    assert list(trace(clf, x, layers=["blocks.2.attn", "blocks.0.attn"]).attentions) == [
        "blocks.0.attn",
        "blocks.2.attn",
    ]
    assert list(trace(clf, x, layers="blocks.1.attn").attentions) == ["blocks.1.attn"]
    with pytest.raises(ValueError, match=r"no 'blocks.1.atn'. Near ones: blocks.1.attn"):
        trace(clf, x, layers=["blocks.1.atn"])
    with pytest.raises(ValueError, match="None was seen in it"):
        trace(tiny.classifier(tiny.CNN()), x, layers=["stem"])


def test_targets():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    predicted = clf(x).argmax(1)
    assert torch.equal(trace(clf, x).target, predicted)
    assert trace(clf, x, target=4).labels == ("tea", "tea")
    assert trace(clf, x, target="dog").target.tolist() == [2, 2]
    assert trace(clf, x, target=torch.tensor([4, 0])).labels == ("tea", "cat")
    gradient = {t: trace(clf, x, target=t).gradient for t in (0, 4)}
    each = trace(clf, x, target=torch.tensor([4, 0])).gradient
    torch.testing.assert_close(each, torch.stack([gradient[4][0], gradient[0][1]]))
    own = trace(clf, x, target=lambda logits: logits[:, 4] - logits[:, 0]).gradient
    torch.testing.assert_close(own, gradient[4] - gradient[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (5, ValueError, "from 0 to 4 is needed; got 5"),
        (-1, ValueError, "from 0 to 4 is needed; got -1"),
        ("coffe", ValueError, "got 'coffe'. Near ones: 'coffee'"),
        (torch.tensor([1, 2, 3]), ValueError, r"shape \(2,\); got \(3,\)"),
        (torch.tensor([0.5, 1]), TypeError, "float32"),
        ([1, 2], ValueError, "one class per photograph"),
        (1.5, TypeError, "got float"),
        (lambda logits: logits, ValueError, r"into scores \(b,\); it returned \(2, 5\)"),
        (lambda logits: 3.0, ValueError, "it returned float"),
    ],
)
def test_targets_that_are_none(target, error, message):
    with pytest.raises(error, match=message):
        trace(tiny.classifier(tiny.vit()), tiny.images(2), target=target)


def test_a_batch_needs_its_axis():
    with pytest.raises(ValueError, match=r"\(b, c, h, w\) .*got \(3, 32, 32\)"):
        trace(tiny.classifier(tiny.vit()), tiny.images(1)[0])


def test_dense_scores_of_a_head_at_every_patch():
    module = LVViT(24, 2, 3, num_classes=tiny.CLASSES, image_size=64)
    clf, x = tiny.classifier(module, 64), tiny.images(2, 64)
    said: list[Tensor] = []
    head = next(m for n, m in clf.module.named_modules() if isinstance(m, nn.Linear) and "aux" in n)
    hook = head.register_forward_hook(lambda m, args, out: said.append(out))
    clf(x)
    hook.remove()
    run = trace(clf, x)
    assert run.dense.shape[:2] == (2, tiny.CLASSES)
    torch.testing.assert_close(run.dense.flatten(2), said[0][:, -run.dense[0, 0].numel() :].transpose(1, 2))
    assert trace(tiny.classifier(tiny.vit()), tiny.images(2)).dense is None


def test_two_streams_are_seen():
    module = CrossVit(32, patch_size=(4, 8), num_classes=tiny.CLASSES, embed_dim=(12, 24), num_heads=(2, 2),
                      depth=((1, 1, 0), (1, 1, 0)))  # fmt: skip
    run = trace(tiny.classifier(module), tiny.images(2))
    assert len(run.attentions) == 8
    assert "two separate streams" in run.obstacle


# ---- ablation


def without_columns(module: nn.Module, name: str, heads: list[int], count: int) -> None:
    """By hand: the projection reads nothing of these heads."""
    weight = module.get_submodule(name).proj.weight
    width = weight.shape[1] // count
    with torch.no_grad():
        for head in heads:
            weight[:, head * width : (head + 1) * width] = 0


@pytest.mark.parametrize(
    ("build", "name", "heads", "count"),
    [
        (tiny.vit, "blocks.0.attn", [1], 3),
        (tiny.vit, "blocks.1.attn", [0, 2], 3),
        (tiny.swin, "layers.0.blocks.1.attn", [1], 2),
        (tiny.pvt, "stages.0.blocks.0.attn", [0], 2),
        (tiny.cait_with_class_attention, "blocks.1.attn", [2], 3),
    ],
)
def test_a_silent_head_is_a_head_whose_columns_are_zero(build, name, heads, count):
    clf, twin, x = tiny.classifier(build()), tiny.classifier(build()), tiny.images(2)
    before = clf(x)
    with ablate(clf, {name: heads}) as silenced:
        found = silenced(x)
    without_columns(twin.module, name, heads, count)
    torch.testing.assert_close(found, twin(x), rtol=1e-5, atol=1e-6)
    assert (found - before).abs().max() > 1e-3
    assert torch.equal(clf(x), before)


def test_several_operations_at_once_and_inside_each_other():
    clf, twin, x = tiny.classifier(tiny.vit()), tiny.classifier(tiny.vit()), tiny.images(2)
    without_columns(twin.module, "blocks.0.attn", [1], 3)
    without_columns(twin.module, "blocks.1.attn", [0], 3)
    with ablate(clf, {"blocks.0.attn": [1], "blocks.1.attn": [0]}):
        together = clf(x)
    with ablate(clf, {"blocks.0.attn": [1]}), ablate(clf, {"blocks.1.attn": [0]}):
        nested = clf(x)
    torch.testing.assert_close(together, twin(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(nested, together)


@pytest.mark.parametrize("studied", [False, True], ids=["never run before", "run before"])
@pytest.mark.parametrize("build", [tiny.vit, tiny.dynamic_vit])
def test_trace_inside_ablate(build, studied):
    size = 64 if build is tiny.dynamic_vit else 32
    clf, twin, x = tiny.classifier(build(), size), tiny.classifier(build(), size), tiny.images(2, size)
    name = "blocks.1.attn"
    whole = trace(twin, x, target=1)
    if studied:
        trace(clf, x)
    with ablate(clf, {name: [1]}):
        run = trace(clf, x, target=1)
    without_columns(twin.module, name, [1], 3)
    other = trace(twin, x, target=1)
    torch.testing.assert_close(run.logits, other.logits, rtol=1e-5, atol=1e-6)
    assert list(run.attentions) == list(whole.attentions)
    assert run.steps == whole.steps
    for found, expected in zip(run.attentions.values(), other.attentions.values(), strict=True):
        torch.testing.assert_close(found.weights(), expected.weights(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-3, atol=1e-7)
    assert torch.equal(trace(clf, x).logits, whole.logits)


@pytest.mark.parametrize(
    ("heads", "message"),
    [({"blocks.7.attn": [0]}, "no 'blocks.7.attn'"), ({"blocks.0.attn": [3]}, "heads 0 to 2; got 3")],
)
def test_heads_that_are_not_there(heads, message):
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    before = clf(x)
    with pytest.raises(ValueError, match=message), ablate(clf, heads):
        pytest.fail("told when the block is entered, not when the model is run")
    assert torch.equal(clf(x), before)


def test_heads_are_named_by_operation():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(1)
    with pytest.raises(TypeError, match=r"heads by operation are needed.*got list"), ablate(clf, ["blocks.0.attn"]):
        pass
    with ablate(clf, {"blocks.0.attn": 1}):
        one = clf(x)
    with ablate(clf, {"blocks.0.attn": [1]}):
        assert torch.equal(clf(x), one)


class Handwritten(nn.Module):
    """Attention with exp and a division in place of softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).mT
        shares = (tokens @ tokens.mT / 8).exp()
        return self.head((shares / shares.sum(-1, keepdim=True) @ tokens).mean(1))


def test_attention_that_cannot_be_seen_is_not_said_to_be_absent():
    clf, x = tiny.classifier(Handwritten()), tiny.images(1)
    told = r"no attention operation that was seen \(by its softmax or a fused function\)"
    for method in ("rollout", "attention"):
        with pytest.raises(RuntimeError, match=told):
            explain(clf, x, method)
    assert re.search(told, obstacles(clf, x)["attention"])


def test_ablation_ends_with_an_exception():
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    before = clf(x)
    with pytest.raises(ValueError, match="got 99"), ablate(clf, {"blocks.0.attn": [1]}):
        trace(clf, x, target=99)
    assert torch.equal(clf(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in clf.module.modules())


def test_a_gradient_flows_through_silenced_heads():
    """Ablation while training or attributing: the rest of the model keeps its graph."""
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2).requires_grad_()
    with ablate(clf, {"blocks.0.attn": [1]}):
        clf.module(x)[:, 0].sum().backward()
    assert x.grad.abs().max() > 0


def test_weights_loaded_later_are_seen():
    """A head that is zero when first run and trained afterwards: what was found out before must not stay."""
    clf, x = tiny.classifier(tiny.vit()), tiny.images(2)
    trained = {k: v.clone() for k, v in clf.module.state_dict().items()}
    nn.init.zeros_(clf.module.head.weight)
    with pytest.raises(RuntimeError, match="zero initialisation"):
        trace(clf, x, target=1)
    clf.module.load_state_dict(trained)
    assert trace(clf, x, target=1).gradient.any()
