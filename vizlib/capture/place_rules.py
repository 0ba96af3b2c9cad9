"""How each operation of ATen moves the cells of its operands to its results.

View and copy operations move the cells as they move the values (`place_copies.py`); convolutions and pooling join
neighbouring cells into larger ones; products keep the cells of the side that they do not sum over. What stands in no
table is element-wise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vizlib.capture.cells import WIDTH, align, hull, join
from vizlib.capture.place_copies import Mark, MarkOf, Rule, aten, cat, expand, im2col, pad, permute, take, view


def by_shape(marked: Sequence[tuple[Tensor, Mark]], shape: torch.Size) -> Tensor:
    """Element-wise where the operands broadcast to the result; else equal dims are kept and the others joined."""
    parts = []
    for tensor, mark in marked:
        cells = mark.cells
        if tensor.ndim > len(shape):
            cells = hull(cells, range(tensor.ndim)).reshape(*[1] * len(shape), WIDTH)
        else:
            cells = align(cells, len(shape))
            sizes = [1] * (len(shape) - tensor.ndim) + list(tensor.shape)
            cells = hull(cells, [d for d, (n, m) in enumerate(zip(sizes, shape, strict=True)) if n not in (1, m)])
        parts.append(cells)
    return join(parts)


def _fold(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """col2im sums overlapping columns back into pixels: those are the cells of a regular grid over what it covers."""
    mark = mark_of(args[0])
    if mark is None:
        return None
    b, h, w = len(outputs[0]), *outputs[0].shape[-2:]
    around = hull(mark.cells, [1, 2]).expand(b, 1, 1, WIDTH).unsqueeze(3)  # (b, 1, 1, 1, 5)
    cells = around.expand(b, 1, h, w, WIDTH).clone()
    for start, end, n, axis in ((0, 2, h, 2), (1, 3, w, 3)):
        steps = torch.arange(n + 1, device=cells.device) / n
        edges = around[..., start] + (-around[..., end] - around[..., start]) * steps
        edges = edges.reshape(b, 1, *((n + 1, 1) if axis == 2 else (1, n + 1)))
        cells[..., start] = edges.narrow(axis, 0, n)
        cells[..., end] = -edges.narrow(axis, 1, n)
    return [cells]


def _resample(cells: Tensor, dim: int, old: int, new: int) -> Tensor:
    """Cells along one axis after a strided convolution, pooling or resizing from `old` to `new` samples.

    Output j stands for the inputs j·old/new … (j+1)·old/new: its share of the picture, not its receptive field.
    """
    if cells.shape[dim] == 1 or old == new:
        return cells
    if old % new == 0:
        return cells.unflatten(dim, (new, old // new)).amin(dim + 1)
    starts = [j * old // new for j in range(new)]
    ends = [max(-(-(j + 1) * old // new), s + 1) for j, s in enumerate(starts)]
    parts = [cells.narrow(dim, s, e - s).amin(dim, keepdim=True) for s, e in zip(starts, ends, strict=True)]
    return torch.cat(parts, dim)


def _neighbourhood(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """Convolution, pooling, resizing: the channel axis is joined, each spatial axis resampled."""
    mark = mark_of(args[0])
    if mark is None:
        return None
    x, packet = args[0], func.overloadpacket
    spatial = len(args[3]) if packet is aten.convolution else (1 if "1d" in str(packet) else 2)
    first = x.ndim - spatial
    cells = mark.cells
    if packet is aten.convolution or "shuffle" in str(packet):
        cells = hull(cells, [first - 1])
    found = []
    for out in outputs:
        own = cells
        if out.ndim != x.ndim:
            return None
        for d, stride in zip(range(first, x.ndim), _strides(packet, args, spatial), strict=True):
            own = _without_padding(own, d, out.shape[d], stride)
            own = _resample(own, d, own.shape[d], out.shape[d])
        found.append(own)
    return found


def _strides(packet: Any, args: Any, spatial: int) -> list[int]:
    """Of a convolution or pooling; 0 where there is none (resizing)."""
    given = args[3] if packet is aten.convolution else ()
    if packet in POOLING:
        given = args[2] if len(args) > 2 and args[2] else args[1]
    given = [given] if isinstance(given, int) else given or [0]
    return [given[i % len(given)] for i in range(spatial)]


def _without_padding(cells: Tensor, dim: int, new: int, stride: int) -> Tensor:
    """The picture alone, where it was padded for this very operation: the result is 1 / stride of the picture."""
    if cells.shape[dim] in (1, new) or not stride:
        return cells
    real = cells[..., 0].isfinite().movedim(dim, 0).flatten(1).any(1).nonzero().flatten()
    if not len(real):
        return cells
    start, length = int(real[0]), int(real[-1] - real[0]) + 1
    return cells.narrow(dim, start, length) if -(-length // stride) == new else cells


def _reduce(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mark_of(args[0])
    if mark is None:
        return None
    n = args[0].ndim
    spot = 2 if func.overloadpacket in (aten.norm, aten.linalg_vector_norm) else 1
    dims = kwargs.get("dim", args[spot] if len(args) > spot else None)
    dims = list(range(n)) if dims is None or dims == [] else ([dims] if isinstance(dims, int) else list(dims))
    dims = [d % max(n, 1) for d in dims]
    cells = hull(mark.cells, dims)
    if outputs[0].ndim < n:
        for d in sorted(dims, reverse=True):
            cells = cells.squeeze(d)
    return [cells] * len(outputs)


def contract(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    """Cells of left (…, i, k) @ right (…, k, j): of the side whose cells change along a kept axis, left first."""
    rows = None if left is None else hull(left, [left.ndim - 2])
    columns = None if right is None else hull(right, [right.ndim - 3])
    if rows is None or columns is None:
        return columns if rows is None else rows
    if rows.shape[-3] > 1:
        return rows
    if columns.shape[-2] > 1:
        return columns
    return join([rows, columns])


def _product(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    packet = func.overloadpacket
    left, right = args[1:3] if packet in (aten.addmm, aten.baddbmm) else args[:2]
    a, b = mark_of(left), mark_of(right)
    if a is None and b is None:
        return None
    if packet is aten.linear:
        return None if a is None else [hull(a.cells, [left.ndim - 1])]
    cells = contract(a.cells if a else None, b.cells if b else None)
    return None if cells is None else [cells]


def _attention(mark_of: MarkOf, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """Fused attention: the result lies where its query lies; without a place of its own, on all it could read."""
    query, value = mark_of(args[0]), mark_of(args[2])
    cells = None if query is None else hull(query.cells, [args[0].ndim - 1])
    if cells is None or not bool(cells[..., 0].isfinite().any()):
        cells = None if value is None else hull(value.cells, [args[2].ndim - 1, args[2].ndim - 2])
    return None if cells is None else [cells]


def _packets(names: str) -> set[Any]:
    return {getattr(aten, n) for n in names.split() if hasattr(aten, n)}


POOLING = _packets("avg_pool2d max_pool2d_with_indices avg_pool1d max_pool1d")
PRODUCTS = _packets("mm bmm baddbmm addmm matmul")
NORMS = _packets("native_layer_norm native_batch_norm native_group_norm _native_batch_norm_legit cudnn_batch_norm "
                 "_native_batch_norm_legit_no_training batch_norm layer_norm _softmax")  # fmt: skip
INDEXED = _packets("index index_select gather take take_along_dim")
MOVES = _packets("roll flip unfold repeat reflection_pad2d replication_pad2d reflection_pad1d diagonal rot90 "
                 "as_strided repeat_interleave channel_shuffle")  # fmt: skip
FROM_NOTHING = _packets("zeros_like ones_like empty_like rand_like randn_like full_like new_zeros new_ones new_empty "
                        "new_full new_empty_strided bernoulli")  # fmt: skip
_TABLE: dict[str, Rule] = {
    "view _unsafe_view reshape _reshape_alias flatten unsqueeze squeeze unsqueeze_ squeeze_ view_as_real": view,
    "permute transpose t transpose_ t_": permute,
    "expand": expand,
    "slice select unbind split split_with_sizes": take,
    "cat stack": cat,
    "constant_pad_nd": pad,
    "im2col": im2col,
    "col2im": _fold,
    "convolution avg_pool2d max_pool2d_with_indices _adaptive_avg_pool2d adaptive_max_pool2d avg_pool1d max_pool1d "
    "adaptive_avg_pool1d _adaptive_avg_pool1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa pixel_shuffle pixel_unshuffle": _neighbourhood,
    "mean sum amax amin max min var std var_mean std_mean norm linalg_vector_norm logsumexp argmax prod "
    "any all": _reduce,
    "mm bmm baddbmm addmm linear": _product,
    "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention": _attention,
}
RULES: dict[Any, Rule] = {packet: rule for names, rule in _TABLE.items() for packet in _packets(names)}
