"""Where in the image each element of each tensor comes from: cells carried beside the values, op by op.

A `PlaceMode` follows one forward below autograd. Every tensor that derives from the image carries a `Mark`: the cell of
the image each of its elements stands for, which attention operations it has been through, and whether it is a product
of two activations (the scores of an attention). View and copy operations move the cells as they move the values;
convolutions and pooling join neighbouring cells into larger ones; products keep the cells of the side that they do
not sum over. So windows, shifts, grids, pooled keys, unfolds, prefix tokens and padding come out by themselves.

A cell is (top, left, -bottom, -right, sample), in fractions of the image: the smallest cell around several is their
minimum, and "no cell" is +inf in every place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

aten = torch.ops.aten
NOWHERE = math.inf
PADDED = 1e9  # the sample of a padding element: it lies nowhere, but it is no parameter either
WIDTH = 5


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
            rule = _move
        found = rule(self, func, args, kwargs, outputs) if rule else None
        product = packet not in NORMS and any(m.product for _, m in marked)
        product |= packet in PRODUCTS and len(marked) > 1
        for i, tensor in enumerate(outputs):
            cells = found[i] if found is not None and i < len(found) else None
            if cells is None:
                cells = _by_shape(marked, tensor.shape)
            self.marks[tensor] = Mark(cells, past, product)


Rule = Callable[[PlaceMode, Any, Any, Any, list[Tensor]], "list[Tensor] | None"]


def _tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors among the arguments of an operation, which are at most one list deep."""
    for arg in (*args, *kwargs.values()):
        if isinstance(arg, Tensor):
            yield arg
        elif isinstance(arg, list | tuple):
            yield from (t for t in arg if isinstance(t, Tensor))


def hull(cells: Tensor, dims: Iterable[int]) -> Tensor:
    """The smallest cell around all along `dims`, which stay with size 1."""
    dims = [d for d in dims if cells.shape[d] > 1]
    return cells.amin(dims, keepdim=True) if dims else cells


def settle(cells: Tensor) -> Tensor:
    """Dims along which the cells do not change, shrunk to 1."""
    for d in range(cells.ndim - 1):
        if cells.shape[d] < 2:
            continue
        first = cells.narrow(d, 0, 1)
        # the two ends settle most cases without reading everything
        if torch.equal(first, cells.narrow(d, -1, 1)) and bool((cells == first).all()):
            cells = first
    return cells


def area(cells: Tensor) -> Tensor:
    """Area of each cell, +inf for none."""
    top, left, bottom, right = cells[..., 0], cells[..., 1], -cells[..., 2], -cells[..., 3]
    return torch.where(top.isinf(), NOWHERE, (bottom - top) * (right - left))


def join(cells: Sequence[Tensor]) -> Tensor:
    """Cells of an element-wise result: of several operands the one that lies more precisely, the first on a tie.

    A residual sum keeps the stream's cells, a globally pooled gate gives way to the features it multiplies, and a
    parameter has none.
    """
    best = cells[0]
    for other in cells[1:]:
        shape = torch.broadcast_shapes(best.shape, other.shape)
        if best.shape != shape or other.shape != best.shape or not torch.equal(best, other):
            finer = area(other) < area(best) * (1 - 1e-4)
            best = torch.where(finer[..., None], other, best)
    return best


def _align(cells: Tensor, ndim: int) -> Tensor:
    return cells.reshape(*[1] * (ndim + 1 - cells.ndim), *cells.shape)


def _by_shape(marked: Sequence[tuple[Tensor, Mark]], shape: torch.Size) -> Tensor:
    """Element-wise where the operands broadcast to the result; else equal dims are kept and the others joined."""
    parts = []
    for tensor, mark in marked:
        cells = mark.cells
        if tensor.ndim > len(shape):
            cells = hull(cells, range(tensor.ndim)).reshape(*[1] * len(shape), WIDTH)
        else:
            cells = _align(cells, len(shape))
            sizes = [1] * (len(shape) - tensor.ndim) + list(tensor.shape)
            cells = hull(cells, [d for d, (n, m) in enumerate(zip(sizes, shape, strict=True)) if n not in (1, m)])
        parts.append(cells)
    return join(parts)


def _along(cells: Tensor, shape: Sequence[int], dims: Iterable[int]) -> Tensor:
    """Cells with the tensor's own size along `dims`."""
    sizes = list(cells.shape[:-1])
    for d in dims:
        sizes[d] = shape[d]
    return cells.expand(*sizes, WIDTH)


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


def _view(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mode.mark(args[0])
    if mark is None or args[0].numel() == 0:
        return None
    return [_reshape(mark.cells, args[0].shape, outputs[0].shape)]


def _move(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """Any operation that only picks, repeats or reorders elements: done to the cells as it was done to the values."""
    mark = mode.mark(args[0])
    if mark is None:
        return None
    full = _along(mark.cells, args[0].shape, _touched(func.overloadpacket, args, kwargs))
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


def _permute(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mode.mark(args[0])
    if mark is None:
        return None
    cells, n = mark.cells, args[0].ndim
    if func.overloadpacket is aten.permute:
        return [cells.permute(*[d % n for d in args[1]], n)]
    if n < 2:
        return [cells]
    d, e = (0, 1) if func.overloadpacket in (aten.t, aten.t_) else (args[1] % n, args[2] % n)
    return [cells.transpose(d, e)]


def _expand(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mode.mark(args[0])
    return None if mark is None else [_align(mark.cells, outputs[0].ndim)]


def _slice(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """slice, select, narrow, unbind, split: cheap where the cells do not change along the dim."""
    mark = mode.mark(args[0])
    if mark is None:
        return None
    packet = func.overloadpacket
    dim = _dim(packet, args, kwargs) % args[0].ndim
    if mark.cells.shape[dim] != 1:
        return _move(mode, func, args, kwargs, outputs)
    cells = mark.cells.squeeze(dim) if packet in (aten.select, aten.unbind) else mark.cells
    return [cells] * len(outputs)


def _cat(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    stacked = func.overloadpacket is aten.stack
    dim = (kwargs.get("dim", args[1] if len(args) > 1 else 0)) % outputs[0].ndim
    tensors = [t for t in args[0] if stacked or t.numel() or t.ndim > 1]
    parts = []
    for t in tensors:
        mark = mode.mark(t)
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


def _pad(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mode.mark(args[0])
    if mark is None:
        return None
    n = args[0].ndim
    full = _along(mark.cells, args[0].shape, range(n - len(args[1]) // 2, n))
    parts = [aten.constant_pad_nd(full[..., i], args[1], PADDED if i == 4 else NOWHERE) for i in range(WIDTH)]
    return [settle(torch.stack(parts, -1))]


def _im2col(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mode.mark(args[0])
    if mark is None:
        return None
    x = args[0]
    full = _along(mark.cells, x.shape, [x.ndim - 2, x.ndim - 1])
    inside = func(torch.ones_like(full[..., 0]), *args[1:], **kwargs) > 0
    # im2col fills with 0; infinities are copied as they are
    parts = [func(full[..., i].contiguous(), *args[1:], **kwargs) for i in range(WIDTH)]
    fill = [PADDED if i == 4 else NOWHERE for i in range(WIDTH)]
    cells = torch.stack([torch.where(inside, p, f) for p, f in zip(parts, fill, strict=True)], -1)
    repeats = outputs[0].shape[-2] // cells.shape[-3]  # the channels, whose cells may be one for all
    return [cells.repeat(*[1] * (x.ndim - 3), repeats, 1, 1)]


def _fold(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """col2im sums overlapping columns back into pixels: those are the cells of a regular grid over what it covers."""
    mark = mode.mark(args[0])
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


def _neighbourhood(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """Convolution, pooling, resizing: the channel axis is joined, each spatial axis resampled."""
    mark = mode.mark(args[0])
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
        for d in range(first, x.ndim):
            own = _resample(own, d, x.shape[d], out.shape[d])
        found.append(own)
    return found


def _reduce(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    mark = mode.mark(args[0])
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


def _product(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    packet = func.overloadpacket
    left, right = args[1:3] if packet in (aten.addmm, aten.baddbmm) else args[:2]
    a, b = mode.mark(left), mode.mark(right)
    if a is None and b is None:
        return None
    if packet is aten.linear:
        return None if a is None else [hull(a.cells, [left.ndim - 1])]
    cells = contract(a.cells if a else None, b.cells if b else None)
    return None if cells is None else [cells]


def _attention(mode: PlaceMode, func: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> list[Tensor] | None:
    """Fused attention: the result lies where its query lies; without a place of its own, on all it could read."""
    query, value = mode.mark(args[0]), mode.mark(args[2])
    cells = None if query is None else hull(query.cells, [args[0].ndim - 1])
    if cells is None or not bool(cells[..., 0].isfinite().any()):
        cells = None if value is None else hull(value.cells, [args[2].ndim - 1, args[2].ndim - 2])
    return None if cells is None else [cells]


def _packets(names: str) -> set[Any]:
    return {getattr(aten, n) for n in names.split() if hasattr(aten, n)}


PRODUCTS = _packets("mm bmm baddbmm addmm matmul")
NORMS = _packets("native_layer_norm native_batch_norm native_group_norm _native_batch_norm_legit cudnn_batch_norm "
                 "_native_batch_norm_legit_no_training batch_norm layer_norm _softmax")  # fmt: skip
INDEXED = _packets("index index_select gather take take_along_dim")
MOVES = _packets("roll flip unfold repeat reflection_pad2d replication_pad2d reflection_pad1d diagonal rot90 "
                 "as_strided repeat_interleave channel_shuffle")  # fmt: skip
FROM_NOTHING = _packets("zeros_like ones_like empty_like rand_like randn_like full_like new_zeros new_ones new_empty "
                        "new_full new_empty_strided bernoulli")  # fmt: skip
_TABLE: dict[str, Rule] = {
    "view _unsafe_view reshape _reshape_alias flatten unsqueeze squeeze unsqueeze_ squeeze_ view_as_real": _view,
    "permute transpose t transpose_ t_": _permute,
    "expand": _expand,
    "slice select unbind split split_with_sizes": _slice,
    "cat stack": _cat,
    "constant_pad_nd": _pad,
    "im2col": _im2col,
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
