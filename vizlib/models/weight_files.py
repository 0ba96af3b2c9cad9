"""Weights from a file, however they are wrapped, put into a module of the same names and shapes."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Put a checkpoint as its authors published it into a module.

    The names may stand alone or inside other entries (state_dict, model, net …), and carry a prefix ("module.",
    "_orig_mod." …). Of several sets that fit alike, averaged weights (…ema) are taken: they are the published ones.
    No code in the file is run.

    Args:
        module: with the names and shapes of the checkpoint.
        path: .safetensors, or what torch.save wrote (.pth, .pt, .bin, .tar).

    Raises:
        ValueError: the file is missing, is broken, needs code to be run, or belongs to another model; then the first
            names and shapes that differ are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"a file of weights is needed; {path} is none. Name a .safetensors or .pth file.")
    own = module.state_dict()
    state = _unwrap(_read(path), own, path)
    differing = _differences(own, state)
    if differing:
        shown = "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ValueError(
            f"{type(module).__name__} needs its own names and shapes; in {path.name} these differ: {shown}. "
            "Take the file made for this model, or build the model with its options (num_classes, …)."
        )
    module.load_state_dict(state, strict=False)  # only counters of batches can be missing here


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"a file of tensors is needed; {path.name} {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    """What is wrong with a file and what to do, in place of torch's advice to run whatever it holds."""
    foreign = re.search(r"GLOBAL (\S+) was not", str(error))
    if foreign:
        return f"also holds {foreign[1]}, and to read that would run its code. Save the model's state_dict() alone"
    if isinstance(error, SafetensorError):
        return f"is no whole safetensors file: {str(error).rstrip('.')}. Fetch it again"
    if isinstance(error, EOFError):
        return "is empty or cut off. Fetch it again"
    return "is cut off, or not written by torch.save. Fetch it again"


def _harmless() -> list[Any]:
    """What training scripts store beside the weights: arguments, paths, NumPy's numbers, by their names in the file."""
    makers: list[Any] = [thing.__reduce__()[0] for thing in (np.float64(0), np.zeros(1))]
    numbers = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"}
    paths = [
        (kind, f"{room}.{name}")
        for room in ("pathlib", "pathlib._local")
        for name, kind in (("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath))
    ]
    made = [(maker, f"numpy.{core}.multiarray.{maker.__name__}") for core in ("core", "_core") for maker in makers]
    return [argparse.Namespace, *paths, *made, np.ndarray, np.dtype, *numbers]


def _unwrap(found: Any, own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state dict in what a file held: of all in it the one that shares most names with the module's own."""
    states = [(_bare(state, own), "ema" in where) for where, state in _state_dicts(found)]
    if not states:
        keys = list(found) if isinstance(found, Mapping) else []
        what = ", ".join(map(str, keys[:5])) or type(found).__name__
        raise ValueError(
            f"names and tensors are needed, alone or under state_dict, model …; {path.name} holds {what}. "
            f"Save the model's state_dict() and load that."
        )
    return max(states, key=lambda state: (len(own.keys() & state[0].keys()), state[1]))[0]


def _state_dicts(found: Any, where: str = "", depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Everything in nested mappings that has names and tensors, and the keys that lead there."""
    if not isinstance(found, Mapping) or not depth:
        return
    state = {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if state:
        yield where, state
    for key, value in found.items():
        yield from _state_dicts(value, f"{where}.{key}", depth - 1)


def _bare(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the first words that all names share and the module's own names do not have."""
    first = {name.partition(".")[0] for name in state}
    word = f"{next(iter(first))}."
    if len(first) > 1 or any(name.startswith(word) for name in own) or not all(word in name for name in state):
        return state
    shorter = _bare({name.removeprefix(word): tensor for name, tensor in state.items()}, own)
    return shorter if own.keys() & shorter.keys() else state


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """What keeps a state dict from fitting; counters of batches, which old files lack, are no weights."""
    found = []
    for name, tensor in own.items():
        if name not in state:
            if not name.endswith("num_batches_tracked"):
                found.append(f"{name} {tuple(tensor.shape)} is missing")
        elif state[name].shape != tensor.shape:
            found.append(f"{name} is {tuple(state[name].shape)}, needed {tuple(tensor.shape)}")
    return found + [f"{name} {tuple(t.shape)} is not known" for name, t in state.items() if name not in own]
