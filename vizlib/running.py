"""Running somebody else's model and leaving it as it was found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def modules_of(module: nn.Module) -> list[nn.Module]:
    """All modules of a model, each once; `modules()` takes several times as long, because it also names them."""
    found: dict[int, nn.Module] = {}
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if id(one) not in found:
            found[id(one)] = one
            waiting.extend(child for child in one._modules.values() if child is not None)
    return list(found.values())


@contextmanager
def unchanged(module: nn.Module, *, seed: int | None = None) -> Iterator[None]:
    """Evaluation mode inside; afterwards every train/eval flag, requires_grad flag and the random state are as before.

    Parameters record no gradient inside: an explanation asks for gradients of activations only, and a graph that
    leads to the parameters would keep every layer's input alive.

    Args:
        seed: what random numbers a model draws during the run are drawn from this seed (None: from the current state).
    """
    # one walk over the modules: parameters() and buffers() would each walk again and name what they find
    modes = [(m, m.training) for m in modules_of(module)]
    parameters = {p for m, _ in modes for p in m._parameters.values() if p is not None}
    frozen = [p for p in parameters if p.requires_grad]
    buffers = {t for m, _ in modes for t in m._buffers.values() if t is not None}
    devices = {t.device for t in parameters | buffers if t.is_cuda}
    with _recordable(), _same_random_state(), torch.random.fork_rng(devices=sorted(d.index or 0 for d in devices)):
        if seed is not None:
            torch.manual_seed(seed)
        try:
            for m, training in modes:
                if training:  # set the flag itself: .train() would also run a module's own override
                    m.training = False
            for p in frozen:
                p.requires_grad_(False)
            yield
        finally:
            for m, training in modes:
                if m.training != training:  # to set it takes far longer than to look
                    m.training = training
            for p in frozen:
                p.requires_grad_(True)


@contextmanager
def _recordable() -> Iterator[None]:
    """Out of the caller's inference mode, whose tensors can take no gradient."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def _same_random_state() -> Iterator[None]:
    """A model may also draw from Python's and NumPy's generators."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state is everyone's
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def logits_of(output: Any) -> Tensor:
    """The logits (b, classes) in what a classifier returned: a tensor, `.logits`, `["logits"]` or the first of a tuple.

    Raises:
        TypeError: no logits are found there.
    """
    found = output
    if isinstance(found, dict):
        found = found.get("logits", next(iter(found.values()), None))
    elif hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, list | tuple) and found:
        found = found[0]
    if isinstance(found, Tensor) and found.ndim == 2:
        return found
    shape = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else type(output).__name__
    raise TypeError(
        f"a classifier must return logits of shape (b, classes); this one returned {shape}. "
        f"Wrap it in a module whose forward returns the logits."
    )
