"""Mass carried back equals matrices multiplied forward: by hand, against loops in float64, and on overlapping grids."""

from __future__ import annotations

from dataclasses import replace

import pytest
import references
import tiny
import torch
from torch import Tensor

import vizlib.attention as attention_module
from vizlib.attention import Attention
from vizlib.capture.trace import trace
from vizlib.methods.rollout import chefer, gradient_rollout, rollout
from vizlib.tokens import PADDING, Tokens
from vizlib.types import Trace


def tokens(grid: tuple[int, int] | None, prefix: int, *groups: list[int]) -> Tokens:
    return Tokens(grid, prefix, torch.tensor([groups]))


def operation(
    name: str,
    softmax: Tensor,
    queries: Tokens,
    keys: Tokens,
    *,
    width: int = 4,
    matrix: Tensor | None = None,
    seed: int = 0,
) -> Attention:
    """An operation that is nothing but its matrix (b, g, a, q, k), with values and gradients drawn."""
    b, g, a, q, k = softmax.shape
    generator = torch.Generator().manual_seed(seed)
    value, pull = (torch.randn(b, g, a, n, 3, generator=generator, dtype=torch.float64) for n in (k, q))
    matrix = softmax if matrix is None else matrix
    return Attention(
        name,
        "spatial",
        queries,
        keys,
        queries,
        value,
        matrix @ value,
        width,
        softmax=softmax,
        matrix=matrix,
        gradient=pull,
    )


def rows(*shape: int, seed: int = 0) -> Tensor:
    """Rows that sum to 1, in float64."""
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).softmax(-1)


def run(*steps: tuple[Attention, ...], obstacle: str = "") -> Trace:
    b = len(steps[0][0].output)
    found = {a.name: a for step in steps for a in step}
    names = tuple(tuple(a.name for a in step) for step in steps)
    return Trace(torch.zeros(b, 3, 8, 8), torch.zeros(b, 3, 8, 8), torch.zeros(b, 5), torch.zeros(b), "toy",
                 attentions=found, steps=names, obstacle=obstacle)  # fmt: skip


# ---- plain ViT


@pytest.fixture(scope="module")
def vit_run() -> Trace:
    clf = tiny.classifier(tiny.vit(depth=3))
    return trace(clf, tiny.images(2), target=3)


def test_two_tokens_by_hand():
    """Two layers over a class token and one patch: R = (I + A₂)/2 · (I + A₁)/2, its first row."""
    first = torch.tensor([[[[[0.2, 0.8], [0.6, 0.4]]]]], dtype=torch.float64)
    second = torch.tensor([[[[[0.5, 0.5], [1.0, 0.0]]]]], dtype=torch.float64)
    where = tokens((1, 1), 1, [0, 1])
    done = run((operation("0", first, where, where),), (operation("1", second, where, where),))
    # row 0 of (I + A₂)/2 is (3/4, 1/4); times column 1 of (I + A₁)/2, which is (0.4, 0.7)
    assert rollout(done).item() == pytest.approx(0.75 * 0.4 + 0.25 * 0.7)
    assert rollout(done, residual=0).item() == pytest.approx(0.5 * 0.8 + 0.5 * 0.4)
    assert rollout(done, start_layer=1).item() == pytest.approx(0.25)


@pytest.mark.parametrize("residual", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("start_layer", [0, 2])
def test_rollout_equals_the_product_of_whole_matrices(vit_run, residual, start_layer):
    product = torch.eye(17).expand(2, 17, 17)
    for attention in list(vit_run.attentions.values())[start_layer:]:
        joint = attention.weights()[:, 0].mean(1)
        product = (residual * torch.eye(17) + (1 - residual) * joint) @ product
    found = rollout(vit_run, residual=residual, start_layer=start_layer)
    torch.testing.assert_close(found, product[:, 0, 1:].view(2, 4, 4), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("start", ["class", "mean", 0, (0.3, 0.9), "read"])
def test_start_tokens_are_rows_of_the_product(vit_run, start):
    product = torch.eye(17).expand(2, 17, 17)
    for attention in vit_run.attentions.values():
        product = (0.5 * torch.eye(17) + 0.5 * attention.weights()[:, 0].mean(1)) @ product
    row = {"mean": product[:, 1:].mean(1), (0.3, 0.9): product[:, 1 + 1 * 4 + 3]}.get(start, product[:, 0])
    torch.testing.assert_close(rollout(vit_run, start=start), row[:, 1:].view(2, 4, 4), atol=1e-5, rtol=1e-5)


def layers_of(done: Trace, photo: int, start_layer: int = 0) -> list[tuple[list, list]]:
    """Attention and relevance of each operation, made again with loops from q, k, dO and v."""
    return [
        references.attention_and_relevance(
            *(t[photo, 0] for t in (a.query, a.key)),
            a.scale,
            *(t[photo, 0] for t in (a.gradient, a.value)),
        )
        for a in list(done.attentions.values())[start_layer:]
    ]


JOINED = [{"fusion": "max"}, {"fusion": "min"}, {"discard": 0.5}, {"fusion": "max", "discard": 0.9}]


@pytest.mark.parametrize("options", [{}, {"residual": 0.3}, {"start_layer": 1}, *JOINED])
@pytest.mark.parametrize("method", [rollout, gradient_rollout, chefer])
def test_equals_the_twin(vit_run, method, options):
    if method is chefer and "residual" in options:
        options = {"start_layer": 2}
    own = {k: v for k, v in options.items() if k != "start_layer"}
    for photo in range(2):
        layers = layers_of(vit_run, photo, options.get("start_layer", 0))
        expected = getattr(references, method.__name__)(layers, **own)
        found = method(vit_run, **options)[photo].double().flatten()
        torch.testing.assert_close(found, expected[1:], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", [rollout, gradient_rollout, chefer])
def test_heads_are_joined_tile_by_tile_as_at_once(vit_run, method, monkeypatch):
    options = {"fusion": "max", "discard": 0.5, "start": "mean"}
    whole_rows = method(vit_run, **options)
    monkeypatch.setattr(attention_module, "FEW", 1)
    monkeypatch.setattr(attention_module, "TILE", 2 * 3 * 17 * 4)  # four rows of both photographs and three heads
    torch.testing.assert_close(method(vit_run, **options), whole_rows, atol=1e-7, rtol=1e-5)


def test_the_gradient_of_the_run_is_that_of_the_score(vit_run):
    """dO of every operation against autograd through the whole model, by the projection that reads it."""
    clf, x = tiny.classifier(tiny.vit(depth=3)), tiny.images(2)
    seen: list[Tensor] = []
    hook = clf.module.blocks[0].attn.proj.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    score = clf.module(x)[:, 3].sum()
    hook.remove()
    (pull,) = torch.autograd.grad(score, seen[0])
    found = vit_run.attentions["blocks.0.attn"].gradient[:, 0].transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, pull, atol=1e-6, rtol=1e-4)


# ---- grids, windows, pooled keys, branches: against whole matrices with explicit overlaps


def whole(attention: Attention, n: int, m: int, relevance: bool = False) -> Tensor:
    """The operation as one matrix (b, a, n, m) over all tokens; slots of one token share its row."""
    made = attention.relevance() if relevance else attention.weights()
    b, g, a, q, k = made.shape
    matrix = torch.zeros(b, a, n, m, dtype=torch.float64)
    queries, keys = attention.outputs.index.expand(b, g, q), attention.keys.index.expand(b, g, k)
    for photo in range(b):
        for group in range(g):
            for i, token in enumerate(queries[photo, group].tolist()):
                copies = int((queries[photo] == token).sum())
                for j, key in enumerate(keys[photo, group].tolist()):
                    if token != PADDING and key != PADDING:
                        matrix[photo, :, token, key] += made[photo, group, :, i, j] / copies
    return matrix


def overlap(source: tuple[int, int], target: tuple[int, int], prefix: int = 0) -> Tensor:
    """Share of each cell of `source` in each of `target`, (p + r·s, p + r'·s'), counted on a fine raster."""
    size = (source[0] * target[0], source[1] * target[1])
    moved = torch.zeros(source[0] * source[1], target[0] * target[1], dtype=torch.float64)
    for row in range(size[0]):
        for column in range(size[1]):
            old = row // target[0] * source[1] + column // target[1]
            moved[old, row // source[0] * target[1] + column // source[1]] += 1
    return torch.block_diag(torch.eye(prefix, dtype=torch.float64), moved / moved.sum(1, keepdim=True))


def windows(*, shifted: bool) -> tuple[Attention, ...]:
    """Windows of 2 × 2 on a grid of 4 × 4, batch 2."""
    where = torch.arange(16).view(4, 4).roll((-1, -1) if shifted else (0, 0), (0, 1))
    groups = where.view(2, 2, 2, 2).transpose(1, 2).reshape(4, 4).tolist()
    places = tokens((4, 4), 0, *groups)
    return (operation(f"shifted {shifted}", rows(2, 4, 2, 4, 4, seed=int(shifted)), places, places),)


@pytest.mark.parametrize("fusion", ["mean", "max"])
def test_windows_and_patch_merging(fusion):
    """Windows, shifted windows on 4 × 4, then all tokens on 2 × 2; mass returns from 2 × 2 to 4 × 4 by area."""
    coarse = tokens((2, 2), 0, [0, 1, 2, 3])
    last = (operation("merged", rows(2, 1, 2, 4, 4, seed=7), coarse, coarse),)
    done = run(windows(shifted=False), windows(shifted=True), last)

    def mixed(op: Attention, n: int) -> Tensor:
        heads = whole(op, n, n)
        joint = heads.mean(1) if fusion == "mean" else heads.amax(1)
        return 0.5 * torch.eye(n, dtype=torch.float64) + 0.5 * joint / joint.sum(-1, keepdim=True)

    first, second = (mixed(done.attentions[f"shifted {s}"], 16) for s in (False, True))
    product = mixed(last[0], 4) @ overlap((2, 2), (4, 4)) @ second @ first
    found = rollout(done, fusion=fusion)
    torch.testing.assert_close(found.double(), product.mean(1).view(2, 4, 4), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(2))


@pytest.mark.parametrize("method", [rollout, gradient_rollout, chefer])
def test_pooled_keys(method):
    """16 queries on 4 × 4 read 4 keys on 2 × 2: what goes to a key spreads over the cells it was pooled from."""
    fine, coarse = tokens((4, 4), 0, list(range(16))), tokens((2, 2), 0, [0, 1, 2, 3])
    op = operation("pooled", rows(2, 1, 3, 16, 4), fine, coarse)
    joint = whole(op, 16, 4, relevance=method is not rollout).mean(1) @ overlap((2, 2), (4, 4))
    eye = torch.eye(16, dtype=torch.float64)
    matrix = joint if method is chefer else 0.5 * eye + 0.5 * joint  # R - I after one step
    if method is gradient_rollout:
        matrix = 0.5 * joint / matrix.sum(-1, keepdim=True)
    found = method(run((op,)), start=(0.9, 0.3))
    torch.testing.assert_close(found.double(), matrix[:, 13].view(2, 4, 4), atol=1e-6, rtol=1e-5)


def test_gradient_rollout_of_a_mean_is_without_what_only_stayed():
    """Two layers under a head that averages: the product less the product of the diagonals that α alone makes."""
    where = tokens((2, 2), 0, [0, 1, 2, 3])
    ops = [operation(str(i), rows(2, 1, 2, 4, 4, seed=i), where, where, seed=i) for i in range(2)]
    eye = torch.eye(4, dtype=torch.float64)
    mixed = [0.3 * eye + 0.7 * whole(o, 4, 4, relevance=True).mean(1) for o in ops]
    sums = [m.sum(-1, keepdim=True) for m in mixed]
    product = (mixed[1] / sums[1]) @ (mixed[0] / sums[0])
    stayed = (0.3 * eye / sums[1]) @ (0.3 * eye / sums[0])
    found = gradient_rollout(run(*((o,) for o in ops)), residual=0.3)
    expected = (product - stayed).mean(1).view(2, 2, 2)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


def test_pooled_queries_return_to_their_own_grid():
    """A subsampling operation (LeViT): 4 queries on 2 × 2 read 16 keys; the stream before it is on 4 × 4."""
    fine, coarse = tokens((4, 4), 0, list(range(16))), tokens((2, 2), 0, [0, 1, 2, 3])
    op = operation("down", rows(2, 1, 2, 4, 16), coarse, fine)
    product = 0.5 * overlap((2, 2), (4, 4)) + 0.5 * whole(op, 4, 16).mean(1)
    found = rollout(run((op,)))
    torch.testing.assert_close(found.double(), product.mean(1).view(2, 4, 4), atol=1e-6, rtol=1e-5)


def test_grids_that_do_not_nest():
    """3 × 2 tokens of a non-square photograph after 4 × 5."""
    first, second = tokens((4, 5), 0, list(range(20))), tokens((3, 2), 0, list(range(6)))
    ops = (
        operation("a", rows(1, 1, 2, 20, 20), first, first),
        operation("b", rows(1, 1, 2, 6, 6, seed=1), second, second),
    )
    stay = [torch.eye(n, dtype=torch.float64) / 2 for n in (20, 6)]
    early, late = (s + whole(o, len(s), len(s)).mean(1) / 2 for s, o in zip(stay, ops, strict=True))
    product = late @ overlap((3, 2), (4, 5)) @ early
    found = rollout(run((ops[0],), (ops[1],)))
    torch.testing.assert_close(found.double(), product.mean(1).view(1, 4, 5), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", [rollout, chefer])
def test_side_by_side_operations_share_by_their_channels(method):
    """Stripes along rows write 8 of 12 channels, stripes along columns 4: one step of the weighted mean."""
    across = tokens((2, 3), 0, [0, 1, 2], [3, 4, 5])
    down = tokens((2, 3), 0, [0, 3], [1, 4], [2, 5])
    ops = (
        operation("across", rows(2, 2, 2, 3, 3), across, across, width=8),
        operation("down", rows(2, 3, 2, 2, 2, seed=1), down, down, width=4),
    )
    joint = sum(
        w * whole(o, 6, 6, relevance=method is chefer).mean(1) for w, o in zip((2 / 3, 1 / 3), ops, strict=True)
    )
    eye = torch.eye(6, dtype=torch.float64)
    matrix = joint if method is chefer else (eye + joint) / 2  # R - I after one step
    found = method(run(ops), start="mean")
    torch.testing.assert_close(found.double(), matrix.mean(1).view(2, 2, 3), atol=1e-6, rtol=1e-5)


def test_padding_takes_mass_out_of_the_picture():
    where = tokens((1, 3), 0, [0, 1], [2, PADDING])
    op = operation("padded", rows(1, 2, 1, 2, 2), where, where)
    found = rollout(run((op,)), start=(0.5, 0.9))[0, 0]
    kept = float(op.weights()[0, 1, 0, 0, 0])
    torch.testing.assert_close(found, torch.tensor([0, 0, 0.5 + 0.5 * kept]))


def test_dropped_patches_of_each_photograph():
    """Patches 0, 1 are left of the first, 1, 3 of the second; the layer before saw all four."""
    full = tokens((2, 2), 1, [0, 1, 2, 3, 4])
    left = Tokens((2, 2), 1, torch.tensor([[[0, 1, 2]], [[0, 2, 4]]]))
    ops = (
        operation("all", rows(2, 1, 2, 5, 5), full, full),
        operation("left", rows(2, 1, 2, 3, 3, seed=1), left, left),
    )
    stay = torch.eye(5, dtype=torch.float64) / 2
    early = stay + whole(ops[0], 5, 5).mean(1) / 2
    found = rollout(run((ops[0],), (ops[1],)), start="class")
    late = (stay + whole(ops[1], 5, 5).mean(1) / 2)[:, 0]
    torch.testing.assert_close(found.double(), (late[:, None] @ early)[:, 0, 1:].view(2, 2, 2), atol=1e-6, rtol=1e-5)


def test_class_attention_reads_patches_and_stays_itself():
    """The class token enters late (CaiT): its queries lie nowhere, its keys are it and the patches."""
    query, keys = Tokens(None, 1, torch.zeros(1, 1, 1, dtype=torch.long)), tokens((2, 2), 1, [0, 1, 2, 3, 4])
    patches = tokens((2, 2), 0, [0, 1, 2, 3])
    ops = [
        operation("patches", rows(2, 1, 2, 4, 4), patches, patches),
        operation("class.0", rows(2, 1, 2, 1, 5, seed=1), query, keys),
        operation("class.1", rows(2, 1, 2, 1, 5, seed=2), query, keys),
    ]
    eye = torch.eye(5, dtype=torch.float64).repeat(2, 1, 1)
    late = [eye.clone(), eye.clone()]
    for matrix, op in zip(late, ops[1:], strict=True):
        matrix[:, 0] = 0.5 * matrix[:, 0] + 0.5 * op.weights()[:, 0, :, 0].mean(1)
    early = torch.eye(4, dtype=torch.float64) / 2 + whole(ops[0], 4, 4).mean(1) / 2
    row = (late[1] @ late[0])[:, 0, 1:]
    found = rollout(run(*((o,) for o in ops)))
    torch.testing.assert_close(found.double(), (row[:, None] @ early)[:, 0].view(2, 2, 2), atol=1e-6, rtol=1e-5)


# ---- on models


MODELS = {
    "vit": (tiny.vit, 32),
    "registers": (lambda: tiny.vit(reg_tokens=3), 32),
    "distilled": (tiny.distilled, 32),
    "mean pooling": (lambda: tiny.vit(class_token=False, global_pool="avg"), 32),
    "non-square": (lambda: tiny.vit(img_size=(32, 48)), (32, 48)),
    "swin": (tiny.swin, 32),
    "swin non-square": (lambda: tiny.swin((32, 48)), (32, 48)),
    "pvt": (tiny.pvt, 32),
    "cait": (tiny.cait_with_class_attention, 32),
    "cswin": (tiny.cswin, 64),
    "pruned": (tiny.dynamic_vit, 64),
}


@pytest.fixture(scope="module", params=MODELS)
def model_run(request: pytest.FixtureRequest) -> tuple[object, Tensor, Trace]:
    build, size = MODELS[request.param]
    clf, x = tiny.classifier(build(), size), tiny.images(2, size)
    return clf, x, trace(clf, x, target=3)


def test_batch_equals_loop(model_run):
    clf, x, both = model_run
    for photo in range(2):
        alone = trace(clf, x[photo : photo + 1], target=3)
        for method in (rollout, gradient_rollout, chefer):
            torch.testing.assert_close(method(alone)[0], method(both)[photo], atol=1e-6, rtol=1e-4)


def test_no_mass_is_made(model_run):
    """All of it ends on the patches; where there are prefix tokens, some of it on those."""
    run = model_run[2]
    total = rollout(run).sum((1, 2))
    if any(a.keys.prefix for a in run.attentions.values()):
        assert ((total > 0.2) & (total < 1)).all()
    else:
        torch.testing.assert_close(total, torch.ones(2))


def test_the_grid_has_the_shape_of_the_photograph(model_run):
    h, w = model_run[1].shape[-2:]
    r, s = rollout(model_run[2]).shape[-2:]
    assert r * w == s * h
    assert r > 1


def test_uniform_attention_gives_a_uniform_map(model_run):
    """Every token reads all it can see alike, so that no patch stands out."""
    before = model_run[2]
    if before.kept:
        pytest.skip("patches were dropped: those get less")
    flat = {n: replace(a, softmax=torch.full(a.shape, 1 / a.shape[-1])) for n, a in before.attentions.items()}
    even = rollout(replace(before, attentions=flat))
    assert even.sum() > 0.2
    torch.testing.assert_close(even, even.mean((1, 2), keepdim=True).expand_as(even), rtol=1e-4, atol=1e-7)


def test_two_streams_are_refused():
    where = tokens((1, 2), 0, [0, 1])
    done = run(
        (operation("a", rows(1, 1, 1, 2, 2), where, where),),
        obstacle="its tokens run in two separate streams (a and b)",
    )
    for method in (rollout, gradient_rollout, chefer):
        with pytest.raises(RuntimeError, match=r"one stream of tokens; toy: .*two separate streams.*gradcam"):
            method(done)


def test_a_cnn_has_nothing_to_roll_out():
    clf = tiny.classifier(tiny.CNN())
    with pytest.raises(RuntimeError, match="no attention operation that was seen"):
        rollout(trace(clf, tiny.images()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": 1.0}, r"residual is a share in \[0, 1\)"),
        ({"discard": -0.1}, r"discard is a share in \[0, 1\)"),
        ({"fusion": "sum"}, "'mean', 'max' or 'min'; got 'sum'"),
        ({"discard": "half"}, r"discard is a share in \[0, 1\); got 'half'"),
        ({"start_layer": 3}, "start_layer is a number from 0 to 2"),
        ({"start_layer": 0.5}, "start_layer is a number from 0 to 2 .* got 0.5"),
        ({"start": "last"}, "got 'last'"),
        ({"start": 1}, "prefix token below 1"),
        ({"start": (40, 40)}, r"in \[0, 1\]"),
    ],
)
def test_wrong_options(vit_run, options, message):
    with pytest.raises(ValueError, match=message):
        rollout(vit_run, **options)


def test_a_run_of_some_layers_is_refused():
    clf = tiny.classifier(tiny.vit())
    with pytest.raises(ValueError, match=r"all attention operations.*blocks.0.attn.*layers"):
        rollout(trace(clf, tiny.images(), layers=["blocks.1.attn"]))


def test_relevance_needs_gradients():
    clf = tiny.classifier(tiny.vit())
    with pytest.raises(RuntimeError, match="traced without"):
        chefer(trace(clf, tiny.images()))


def test_a_start_point_that_was_dropped_is_refused():
    left = Tokens((2, 2), 0, torch.tensor([[[0, 1]], [[0, 3]]]))
    done = run((operation("left", rows(2, 1, 1, 2, 2), left, left),))
    assert rollout(done, start=(0.1, 0.1)).sum() > 0
    with pytest.raises(ValueError, match=r"photograph 0"):
        rollout(done, start=(0.9, 0.9))
