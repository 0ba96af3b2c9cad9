"""Cells: the parts of the image that the elements of a tensor stand for.

A cell is (top, left, -bottom, -right, sample), in fractions of the image: the smallest cell around several is their
minimum, and "no cell" is +inf in every place. The cells of a tensor are (*dims, 5), where each dim is the tensor's own,
or 1 where the cells do not change along it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

NOWHERE = math.inf
PADDED = 1e9  # the sample of a padding element: it lies nowhere, but it is no parameter either
WIDTH = 5


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


def align(cells: Tensor, ndim: int) -> Tensor:
    """As many dims as a tensor of `ndim` dims that it is broadcast to."""
    return cells.reshape(*[1] * (ndim + 1 - cells.ndim), *cells.shape)


def along(cells: Tensor, shape: Sequence[int], dims: Iterable[int]) -> Tensor:
    """Cells with the tensor's own size along `dims`."""
    sizes = list(cells.shape[:-1])
    for d in dims:
        sizes[d] = shape[d]
    return cells.expand(*sizes, WIDTH)
