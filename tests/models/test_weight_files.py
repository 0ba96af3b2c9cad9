"""Checkpoints in every wrapping, and plain words for what is none."""

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vizlib.models.architectures.cswin import CSWin
from vizlib.models.weight_files import load_weights


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


@pytest.mark.parametrize("key", ["state_dict", "state_dict_ema", "model", "net", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_every_wrapping_loads(tmp_path, key, prefix):
    state = {prefix + name: value for name, value in drawn().items()}
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "w.pth")
    assert_loaded(tmp_path / "w.pth")


def test_what_training_scripts_store_beside_the_weights_is_read(tmp_path):
    arguments = argparse.Namespace(lr=0.1, output_dir=Path("runs"), best=np.float64(0.9))
    moments = {0: {"exp_avg": torch.zeros(4), "step": 3}}
    beside = {
        "mean": np.array([0.4, 0.5]),
        "args": arguments,
        "top1": np.float32(81.5),
        "epoch": np.int64(3),
        "optimizer": {"state": moments},
    }
    torch.save(beside | {"checkpoint": {"model": drawn()}}, tmp_path / "w.pth")
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
    told = r"^a file of tensors is needed; w\.pth also holds \S*open, and to read that would run its code\. Save .*\.$"
    with pytest.raises(ValueError, match=told):
        load_weights(small(), tmp_path / "w.pth")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps([1, 2], protocol=2)])
def test_broken_files_say_so(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.(pth|safetensors) is .*Fetch it again\.$") as caught:
        load_weights(small(), tmp_path / name)
    assert "weights_only" not in str(caught.value)


def test_missing_file_and_wrong_content_say_so(tmp_path):
    with pytest.raises(ValueError, match="a file of weights is needed"):
        load_weights(small(), tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    with pytest.raises(ValueError, match="holds epoch"):
        load_weights(small(), tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"w\.pth is cut off, or not written by torch\.save\. Fetch it again\.$"):
        load_weights(small(), tmp_path / "w.pth")
