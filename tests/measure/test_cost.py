"""Cost: toys counted by hand, published figures, and that a measured number means what it says."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vizlib.measure.cost import cost, growth, macs, params_of, ratios
from vizlib.measure.flops import count
from vizlib.measure.memory import kept_for_backward, peak_bytes
from vizlib.types import Classifier


def classifier(module: nn.Module, size: int = 8, channels: int = 3) -> Classifier:
    return Classifier(module, type(module).__name__, lambda photo: photo, (channels, size, size))


class Attend(nn.Module):
    """Tokens of `wide` numbers, one attention of `heads`, written out or fused, and a head."""

    def __init__(self, fused: bool, wide: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, wide, 2, 2)
        self.qkv = nn.Linear(wide, 3 * wide)
        self.head = nn.Linear(wide, 5)
        self.fused, self.heads = fused, heads

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(tokens).chunk(3, -1))
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.mT / 2).softmax(-1) @ v
        return self.head(mixed.transpose(1, 2).flatten(2).mean(1))


# MACs by hand: 16 tokens of 12 from patches of 3·2·2; q, k, v; q kᵀ and weights · v; 5 classes
ATTEND = {"embed": 16 * 12 * 12, "qkv": 16 * 12 * 36, "attention": 2 * 16 * 16 * 12, "head": 12 * 5}


@pytest.mark.parametrize("fused", [False, True])
def test_attention_counted_by_hand(fused: bool) -> None:
    flops = count(classifier(Attend(fused)))
    assert flops.total == 2 * sum(ATTEND.values())
    assert flops.attention == 2 * ATTEND["attention"]
    assert {k: v // 2 for k, v in flops.modules.items()} == {
        "": sum(ATTEND.values()),
        **{k: v for k, v in ATTEND.items() if k != "attention"},
    }
    assert flops.attention_modules == {"": flops.attention}
    assert flops.device == "meta"


def test_convolutions_counted_by_hand() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),  # 8·8 places · 8 · 3·9
        nn.Conv2d(8, 8, 3, 2, 1, groups=8),  # 4·4 places · 8 · 1·9
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    assert macs(classifier(module)) == 64 * 8 * 27 + 16 * 8 * 9 + 80
    assert params_of(module) == (8 * 27 + 8) + (8 * 9 + 8) + (80 + 10)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_the_fast_path_of_a_transformer_layer_is_counted(device: str) -> None:
    """In evaluation the whole layer is one fused operation without a formula."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    first = [nn.Identity() if device == "meta" else _Value(), nn.Conv2d(3, 8, 2, 2), nn.Flatten(2)]
    module = nn.Sequential(*first, _Transposed(), layer, _First())
    n, wide = 16, 8
    by_hand = n * 12 * wide + n * wide * 3 * wide + 2 * n * n * wide + n * wide * wide + 2 * n * wide * 16
    flops = count(classifier(module))
    assert (flops.total, flops.device) == (2 * by_hand, device)


class _Value(nn.Module):
    """Asks for a value, which the meta device does not have."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean().item()


class _Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mT


class _First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def test_linear_attention_is_attention_too() -> None:
    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            q = x.flatten(2).mT.relu()  # (b, n, c)
            return (q @ (q.mT @ q)).mean(1)

    flops = count(classifier(Linear()))
    assert flops.attention == flops.total == 2 * (2 * 64 * 3 * 3)


def test_attention_grows_with_the_square_of_the_tokens_or_with_windows_linearly() -> None:
    def vit(side: int) -> Classifier:
        with torch.device("meta"):
            return classifier(timm.create_model("vit_tiny_patch16_224", img_size=side, depth=2))

    def swin(side: int) -> Classifier:
        with torch.device("meta"):
            return classifier(
                timm.create_model("swin_tiny_patch4_window7_224", img_size=side, window_size=7, depths=(2, 2))
            )

    table = growth(vit, [224, 448, 1344])
    tokens = [1 + (side // 16) ** 2 for side in table["size"]]
    by_hand = [2 * 2 * n * n * 192 / 1e9 for n in tokens]
    assert table["attention_gmacs"].tolist() == pytest.approx(by_hand)
    assert table["attention_share"].is_monotonic_increasing
    windows = growth(swin, [224, 448])
    assert windows["attention_gmacs"][1] / windows["attention_gmacs"][0] == pytest.approx(4)


def test_a_model_that_needs_values_is_counted_where_it_lives() -> None:
    flops = count(classifier(nn.Sequential(_Value(), nn.Flatten(), nn.Linear(192, 7))))
    assert (flops.total, flops.device) == (2 * 192 * 7, "cpu")


def test_a_fault_of_the_model_is_not_swallowed() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        count(classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))))


def test_cost_of_a_small_model_and_nothing_left_behind() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5)).train()
    module[0].bias.requires_grad_(False)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    random = torch.get_rng_state()
    found = cost(classifier(module), batch=3, seconds=0.01)
    assert (found.params, found.batch, found.image_size) == (112 + 8 + 725, 3, (8, 8))
    assert found.flops == 2 * (36 * 4 * 27 + 720) == round(found.gmacs * 2e9)
    p10, median, p90 = found.latency_ms
    assert 0 < p10 <= median <= p90
    assert found.images_per_s == pytest.approx(3000 / median)
    assert found.attention_share == 0
    assert (found.device.split(",")[0], found.dtype) == ("cpu", "float32")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == [True, False, True, True, True, True]
    assert all(m.training for m in module.modules())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_modules_by_hand() -> None:
    """Each module with its children: parameters, MACs, its share, and attention's share in it."""
    module = nn.Sequential(Attend(fused=True), nn.LayerNorm(5), nn.ReLU())
    table = cost(classifier(module), seconds=0).modules.set_index("module")
    whole = sum(ATTEND.values())
    assert table.index.tolist() == ["", "0", "0.embed", "0.qkv", "0.head", "1"]  # ReLU has nothing that is counted
    assert table["depth"].tolist() == [0, 1, 2, 2, 2, 1]
    assert table["kind"].tolist() == ["Sequential", "Attend", "Conv2d", "Linear", "Linear", "LayerNorm"]
    assert table["params"].tolist() == [156 + 468 + 65 + 10, 156 + 468 + 65, 156, 468, 65, 10]
    by_hand = [whole, whole, ATTEND["embed"], ATTEND["qkv"], ATTEND["head"], 0]
    assert (1e9 * table["gmacs"]).tolist() == pytest.approx(by_hand)
    assert table["share"].tolist() == pytest.approx([n / whole for n in by_hand])
    attention = ATTEND["attention"] / whole
    assert table["attention_share"].tolist() == pytest.approx([attention, attention, 0, 0, 0, 0])


def test_a_cost_is_read_with_its_units() -> None:
    found = cost(classifier(Attend(fused=True)), batch=2, seconds=0)
    lines = str(found).splitlines()
    assert lines[0] == "Cost of Attend"
    assert lines[1].split() == ["parameters", "689"]
    assert "8 × 8 px: 1.542e-05 GMACs (3.084e-05 GFLOPs), 39.8% of them attention" in lines[2]
    assert re.search(
        r"latency +[\d.]+ ms for 2 images \(p10 [\d.]+, p90 [\d.]+\): .* images/s on cpu, \d+ threads?", lines[3]
    )
    assert "MB at the peak of a forward" in lines[4]
    html = found._repr_html_()
    assert "<th>parameters</th><td>689</td>" in html
    assert "<td>embed</td>" in html


def test_another_dtype_is_measured_on_a_copy() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 1000))
    single, half = (cost(classifier(module), dtype=d, seconds=0.01) for d in (None, "bfloat16"))
    assert half.dtype == "bfloat16"
    assert half.peak_mb == pytest.approx(single.peak_mb / 2)
    assert module[1].weight.dtype == torch.float32


def test_peak_memory_by_hand() -> None:
    """Weights, input and, at the widest place, one activation and its successor."""
    module = nn.Sequential(nn.Linear(10, 1000, bias=False), nn.ReLU(), nn.Linear(1000, 10, bias=False))
    x = torch.zeros(2, 10)
    weights, activation = 2 * 10 * 1000, 2 * 1000
    assert peak_bytes(module, x) == 4 * (weights + x.numel() + 2 * activation)


def test_peak_memory_counts_what_a_long_skip_keeps_alive() -> None:
    class Skip(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            a = x + 1
            b = (a * 2) * 3
            return (a + b).view(1, -1)  # a, b, the sum, and the input: the first product is gone

    assert peak_bytes(Skip(), torch.zeros(1, 100)) == 4 * 100 * 4


def test_activations_kept_for_backward_by_hand() -> None:
    """Linear keeps its input, ReLU its result, which the next Linear keeps as well: it counts once."""
    module = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 5))
    assert kept_for_backward(module, torch.zeros(2, 10)) == 4 * (2 * 10 + 2 * 30)


def test_fused_attention_keeps_no_matrix() -> None:
    x = torch.zeros(1, 3, 64, 64)
    written, fused = (kept_for_backward(Attend(f), x) for f in (False, True))
    assert written > 4 * 3 * 1024 * 1024 > 10 * fused  # one (heads, n, n) matrix of floats


def test_ratios_tell_the_larger_model() -> None:
    small, large = (nn.Sequential(nn.Flatten(), *[nn.Linear(192, 192) for _ in range(n)]) for n in (2, 40))
    table = ratios([classifier(small), classifier(large)], batch=64, rounds=9)
    assert table["ratio"][0] == 1
    assert table["ratio"][1] > 4
    assert table["p10"][1] <= table["ratio"][1] <= table["p90"][1]


@pytest.mark.parametrize(
    ("call", "needs"),
    [
        (lambda clf: cost(clf, batch=0), "at least 1 image, a whole number; got 0"),
        (lambda clf: cost(clf, batch=1.5), "a whole number; got 1.5"),
        (lambda clf: cost(clf, dtype=torch.int8), "floating-point dtype is needed; got torch.int8"),
        (lambda clf: cost(clf, dtype="int7"), "floating-point dtype is needed; got 'int7'"),
        (lambda clf: cost(clf, seconds=-1), "0 or more; got seconds=-1"),
        (lambda clf: cost(clf, seconds=float("nan")), "got seconds=nan"),
        (lambda clf: ratios([]), "0 classifiers"),
        (lambda clf: ratios([clf], rounds=0), "0 rounds"),
        (lambda clf: ratios([clf], batch=0), "ratios needs a batch of at least 1 image"),
    ],
)
def test_bad_arguments(call: object, needs: str) -> None:
    with pytest.raises(ValueError, match=needs):
        call(classifier(nn.Flatten()))  # type: ignore[operator]


@pytest.mark.parametrize("wrong", ["zoo/vit", nn.Flatten()])
def test_a_name_or_a_module_is_no_classifier(wrong: object) -> None:
    for ask in (cost, lambda model: ratios([model])):
        with pytest.raises(TypeError, match=r"needs a Classifier; got (str|Flatten). Use vl.load"):
            ask(wrong)  # type: ignore[operator]


@pytest.mark.gpu
def test_cost_on_cuda() -> None:
    module = timm.create_model("resnet18").cuda()
    found = cost(classifier(module, 224), batch=8, seconds=0.2)
    assert found.latency_ms[0] > 0
    assert found.peak_mb > 4 * found.params / 1e6
    assert found.device == torch.cuda.get_device_name()
