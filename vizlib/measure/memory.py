"""Memory of one forward, and of what a backward pass would have to keep."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def weights(module: nn.Module) -> Iterable[Tensor]:
    """Parameters and buffers."""
    yield from module.parameters()
    yield from module.buffers()


def peak_bytes(module: nn.Module, x: Tensor) -> int:
    """Most bytes in use at a time during a forward: weights, input and the tensors alive between operations.

    On CUDA the allocator's own peak, workspaces of the kernels included. On other devices the storages that
    are alive after each operation are added up: what a kernel allocates and frees within itself (an im2col
    buffer) is not seen, and neither is the interpreter.
    """
    storages = [t.untyped_storage() for t in (*weights(module), x)]
    held = {storage._cdata: storage.nbytes() for storage in storages}
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
        before = torch.cuda.memory_allocated(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        with torch.no_grad():
            module(x)
        return sum(held.values()) + torch.cuda.max_memory_allocated(x.device) - before
    with torch.no_grad(), _LiveStorages((*weights(module), x)) as live:
        module(x)
    return sum(held.values()) + live.peak


class FusedAttention(TorchFunctionMode):
    """On the meta device, attention that holds no (n, n) matrix, as the fused kernels of processors and GPUs do.

    There torch writes attention out as two products and a softmax.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, _, value = args[:3]
        return query.new_empty(*query.shape[:-1], value.shape[-1])


def live_peak(run: Callable[[], object]) -> int:
    """Most bytes alive at a time of the tensors that operations inside `run` made, on any device."""
    with _LiveStorages(()) as live:
        run()
    return live.peak


class _LiveStorages(TorchDispatchMode):
    """Adds up the bytes of the storages that operations made and that are still alive."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = [t.untyped_storage() for t in known]  # views of these are nothing new
        self._alive: dict[int, Any] = {s._cdata: s for s in self._known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return

        def free(_: object) -> None:
            self.now -= size
            del self._alive[key]

        self.now += size
        self._alive[key] = weakref.ref(storage, free)


def kept_for_backward(module: nn.Module, x: Tensor) -> int:
    """Bytes of activations that autograd keeps between the forward and the backward of a training step.

    Every storage that is saved for the backward pass counts once, the input too; weights do not. Measured
    with the kernels of the device: fused attention keeps no (n, n) matrix. The module is in evaluation mode:
    dropout masks and the batch statistics of norms would come on top.
    """
    own = {t.untyped_storage().data_ptr() for t in weights(module)}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with _trainable(module), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = module(x)  # held: while the graph lives, no address is used twice
    del output
    return sum(saved.values())


@contextmanager
def _trainable(module: nn.Module) -> Iterator[None]:
    flags = [(p, p.requires_grad) for p in module.parameters() if p.is_floating_point()]
    try:
        for p, _ in flags:
            p.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
