"""Where in the image each element of each tensor comes from: cells carried beside the values, op by op.

A `PlaceMode` follows one forward below autograd. Every tensor that derives from the image carries a `Mark`: the cell of
the image each of its elements stands for, which attention operations it has been through, and whether it is a product
of two activations (the scores of an attention). `place_rules.py` says how each operation moves them. So windows,
shifts, grids, pooled keys, unfolds, prefix tokens and padding come out by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from vizlib.capture.cells import WIDTH
from vizlib.capture.place_copies import Mark, move
from vizlib.capture.place_rules import FROM_NOTHING, INDEXED, MOVES, NORMS, PRODUCTS, RULES, by_shape


class PlaceMode(TorchDispatchMode):
    """Carries marks through one forward; run it under no_grad (views under autograd can lose their identity)."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.data_dependent = False  # an index came from the image: places differ from photo to photo

    def start(self, image: Tensor) -> None:
        """Marks the model's input with its pixels: (b, c, h, w), or a clip (b, t, c, h, w) as a strip of t frames."""
        b, (h, w) = len(image), image.shape[-2:]
        t = image.shape[1] if image.ndim == 5 else 1
        cells = torch.empty(b, t, 1, h, w, WIDTH, device=image.device)
        rows = (torch.arange(t * h + 1, device=image.device, dtype=torch.float64) / (t * h)).float()
        columns = (torch.arange(w + 1, device=image.device, dtype=torch.float64) / w).float()
        cells[..., 0], cells[..., 2] = rows[:-1].view(t, 1, h, 1), -rows[1:].view(t, 1, h, 1)
        cells[..., 1], cells[..., 3] = columns[:-1], -columns[1:]
        cells[..., 4] = torch.arange(b, device=image.device).view(b, 1, 1, 1, 1)
        cells = cells if image.ndim == 5 else cells.squeeze(1)
        self.marks[image] = Mark(cells)

    def mark(self, tensor: Any) -> Mark | None:
        return self.marks.get(tensor) if isinstance(tensor, Tensor) else None

    def passed(self, tensor: Tensor, operation: int) -> None:
        """Notes that `tensor` is the result of an attention operation."""
        mark = self.mark(tensor)
        if mark is not None:
            self.marks[tensor] = replace(mark, past=mark.past | 1 << operation, product=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = list(_tensors(args, kwargs or {}))
        if any(t in self.marks for t in inputs):
            self._follow(func, args, kwargs or {}, inputs, out)
        return out

    def _follow(self, func: Any, args: Any, kwargs: Any, inputs: list[Tensor], out: Any) -> None:
        packet = func.overloadpacket
        outputs = [t for t in (out if isinstance(out, list | tuple) else [out]) if isinstance(t, Tensor)]
        marked = [(t, self.marks[t]) for t in inputs if t in self.marks]
        past = 0
        for _, mark in marked:
            past |= mark.past
        if packet in INDEXED and any(t in self.marks for t in _tensors(args[1:], {}) if not t.is_floating_point()):
            self.data_dependent = True
        if packet in FROM_NOTHING:
            return
        rule = RULES.get(packet)
        if rule is None and packet in INDEXED | MOVES:
            rule = move
        found = rule(self.mark, func, args, kwargs, outputs) if rule else None
        product = packet not in NORMS and any(m.product for _, m in marked)
        product |= packet in PRODUCTS and len(marked) > 1
        for i, tensor in enumerate(outputs):
            cells = found[i] if found is not None and i < len(found) else None
            if cells is None:
                cells = by_shape(marked, tensor.shape)
            self.marks[tensor] = Mark(cells, past, product)


def _tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors among the arguments of an operation, which are at most one list deep."""
    for arg in (*args, *kwargs.values()):
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from (t for t in arg if isinstance(t, Tensor))
