"""Attention that makes no (n, n) matrix: found however it is written, and the matrix that it implies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from timm.models.efficientvit_mit import LiteMLA
from torch import Tensor, nn

from vizlib.capture.trace import ablate, record, trace
from vizlib.measure.heads import heads
from vizlib.methods.rollout import chefer, rollout
from vizlib.models.architectures.efficient_vit import vit_linformer, vit_performer
from vizlib.models.architectures.t2t_vit import T2TViT
from vizlib.show.hover import drawable
from vizlib.types import Trace

DIM, HEADS = 12, 3
SMALL = {"dim": 24, "depth": 2, "heads": 3, "image_size": 48, "num_classes": tiny.CLASSES}  # 3 × 3 patches of 16


class OnTokens(nn.Module):
    """4 × 4 patches and a class token, through one way to write φ(q) (φ(k)ᵀ v), with the residual."""

    def __init__(self, write: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.write = write
        self.embed, self.qkv = nn.Conv2d(3, DIM, 8, 8), nn.Linear(DIM, 3 * DIM)
        self.token, self.head = nn.Parameter(torch.zeros(1, 1, DIM)), nn.Linear(DIM, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # (b, a, n, d)
        return self.head((x + self.write(q, k, v).transpose(1, 2).flatten(2))[:, 0])


def phi(x: Tensor) -> Tensor:
    return nn.functional.elu(x) + 1


def matmul(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = phi(q), phi(k)
    return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(2).unsqueeze(-1) + 1e-8)


def turned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = phi(q).mT, phi(k).mT  # (b, a, d, n)
    return ((v.mT @ k.mT) @ q / (k.sum(-1).unsqueeze(-2) @ q + 1e-8)).mT


def einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = phi(q), phi(k)
    summary = torch.einsum("bhnd,bhne->bhde", k, v)
    norm = torch.einsum("bhnd,bhd->bhn", q, k.sum(2)) + 1e-8
    return torch.einsum("bhnd,bhde->bhne", q, summary) / norm[..., None]


def einsum_turned(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = phi(q), phi(k)
    summary = torch.einsum("bhnd,bhne->bhed", k, v)
    return torch.einsum("bhnd,bhed->bhne", q, summary) / (q @ k.sum(2).unsqueeze(-1) + 1e-8)


def with_ones(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The sums as one more channel of the values."""
    v = nn.functional.pad(v, (0, 1), value=1.0)
    out = phi(q) @ (phi(k).mT @ v)
    return out[..., :-1] / (out[..., -1:] + 1e-8)


def of_softmaxes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Shen et al. 2018: features normalised each by itself."""
    return q.softmax(-1) @ (k.softmax(-2).mT @ v)


WAYS = [matmul, turned, einsum, einsum_turned, with_ones, of_softmaxes]


def implied(operation: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, d: int) -> Tensor:
    """The matrix of any operation that is linear in its values, in float64: column j answers to the values e_j."""
    n = k.shape[2]
    columns = []
    for j in range(n):
        v = torch.zeros(*k.shape[:2], n, d, dtype=torch.float64)
        v[:, :, j] = 1
        columns.append(operation(q.double(), k.double(), v)[..., :1])
    return torch.cat(columns, -1)


def run(module: nn.Module, size: int = 32, **options: object) -> Trace:
    return trace(tiny.classifier(module, size), tiny.images(2, size), **options)


def linear(seen: Trace) -> list[str]:
    return [name for name, op in seen.attentions.items() if op.kind == "linear" and op.inner is not None]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_found_however_it_is_written_with_the_matrix_that_it_implies(way):
    module = OnTokens(way)
    kept: list[Tensor] = []
    module.write = lambda *qkv: kept.extend(qkv) or way(*qkv)
    seen = run(module)
    op = seen.attentions[linear(seen)[0]]
    module(seen.input)
    q, k, v = kept[-3:]
    matrix = implied(way, q, k, DIM // HEADS)
    assert (op.keys.grid, op.keys.prefix, op.heads, op.signed) == ((4, 4), 1, HEADS, False)
    torch.testing.assert_close(op.weights()[:, 0].double(), matrix, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(op.value[:, 0, ..., : v.shape[-1]], v)
    torch.testing.assert_close(op.weights(applied=True) @ op.value, op.output, atol=1e-5, rtol=1e-4)


def test_the_implied_matrices_of_performers_are_their_own():
    for module in (vit_performer(features=16, **SMALL), vit_linformer(projected=6, **SMALL)):
        seen = run(module, 48)
        assert len(linear(seen)) == len(seen.attentions) == 2
        for layer, op in enumerate(seen.attentions.values()):
            own = module.implied_matrix(seen.input, layer)
            torch.testing.assert_close(op.weights()[:, 0], own, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(op.weights(slice(2, 4)), op.weights()[..., 2:4, :])
            assert op.heatmap(query=(0.5, 0.9), head=1).values.shape == (2, 3, 3)


def test_half_precision_implies_nearly_the_same():
    module = vit_performer(features=16, **SMALL)
    exact = run(module, 48)
    half = trace(tiny.classifier(module.to(torch.bfloat16), 48), exact.input.bfloat16())
    for name, op in half.attentions.items():
        torch.testing.assert_close(op.weights().float(), exact.attentions[name].weights(), atol=0.05, rtol=0.1)
        assert op.carry(torch.ones(2, 1, 10)).sum() == pytest.approx(2 * 3 * 10, rel=1e-2)


def test_the_token_blocks_of_t2t_are_linear_and_the_backbone_is_not():
    seen = run(T2TViT(16, 2, 2, 2.0, num_classes=tiny.CLASSES, image_size=32))
    kinds = {name: (op.kind, op.keys.grid) for name, op in seen.attentions.items()}
    assert list(kinds.values()) == [("linear", (8, 8)), ("linear", (4, 4)), ("spatial", (2, 2)), ("spatial", (2, 2))]


class Lite(nn.Module):
    """EfficientViT's attention over 4 × 4 cells at two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attend = nn.Conv2d(3, 16, 8, 8), LiteMLA(16, 16, dim=8)
        self.head = nn.Linear(16, tiny.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attend(x)).mean((2, 3)))


def test_efficientvits_attention_against_loops():
    seen = run(Lite())
    op = seen.attentions[linear(seen)[0]]
    assert op.keys.grid == (4, 4)
    weights = op.weights()[:, 0]
    features_q, features_k = op.matrix[:, 0].double(), op.inner[:, 0].double()
    b, a, n, m = features_q.shape
    for photo in range(b):
        for head in range(a):
            for i in range(n):
                products = [
                    sum(features_q[photo, head, i, f] * features_k[photo, head, f, j] for f in range(m))
                    for j in range(n)
                ]
                row = torch.stack(products) / sum(products).clamp(min=1e-30)
                torch.testing.assert_close(weights[photo, head, i].double(), row, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", [matmul, einsum_turned])
def test_mass_is_carried_in_linear_time_as_by_the_matrix(way):
    seen = run(OnTokens(way))
    op = next(iter(seen.attentions.values()))
    mass = torch.rand(2, 1, 17)
    want = torch.einsum("bgq,bgaqk->bgak", mass, op.weights())
    torch.testing.assert_close(op.carry(mass), want)
    torch.testing.assert_close(op.carry(mass).sum(-1), mass.sum(-1)[..., None].expand(-1, -1, HEADS))


def test_rollout_and_relevance_go_through_it():
    clf, x = tiny.classifier(OnTokens(matmul)), tiny.images(2)
    seen = record(clf, x, target=1, gradients=True, start=True)
    op = next(iter(seen.attentions.values()))
    row = op.weights()[:, 0, :, 0].mean(1)  # of the class token, which the head reads
    torch.testing.assert_close(rollout(seen), 0.5 * row[:, 1:].unflatten(1, (4, 4)), atol=1e-6, rtol=1e-4)
    weights = op.weights()[:, 0].detach().clone().requires_grad_()
    value, module = op.value[:, 0], clf.module
    tokens = module.embed(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([module.token.expand(2, -1, -1), tokens], 1)
    logits = module.head((tokens + (weights @ value).transpose(1, 2).flatten(2))[:, 0])
    gradient = torch.autograd.grad(logits[:, 1].sum(), weights)[0]  # with the sums held, as of a softmax
    want = (gradient * weights).relu()[:, :, 0].mean(1)[:, 1:].unflatten(1, (4, 4))
    torch.testing.assert_close(chefer(seen), want.detach(), atol=1e-6, rtol=1e-4)
    lean = record(clf, x, target=1, lean=True, start=True)
    torch.testing.assert_close(rollout(lean), rollout(seen))


def test_hovering_and_the_measures_of_heads_see_shares_alone():
    seen = run(OnTokens(matmul))
    assert [op.name for op in drawable(seen)] == linear(seen)
    table, weights = heads(seen), next(iter(seen.attentions.values())).weights()[:, 0]
    entropy = torch.special.entr(weights[:, :, 1:].double()).sum(-1).mean((0, 2))  # of the patches' rows
    torch.testing.assert_close(torch.tensor(table["entropy"].to_numpy()), entropy)
    with pytest.raises(ValueError, match="has linear"):
        drawable(run(vit_linformer(projected=6, **SMALL), 48))


def test_weights_below_zero_carry_no_mass():
    seen = run(vit_linformer(projected=6, **SMALL), 48)
    assert all(op.signed for op in seen.attentions.values())
    with pytest.raises(RuntimeError, match=r"blocks\.0\.attn\.attend is linear attention that implies weights below"):
        rollout(seen)


def test_watching_changes_no_logit_and_heads_can_be_silenced():
    clf, x = tiny.classifier(OnTokens(turned)), tiny.images(2)
    plain = clf(x)
    seen = trace(clf, x, target=0)
    assert torch.equal(seen.logits, plain)
    name = next(iter(seen.attentions))
    with ablate(clf, {name: [1]}):
        silent = clf(x)
    kept = clf.module.write
    clf.module.write = lambda q, k, v: kept(q, k, v) * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    torch.testing.assert_close(silent, clf(x))
    assert not torch.allclose(silent, plain)


def test_a_query_that_matches_no_key_has_a_row_of_zeros():
    def closed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = torch.where(torch.arange(17)[:, None] == 3, 0.0, phi(q))
        return matmul_of(q, phi(k), v)

    def matmul_of(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return q @ (k.mT @ v) / (q @ k.sum(2).unsqueeze(-1) + 1e-8)

    op = next(iter(run(OnTokens(closed)).attentions.values()))
    sums = op.weights().sum(-1)
    assert (sums[..., 3] == 0).all()
    torch.testing.assert_close(sums[..., 4:], torch.ones_like(sums[..., 4:]))
    carried = op.carry(torch.ones(2, 1, 17))
    torch.testing.assert_close(carried.sum(-1), torch.full((2, 1, HEADS), 16.0))


def twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT).softmax(-1)
    return weights @ (weights @ v)


def test_attention_to_what_attention_gave_is_two_operations():
    """The values are a product of their own, but they have places."""
    seen = run(OnTokens(twice))
    assert [op.kind for op in seen.attentions.values()] == ["spatial", "spatial"]
    assert all(op.inner is None for op in seen.attentions.values())


def no_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two products in a row in which no sum runs over places."""
    return q @ (torch.eye(DIM // HEADS).expand(len(q), HEADS, -1, -1) @ torch.ones(DIM // HEADS, DIM // HEADS)) + v


def bent(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Not linear in the values: no matrix is implied."""
    return q @ (k.mT @ v).tanh()


def in_place(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    summary = k.mT @ v
    summary *= 3
    return q @ summary


@pytest.mark.parametrize("way", [no_values, bent, in_place], ids=lambda way: way.__name__)
def test_what_is_not_the_product_of_its_factors_is_not_taken_for_it(way):
    assert not linear(run(OnTokens(way)))
