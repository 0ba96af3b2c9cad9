"""The registry: sizes, names, errors, and checkpoints in every wrapping."""

import argparse
import math
import pickle
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vizlib.models.architectures.cswin import CSWin
from vizlib.models.architectures.registry import architectures, build, load_weights

# Counted by instantiating the authors' published code: parameters, and 10⁹ multiplications at 224 pixels.
AUTHORS = {
    "cswin_t": (22_320_552, 4.324),
    "cswin_s": (34_643_304, 6.801),
    "cswin_b": (77_382_184, 14.955),
    "t2t_vit_7": (4_310_222, 1.147),
    "t2t_vit_14": (21_545_550, 4.783),
    "t2t_vit_t_14": (21_541_070, 6.089),
    "lvvit_t": (8_534_720, 2.868),
    "lvvit_s": (26_151_824, 6.551),
    "dynamicvit_deit_s_07": (22_774_414, 2.981),
    "resnet18_cbam": (11_779_392, 1.815),
    "resnet50_cbam": (28_089_624, 4.096),
    "resnet18_bam": (11_712_503, 1.819),
    "resnet50_bam": (25_915_099, 4.171),
}
# The MobileViTv3 paper (arXiv 2209.15159): 10⁶ parameters.
PAPER = {"mobilevitv3_xxs": 1.25, "mobilevitv3_xs": 2.5, "mobilevitv3_s": 5.8}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval().requires_grad_(False)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", architectures())
def test_the_table_says_what_is_built(name):
    row, model = architectures()[name], on_meta(name)
    assert count(model) == row.parameters
    photo = torch.zeros(1, 3, row.input_size, row.input_size, device="meta")
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        assert model(photo).shape == (1, 1000)
    assert math.isclose(counter.get_total_flops() / 2e9, row.gmacs, rel_tol=0.02)


@pytest.mark.parametrize("name", AUTHORS)
def test_sizes_are_the_authors(name):
    parameters, gmacs = AUTHORS[name]
    row = architectures()[name]
    assert row.parameters == parameters
    assert math.isclose(row.gmacs, gmacs, rel_tol=0.02)


@pytest.mark.parametrize("name", PAPER)
def test_mobilevitv3_has_the_papers_size(name):
    assert round(architectures()[name].parameters / 1e6, 2 if PAPER[name] == 1.25 else 1) == PAPER[name]


def test_fixed_tables_of_t2t_are_not_trained():
    with torch.device("meta"):
        trained = sum(p.numel() for p in build("t2t_vit_7").parameters() if p.requires_grad)
    assert trained == 4_255_694  # the authors' published code


def test_unknown_name_names_near_ones():
    with pytest.raises(ValueError, match=r"got 'cswin-t'.*cswin_t"):
        build("cswin-t")


def test_options_reach_the_builder():
    assert build("resnet18_cbam", num_classes=7).fc.out_features == 7


def small() -> nn.Module:
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 1), bn=nn.BatchNorm2d(4)))


def drawn() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {k: torch.rand(v.shape, generator=draw) for k, v in small().state_dict().items() if v.ndim}


def assert_loaded(path) -> None:
    model = small()
    load_weights(model, path)
    for name, value in drawn().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("key", ["state_dict", "state_dict_ema", "model", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_wrapping_loads(tmp_path, key, prefix):
    state = {prefix + name: value for name, value in drawn().items()}
    arguments = argparse.Namespace(lr=0.1)  # what training scripts store beside the weights
    torch.save(state if key is None else {key: state, "epoch": 3, "args": arguments}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth")


def test_averaged_weights_come_first(tmp_path):
    plain = {name: value + 1 for name, value in drawn().items()}
    torch.save({"state_dict": plain, "state_dict_ema": drawn()}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth")


def test_safetensors_and_the_old_format_load(tmp_path):
    save_file(drawn(), tmp_path / "w.safetensors")
    assert_loaded(tmp_path / "w.safetensors")
    torch.save({"state_dict": drawn()}, tmp_path / "w.tar", _use_new_zipfile_serialization=False)
    assert_loaded(tmp_path / "w.tar")


def test_a_mismatch_names_the_first_differences(tmp_path):
    state = drawn()
    state["conv.weight"] = torch.zeros(5, 3, 1, 1)
    del state["bn.bias"]
    state["head.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "w.pth")
    model = small()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="these differ") as caught:
        load_weights(model, tmp_path / "w.pth")
    message = str(caught.value)
    assert "conv.weight is (5, 3, 1, 1), needed (4, 3, 1, 1)" in message
    assert "bn.bias (4,) is missing" in message
    assert "head.weight (2, 2) is not known" in message
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())  # nothing half loaded


def test_many_differences_are_cut_short(tmp_path):
    torch.save(drawn(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"stage1_conv_embed.0.weight .* is missing; .*; and \d+ more"):
        load_weights(CSWin(8, (1, 1, 1, 1), (2, 2, 2, 2)), tmp_path / "w.pth")


class Hostile:
    """Would make a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_file_is_not_run(tmp_path):
    trap = tmp_path / "trap"
    torch.save({"state_dict": drawn(), "more": Hostile(trap)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="a file of tensors is needed"):
        load_weights(small(), tmp_path / "w.pth")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps([1, 2], protocol=2)])
def test_broken_files_say_so(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.(pth|safetensors)"):
        load_weights(small(), tmp_path / name)


def test_missing_file_and_wrong_content_say_so(tmp_path):
    with pytest.raises(ValueError, match="a file of weights is needed"):
        load_weights(small(), tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds epoch"):
        load_weights(small(), tmp_path / "w.pth")
