"""How the operations of ATen that only pick, repeat or reorder elements move the cells of their operands.

They do to the cells what they do to the values, and no more work than the cells change along a dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vizlib.capture.cells import NOWHERE, PADDED, WIDTH, align, along, settle

aten = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Mark:
    """What is known of a tensor that derives from the image.

    Attributes:
        cells: (*dims, 5) where each dim is the tensor's own, or 1 where the cells do not change along it.
        past: bit i is set if it derives from attention operation i.
        product: it is a product of two activations, element-wise changed at most.
    """

    cells: Tensor
    past: int = 0
    product: bool = False


MarkOf = Callable[[Any], Mark | None]
# (mark of a tensor, operation, its arguments, its results) -> cells of the results, or None for element-wise
Rule = Callable[[MarkOf, Any, Any, Any, list[Tensor]], "list[Tensor] | None"]


def _reshape(cells: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Cells of a reshaped tensor; dims that are split or joined are filled only where the cells change along them."""
    i = j = 0
    source: list[int] = []
    result: list[int] = []
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        n = m = 1
        while n != m or (i == first_i and j == first_j):
            if n <= m and i < len(old):
                n, i = n * old[i], i + 1
            elif j < len(new):
                m, j = m * new[j], j + 1
            else:
                n, i = n * old[i], i + 1
        flat = all(cells.shape[d] == 1 for d in range(first_i, i))
        source += [1] * (i - first_i) if flat else list(old[first_i:i])
        result += [1] * (j - first_j) if flat else list(new[first_j:j])
    return cells.expand(*source, WIDTH).reshape(*result, WIDTH)


def view(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mark_of(args[0])
    if mark is None or args[0].numel() == 0:
        return None
    return [_reshape(mark.cells, args[0].shape, outputs[0].shape)]


def move(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """Any operation that only picks, repeats or reorders elements: done to the cells as it was done to the values."""
    mark = mark_of(args[0])
    if mark is None:
        return None
    full = along(mark.cells, args[0].shape, _touched(func.overloadpacket, args, kwargs))
    parts = [func(full[..., i], *args[1:], **kwargs) for i in range(WIDTH)]
    if isinstance(parts[0], Tensor):
        return [settle(torch.stack(parts, -1))]
    return [settle(torch.stack(list(p), -1)) for p in zip(*parts, strict=True)]


def _touched(packet: Any, args: Any, kwargs: Any) -> Iterable[int]:
    """The dims along which a move acts; along the others the cells may stay as small as they are."""
    n = args[0].ndim
    found: Iterable[int] = range(n)
    if packet is aten.roll and len(args) > 2 and args[2]:
        found = args[2]
    elif packet is aten.index:
        found = [d for d, index in enumerate(args[1]) if index is not None]
    elif packet is aten.flip:
        found = args[1]
    elif packet in (aten.unfold, aten.index_select):
        found = [args[1]]
    elif packet in (aten.slice, aten.select, aten.unbind, aten.split, aten.split_with_sizes):
        found = [_dim(packet, args, kwargs)]
    elif packet is aten.repeat:
        found = [d for d in range(n) if args[1][len(args[1]) - n + d] != 1]
    elif packet in (aten.reflection_pad2d, aten.replication_pad2d):
        found = [n - 2, n - 1]
    return [d % max(n, 1) for d in found]


def _dim(packet: Any, args: Any, kwargs: Any) -> int:
    spot = 1 if packet in (aten.slice, aten.select, aten.unbind) else 2
    dim: int = kwargs.get("dim", args[spot] if len(args) > spot else 0)
    return dim


def permute(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mark_of(args[0])
    if mark is None:
        return None
    cells, n = mark.cells, args[0].ndim
    if func.overloadpacket is aten.permute:
        return [cells.permute(*[d % n for d in args[1]], n)]
    if n < 2:
        return [cells]
    d, e = (0, 1) if func.overloadpacket in (aten.t, aten.t_) else (args[1] % n, args[2] % n)
    return [cells.transpose(d, e)]


def expand(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mark_of(args[0])
    return None if mark is None else [align(mark.cells, outputs[0].ndim)]


def take(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """slice, select, narrow, unbind, split: cheap where the cells do not change along the dim."""
    mark = mark_of(args[0])
    if mark is None:
        return None
    packet = func.overloadpacket
    dim = _dim(packet, args, kwargs) % args[0].ndim
    if mark.cells.shape[dim] != 1:
        return move(mark_of, func, args, kwargs, outputs)
    cells = mark.cells.squeeze(dim) if packet in (aten.select, aten.unbind) else mark.cells
    return [cells] * len(outputs)


def cat(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    stacked = func.overloadpacket is aten.stack
    dim = (kwargs.get("dim", args[1] if len(args) > 1 else 0)) % outputs[0].ndim
    tensors = [t for t in args[0] if stacked or t.numel() or t.ndim > 1]
    parts = []
    for t in tensors:
        mark = mark_of(t)
        cells = torch.full((*[1] * t.ndim, WIDTH), NOWHERE, device=t.device) if mark is None else mark.cells
        sizes = list(cells.shape[:-1])
        if stacked:
            cells, sizes = cells.unsqueeze(dim), [*sizes[:dim], 1, *sizes[dim:]]
        else:
            sizes[dim] = t.shape[dim]
        parts.append(cells.expand(*sizes, WIDTH))
    common = [max(p.shape[d] for p in parts) for d in range(outputs[0].ndim)]
    parts = [p.expand(*[p.shape[d] if d == dim else common[d] for d in range(p.ndim - 1)], WIDTH) for p in parts]
    return [settle(torch.cat(parts, dim))]


def pad(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mark_of(args[0])
    if mark is None:
        return None
    n = args[0].ndim
    full = along(mark.cells, args[0].shape, range(n - len(args[1]) // 2, n))
    parts = [aten.constant_pad_nd(full[..., i], args[1], PADDED if i == 4 else NOWHERE) for i in range(WIDTH)]
    return [settle(torch.stack(parts, -1))]


def im2col(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mark_of(args[0])
    if mark is None:
        return None
    x = args[0]
    full = along(mark.cells, x.shape, [x.ndim - 2, x.ndim - 1])
    inside = func(torch.ones_like(full[..., 0]), *args[1:], **kwargs) > 0
    # im2col fills with 0; infinities are copied as they are
    parts = [func(full[..., i].contiguous(), *args[1:], **kwargs) for i in range(WIDTH)]
    fill = [PADDED if i == 4 else NOWHERE for i in range(WIDTH)]
    cells = torch.stack([torch.where(inside, p, f) for p, f in zip(parts, fill, strict=True)], -1)
    repeats = outputs[0].shape[-2] // cells.shape[-3]  # the channels, whose cells may be one for all
    return [cells.repeat(*[1] * (x.ndim - 3), repeats, 1, 1)]
