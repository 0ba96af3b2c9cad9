"""FLOPs of a classifier, counted from the shapes of its operations and not by running them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry
from torch.utils.module_tracker import ModuleTracker

from vizlib.running import unchanged
from vizlib.types import Classifier

aten = torch.ops.aten
_PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm}


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one forward of one image, 2 for each multiply-accumulate.

    Attributes:
        total: all matrix products and convolutions; not norms, activations and pooling, as in the papers.
        attention: those in products of two tensors that both come from the image: q kᵀ and the weighted sum
            of v (or kᵀv and q (kᵀv) of linear attention), against products of the image with weights.
        modules: FLOPs inside each module, children included, by module path; "" is the whole model.
        attention_modules: those of `attention` inside each module, likewise; 0 where a path is missing.
        device: "meta" where no number was computed, else the device of a model that cannot run without.
    """

    total: int
    attention: int
    modules: dict[str, int]
    attention_modules: dict[str, int]
    device: str


def count(clf: Classifier, image_size: tuple[int, int] | None = None) -> Flops:
    """Count the FLOPs of one image, from shapes alone where the model can run on the meta device.

    Args:
        image_size: (h, w) in pixels, by default the classifier's own.

    Source: the conventions of torch.utils.flop_counter; attention is counted under the math backend, because
    fused kernels of some devices have no formula there.
    """
    clip = (clf.frames,) if clf.frames else ()
    shape = (1, *clip, clf.input_size[0], *(image_size or clf.input_size[1:]))
    try:
        return _count(on_meta(clf.module), torch.empty(shape, device="meta", dtype=clf.dtype))
    except (RuntimeError, TypeError):
        # A model that asks for a value (.item(), boolean masks), mixes in tensors of its own or cannot be
        # copied: it runs where it lives. What is wrong with the model itself is raised there.
        return _count(clf.module, torch.zeros(shape, device=clf.device, dtype=clf.dtype))


def on_meta(module: nn.Module) -> nn.Module:
    """A copy of the module whose weights have shapes and no numbers; tied weights stay tied."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in module.parameters()}
    memo |= {id(b): b.detach().to("meta") for b in module.buffers()}
    return copy.deepcopy(module, memo)


def _count(module: nn.Module, x: Tensor) -> Flops:
    running = ModuleTracker()
    between = _BetweenImageTensors(x, running)
    counter = FlopCounterMode(display=False)
    # Attention is written out as products: the counter has no formula for some fused kernels. The device as a
    # context puts tensors that the model makes there, and keeps Transformer layers off their fused fast path.
    # Inside `unchanged` no parameter asks for gradients, which the counter would hook, and fail on CaiT.
    with unchanged(module), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), x.device, running, counter, between:
        module(x)
    root = type(module).__name__
    modules = {name: sum(by_op.values()) for name, by_op in counter.get_flop_counts().items()}
    return Flops(
        counter.get_total_flops(),
        between.flops["Global"],
        _by_path(modules, root),
        _by_path(between.flops, root),
        x.device.type,
    )


def _by_path(counted: Mapping[str, int], root: str) -> dict[str, int]:
    """From the names of torch's module tracker, which begin with the class of the model, to module paths."""
    inside = {name: n for name, n in counted.items() if name == root or name.startswith(f"{root}.")}
    return {name.removeprefix(root).removeprefix("."): n for name, n in inside.items()}


class _BetweenImageTensors(TorchDispatchMode):
    """Counts the FLOPs of matrix products whose two factors both depend on the image, by module that is running."""

    def __init__(self, image: Tensor, running: ModuleTracker) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self._running = running
        _mark(image)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if any(map(_marked, tensors)):
            for t in tree_leaves(out):
                if isinstance(t, Tensor):
                    _mark(t)
        packet = func._overloadpacket
        if packet in _PRODUCTS and all(map(_marked, tensors[-2:])):  # the factors come after the summand
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
            self.flops.update(dict.fromkeys(self._running.parents, flops))
        return out


def _mark(tensor: Tensor) -> None:
    tensor._depends_on_image = True  # type: ignore[attr-defined]


def _marked(tensor: Tensor) -> bool:
    return hasattr(tensor, "_depends_on_image")
