"""Attention operations and gates are found however they are written, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import tiny
import torch
import torch.nn.functional as F
from timm.layers import CecaModule, EcaModule, EffectiveSEModule, SelectiveKernel, SEModule
from timm.layers.cbam import CbamModule
from timm.layers.split_attn import SplitAttn
from timm.models.convit import ConVit
from timm.models.xcit import Xcit
from torch import Tensor, nn

from vizlib.attention import Attention
from vizlib.capture.trace import trace
from vizlib.types import Gate

HEADS, DIM = 3, 12


class OnTokens(nn.Module):
    """4 × 4 patches, a class token, one module on the tokens with a residual, a head on the class token."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Conv2d(3, DIM, 8, 8), inner, nn.Linear(DIM, tiny.CLASSES)
        self.token = nn.Parameter(torch.zeros(1, 1, DIM))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.head((tokens + self.inner(tokens))[:, 0])


Mix = Callable[["Attend", Tensor, Tensor, Tensor], Tensor]


class Attend(nn.Module):
    """Self-attention with the product written one way or another; the mix gets (b, a, n, d)."""

    def __init__(self, mix: Mix) -> None:
        super().__init__()
        self.mix = mix
        self.qkv, self.proj = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)
        self.drop = nn.Dropout(0.4)
        self.before, self.after = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)
        self.bias = nn.Parameter(torch.zeros(HEADS, 17, 17))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.mix(self, q, k, v).transpose(1, 2).flatten(2))


SCALE = (DIM // HEADS) ** -0.5


def fused(m, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, m.bias[None])


def matmul(m, q, k, v):
    return m.drop((q @ k.transpose(-2, -1) * SCALE + m.bias).softmax(-1)) @ v


def torch_matmul(m, q, k, v):
    return torch.matmul(torch.softmax(torch.matmul(q * SCALE, k.transpose(-2, -1)).add(m.bias), dim=-1), v)


def transposed(m, q, k, v):
    """v @ attnᵀ on (d, n), as in LeViT's convolutions."""
    q, k, v = (t.transpose(-2, -1) for t in (q, k, v))
    weights = ((q.transpose(-2, -1) @ k) * SCALE + m.bias).softmax(dim=-1)
    return (v @ weights.transpose(-2, -1)).transpose(-2, -1)


def einsum(m, q, k, v):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * SCALE + m.bias
    return torch.einsum("bhij,bhjd->bhid", F.softmax(scores, -1), v)


def einsum_other_order(m, q, k, v):
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * SCALE + m.bias
    return torch.einsum("bhjd,bhij->bihd", v, scores.softmax(-1)).transpose(1, 2)


def bmm(m, q, k, v):
    """(batch · heads, n, d)."""
    flat = [t.flatten(0, 1) for t in (q, k, v)]
    scores = torch.baddbmm(m.bias.repeat(len(q), 1, 1), flat[0], flat[1].transpose(1, 2), alpha=SCALE)
    return torch.bmm(scores.softmax(-1), flat[2]).unflatten(0, q.shape[:2])


def heads_first(m, q, k, v):
    """(heads · batch, n, d): the samples lie inside."""
    flat = [t.transpose(0, 1).flatten(0, 1) for t in (q, k, v)]
    scores = flat[0] @ flat[1].mT * SCALE + m.bias.repeat_interleave(len(q), 0)
    return (scores.softmax(-1) @ flat[2]).unflatten(0, (HEADS, len(q))).transpose(0, 1)


def by_hand(m, q, k, v):
    """Softmax as exp over its sum is left to the model's own names."""
    scores = q.matmul(k.mT).mul_(SCALE).add_(m.bias)
    return nn.Softmax(dim=3)(scores).matmul(v)


WRITTEN = [fused, matmul, torch_matmul, transposed, einsum, einsum_other_order, bmm, heads_first, by_hand]


def only(module: nn.Module, size: int = 32) -> Attention:
    """The single operation of a model; logits bit-identical, P·V what the model computed."""
    clf, x = tiny.classifier(module, size), tiny.images(2, size)
    run = trace(clf, x)
    assert torch.equal(run.logits, clf(x))
    (found,) = run.attentions.values()
    torch.testing.assert_close(found.weights(applied=True) @ found.value, found.output, rtol=1e-4, atol=1e-6)
    return found


@pytest.mark.parametrize("mix", WRITTEN)
def test_the_same_weights_however_it_is_written(mix):
    module = OnTokens(Attend(mix))
    found = only(module)
    assert (found.name, found.kind, found.shape) == ("inner", "spatial", (2, 1, HEADS, 17, 17))
    assert (found.keys.grid, found.keys.prefix, found.outputs.grid) == ((4, 4), 1, (4, 4))
    assert found.width == DIM
    with torch.no_grad():
        x, inner = tiny.images(2), module.inner
        tokens = torch.cat([module.token.expand(2, -1, -1), module.embed(x).flatten(2).transpose(1, 2)], 1)
        q, k, _ = inner.qkv(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        by_definition = (q @ k.mT / math.sqrt(DIM // HEADS) + inner.bias).softmax(-1)
    assert inner.bias.abs().max() > 0.1
    torch.testing.assert_close(found.weights()[:, 0], by_definition, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"attn_mask": torch.rand(17, 17, generator=torch.Generator().manual_seed(0)) > 0.3},
        {"attn_mask": torch.randn(HEADS, 17, 17, generator=torch.Generator().manual_seed(0))},
        {"is_causal": True},
        {"scale": 1.7},
    ],
    ids=["bool mask", "float mask", "causal", "scale"],
)
def test_every_option_of_fused_attention(options):
    found = only(OnTokens(Attend(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, **options))))
    rows = found.weights()
    torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
    if "is_causal" in options:
        assert not rows.triu(1).any()
    if options.get("attn_mask") is not None and options["attn_mask"].dtype == torch.bool:
        assert torch.equal((rows > 0)[0, 0, 0], options["attn_mask"])


def test_grouped_queries():
    def shared(m, q, k, v):
        return F.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)

    assert only(OnTokens(Attend(shared))).shape == (2, 1, HEADS, 17, 17)


def test_talking_heads_keep_the_softmax_and_what_was_applied():
    def talk(m, q, k, v):
        scores = m.before((q @ k.transpose(-2, -1) * SCALE).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return m.drop(m.after(scores.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)) @ v

    found = only(OnTokens(Attend(talk)))
    torch.testing.assert_close(found.weights().sum(-1), torch.ones(2, 1, HEADS, 17))
    assert (found.weights(applied=True).sum(-1) - 1).abs().max() > 0.1


class Pytorch(nn.Module):
    """nn.MultiheadAttention, handing its weights on when asked for."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attn, self.need_weights = nn.MultiheadAttention(DIM, HEADS, batch_first=True), need_weights
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        out, self.weights = self.attn(x, x, x, need_weights=self.need_weights)
        return out


@pytest.mark.parametrize("need_weights", [True, False])
def test_pytorchs_own_module(need_weights):
    module = OnTokens(Pytorch(need_weights))
    clf, x = tiny.classifier(module), tiny.images(2)
    fast = clf(x)
    run = trace(clf, x)
    torch.testing.assert_close(run.logits, fast, rtol=1e-3, atol=1e-6)  # its fast path is off while watched
    (found,) = run.attentions.values()
    assert (found.name, found.shape) == ("inner.attn", (2, 1, HEADS, 17, 17))
    assert (module.inner.weights is not None) == need_weights
    if need_weights:
        clf(x)
        torch.testing.assert_close(found.weights().mean((1, 2)), module.inner.weights, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.weights(applied=True) @ found.value, found.output, rtol=1e-4, atol=1e-6)


def test_pytorchs_encoder_with_its_fast_path():
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 24, batch_first=True, activation="gelu")
    clf, x = tiny.classifier(OnTokens(nn.TransformerEncoder(layer, 2))), tiny.images(2)
    run = trace(clf, x, target=1)
    torch.testing.assert_close(run.logits, clf(x), rtol=1e-3, atol=1e-6)
    assert list(run.attentions) == ["inner.layers.0.self_attn", "inner.layers.1.self_attn"]
    for found in run.attentions.values():
        assert found.shape == (2, 1, HEADS, 17, 17)
        assert found.gradient.any()
        torch.testing.assert_close(found.weights() @ found.value, found.output, rtol=1e-4, atol=1e-6)


class Twice(nn.Module):
    """Two operations in one module, the second on what the first made."""

    def forward(self, x: Tensor) -> Tensor:
        first = (x @ x.transpose(1, 2) / 4).softmax(-1) @ x
        return F.scaled_dot_product_attention(first, x, x)


def test_a_second_operation_in_a_module_is_numbered():
    clf = tiny.classifier(OnTokens(Twice()))
    run = trace(clf, tiny.images(2))
    assert list(run.attentions) == ["inner", "inner#1"]
    assert run.steps == (("inner",), ("inner#1",))


def test_convit_mixes_content_and_position():
    clf = tiny.classifier(ConVit(32, 8, num_classes=5, embed_dim=DIM, depth=2, num_heads=HEADS, local_up_to_layer=1))
    run, x = trace(clf, tiny.images(2)), tiny.images(2)
    assert torch.equal(run.logits, clf(x))
    first = run.attentions["blocks.0.attn"]
    assert first.keys.grid == (4, 4)
    assert torch.equal(first.weights(), first.weights(applied=True))  # the mix is what the model attends with
    torch.testing.assert_close(first.weights(applied=True) @ first.value, first.output, rtol=1e-4, atol=1e-6)


def test_channel_attention_is_called_what_it_is():
    module = Xcit(32, 8, num_classes=5, embed_dim=16, depth=1, num_heads=2, cls_attn_layers=1, eta=0.5)
    run = trace(tiny.classifier(module), tiny.images(2))
    kinds = {n: a.kind for n, a in run.attentions.items()}
    assert kinds["blocks.0.attn"] == "channel"
    assert kinds["cls_attn_blocks.0.attn"] == "spatial"


def test_a_softmax_that_is_no_attention():
    """Class probabilities, and a learned mixing matrix that no activation enters."""

    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.zeros(17, 17))

        def forward(self, x: Tensor) -> Tensor:
            return self.mix.softmax(-1) @ x

    class Probabilities(OnTokens):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).softmax(-1)

    run = trace(tiny.classifier(Probabilities(Mixer())), tiny.images(2))
    assert run.attentions == {}
    assert run.gates == {}


# ---- gates


class OnMaps(nn.Module):
    """8 × 8 maps of 16 channels, one module, mean, head."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Conv2d(3, 16, 4, 4), inner, nn.Linear(16, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.stem(x)).mean((2, 3)))


def gates(module: nn.Module) -> dict[str, Gate]:
    clf, x = tiny.classifier(OnMaps(module)), tiny.images(2)
    run = trace(clf, x)
    assert torch.equal(run.logits, clf(x))
    return run.gates


class Written(nn.Module):
    """x times a gate of the given function of x; `squeeze` mixes its channels."""

    def __init__(self, gated: Callable[[Written, Tensor], Tensor]) -> None:
        super().__init__()
        self.gated = gated
        self.squeeze, self.place = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.gated(self, x)


def pooled(m: Written, x: Tensor) -> Tensor:
    return m.squeeze(x.mean((2, 3), keepdim=True))


FOUND = {
    "SE": (SEModule(16, rd_channels=4), {"inner": ("channel", (2, 16, 1, 1), "sigmoid")}),
    "SE hard": (SEModule(16, rd_channels=4, gate_layer="hard_sigmoid"),
                {"inner": ("channel", (2, 16, 1, 1), "hard_sigmoid")}),
    "ECA": (EcaModule(16), {"inner": ("channel", (2, 16, 1, 1), "sigmoid")}),
    "CECA": (CecaModule(16), {"inner": ("channel", (2, 16, 1, 1), "sigmoid")}),
    "CBAM": (CbamModule(16, rd_channels=4), {"inner.channel": ("channel", (2, 16, 1, 1), "sigmoid"),
                                             "inner.spatial": ("spatial", (2, 1, 8, 8), "sigmoid")}),
    "ESE": (EffectiveSEModule(16), {"inner": ("channel", (2, 16, 1, 1), "hard_sigmoid")}),
    "1 + sigmoid (BAM)": (Written(lambda m, x: x * (1 + torch.sigmoid(pooled(m, x) + m.place(x)))),
                          {"inner": ("full", (2, 16, 8, 8), "sigmoid")}),
    "hard sigmoid written out": (Written(lambda m, x: x * (F.relu6(pooled(m, x) + 3) / 6)),
                                 {"inner": ("channel", (2, 16, 1, 1), "hard_sigmoid")}),
    "clamped": (Written(lambda m, x: x * (pooled(m, x) + 3).clamp(0, 6).div(6)),
                {"inner": ("channel", (2, 16, 1, 1), "hard_sigmoid")}),
    "in place": (Written(lambda m, x: x.mul_(pooled(m, x).sigmoid_())),
                 {"inner": ("channel", (2, 16, 1, 1), "sigmoid")}),
    "expanded": (Written(lambda m, x: x * pooled(m, x).sigmoid().expand_as(x)),
                 {"inner": ("channel", (2, 16, 1, 1), "sigmoid")}),
    "gate first": (Written(lambda m, x: m.place(x).sigmoid() * x), {"inner": ("spatial", (2, 1, 8, 8), "sigmoid")}),
    "coordinate attention": (
        Written(lambda m, x: x * m.squeeze(x.mean(3, True)).sigmoid() * m.squeeze(x.mean(2, True)).sigmoid()),
        {"inner": ("axis", (2, 16, 8, 1), "sigmoid"), "inner#1": ("axis", (2, 16, 1, 8), "sigmoid")}),
}  # fmt: skip


@pytest.mark.parametrize(("module", "expected"), FOUND.values(), ids=FOUND)
def test_gates(module, expected):
    found = gates(module)
    assert {n: (g.kind, tuple(g.values.shape), g.activation) for n, g in found.items()} == expected
    for gate in found.values():
        assert gate.values.std() > 1e-4


def test_the_values_of_a_gate():
    found = gates(Written(lambda m, x: x * torch.sigmoid(pooled(m, x))))["inner"]
    clf, x = tiny.classifier(OnMaps(Written(lambda m, x: x * torch.sigmoid(pooled(m, x))))), tiny.images(2)
    with torch.no_grad():
        expected = torch.sigmoid(pooled(clf.module.inner, clf.module.stem(x)))
    torch.testing.assert_close(found.values, expected)


def test_bam_keeps_the_one():
    found = gates(FOUND["1 + sigmoid (BAM)"][0])["inner"]
    assert (found.values > 1).all()


def test_channels_last_gates_are_turned():
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = x.permute(0, 2, 3, 1)
            return (x * self.squeeze(x.mean((1, 2), keepdim=True)).sigmoid()).permute(0, 3, 1, 2)

    (found,) = gates(ChannelsLast()).values()
    assert (found.kind, tuple(found.values.shape)) == ("channel", (2, 16, 1, 1))


@pytest.mark.parametrize("module", [SelectiveKernel(16, 16), SplitAttn(16, 16, radix=2)], ids=["SK", "split attention"])
def test_a_softmax_over_paths(module):
    (found,) = gates(module).values()
    assert (found.kind, found.activation) == ("path", "softmax")
    paths = next(d for d in range(1, found.values.ndim) if found.values.shape[d] == 2)
    torch.testing.assert_close(found.values.sum(paths), torch.ones_like(found.values.sum(paths)))


NO_GATE = {
    "SiLU": nn.SiLU(),
    "swish written out": Written(lambda m, x: x * torch.sigmoid(x)),
    "QuickGELU": Written(lambda m, x: x * torch.sigmoid(1.702 * x)),
    "hard swish written out": Written(lambda m, x: x * F.relu6(x + 3) / 6),
    "sigmoid as activation": Written(lambda m, x: m.squeeze(x).sigmoid() * 2),
    "a learned constant": Written(lambda m, x: x + m.squeeze.bias.sigmoid().view(1, -1, 1, 1)),
    "dropout": nn.Dropout(0.3),
}


@pytest.mark.parametrize("module", NO_GATE.values(), ids=NO_GATE)
def test_activation_functions_are_no_gates(module):
    assert gates(module) == {}


def test_glu_gates_everything():
    """x₁ · sigmoid(x₂) with another x₂ is a gate for every channel and place."""
    (found,) = gates(Written(lambda m, x: x * m.squeeze(x).sigmoid())).values()
    assert (found.kind, tuple(found.values.shape)) == ("full", (2, 16, 8, 8))
