"""From cells to tokens: which grid the slots of an operation lie on, and which axes are samples, windows and heads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from vizlib.capture.cells import PADDED, area
from vizlib.tokens import PADDING, Tokens

WHOLE = 0.999  # a cell of at least this area is the whole image: a pooled token has no place of its own


@dataclass(frozen=True)
class Arrangement:
    """How the leading axes of an operation, flattened, are made of samples, groups and heads.

    Attributes:
        order: the nesting, outermost first, e.g. "bga" for (batch · windows, heads); without "b" where the operation
            mixes the photographs of the batch.
    """

    order: str
    groups: int
    heads: int

    def apply(self, tensor: Tensor, lead: torch.Size, batch: int) -> Tensor:
        """(*lead or broadcastable, x, y) to (b, g, a, x, y), as a view where the memory allows."""
        sizes = {"b": batch if "b" in self.order else 1, "g": self.groups, "a": self.heads}
        own = torch.Size([1] * (len(lead) + 2 - tensor.ndim)) + tensor.shape[:-2]
        if own.numel() == 1:
            return tensor.reshape(1, 1, 1, *tensor.shape[-2:])
        if self.order == "bga" and len(lead) == 2 and lead[1] == self.heads and own[0] in (1, lead[0]):
            tensor = tensor.reshape(*own, *tensor.shape[-2:])  # a bias table per head stays small
            first = (1, 1) if own[0] == 1 and lead[0] > 1 else (batch, self.groups)
            return tensor.reshape(*first, own[1], *tensor.shape[-2:])
        flat = tensor.expand(*lead, *tensor.shape[-2:]).flatten(0, len(lead) - 1)
        split = flat.unflatten(0, [sizes[c] for c in self._nesting])
        return split.permute([self._nesting.index(c) for c in "bga"] + [3, 4])

    def undo(self, tensor: Tensor, lead: torch.Size) -> Tensor:
        """(b, g, a, x, y) back to (*lead, x, y)."""
        moved = tensor.permute(["bga".index(c) for c in self._nesting] + [3, 4])
        return moved.reshape(*lead, *tensor.shape[-2:])

    @property
    def _nesting(self) -> str:
        return self.order if "b" in self.order else "b" + self.order


def arrange(cells: Tensor, batch: int) -> Arrangement:
    """Finds samples, groups and heads in the flattened leading axes by what lies where.

    Slices of the same sample with the same places are heads of one group; where that does not come out even
    (neighbourhoods that differ from head to head) every slice is a group of its own.

    Args:
        cells: (leading, n, 5), the cells of the key and result slots of each slice.
    """
    total = len(cells)
    samples = torch.where(cells[..., 4] < PADDED, cells[..., 4], math.inf).amin(1)  # (leading,)
    if not bool(samples.isfinite().all()):
        samples = torch.arange(total, device=cells.device) // max(total // batch, 1)
    _, places = torch.unique(cells[..., :4].flatten(1), dim=0, return_inverse=True)
    mine = places[samples == samples[0]]
    groups = len(mine.unique())
    if total % (batch * groups):
        return Arrangement("bga", total // batch, 1)
    sizes = {"b": batch, "g": groups, "a": total // (batch * groups)}
    for order in ("bga", "bag", *map("".join, permutations("bga"))):
        axes = [sizes[c] for c in order]
        by_sample = samples.view(axes).permute([order.index(c) for c in "bga"]).flatten(1)
        by_place = places.view(axes).permute([order.index(c) for c in "bga"])
        same_sample = bool((by_sample == by_sample[:, :1]).all()) and len(by_sample[:, 0].unique()) == batch
        if same_sample and bool((by_place == by_place[:, :, :1]).all()):
            return Arrangement(order, groups, sizes["a"])
    return Arrangement("bga", total // batch, 1)


def tokens_of(cells: Tensor, *, moving: bool = False) -> Tokens:
    """The tokens in slots with these cells.

    Args:
        cells: (b, g, n, 5), or (b, g, 1, 5) for slots without places.
        moving: the places depend on the photograph (pruned tokens), so that what is left of a grid may by chance be a
            smaller grid.
    """
    b, g, n, _ = cells.shape
    sizes = area(cells)
    placed = sizes < WHOLE
    if not bool(placed.any()):
        count = torch.arange(n, device=cells.device).expand(1, g, n)
        return Tokens(None, n, count.contiguous())
    padded = ~placed & (cells[..., 4] >= PADDED) & cells[..., 4].isfinite()
    leading = (~placed & ~padded).long().cumprod(-1).sum(-1)
    prefix = int(leading.min())
    row, column = (cells[..., 0] - cells[..., 2]) / 2, (cells[..., 1] - cells[..., 3]) / 2
    height, width = -cells[..., 2] - cells[..., 0], -cells[..., 3] - cells[..., 1]
    grid, i, j = _grid(row[placed], column[placed], height[placed], width[placed], moving)
    index = torch.full((b, g, n), PADDING, device=cells.device)
    index[placed] = prefix + i * grid[1] + j
    index[..., :prefix] = torch.arange(prefix, device=cells.device)
    if not moving or bool((index == index[:1]).all()):
        index = index[:1].contiguous()
    return Tokens(grid, prefix, index)


def _grid(
    row: Tensor, column: Tensor, height: Tensor, width: Tensor, moving: bool
) -> tuple[tuple[int, int], Tensor, Tensor]:
    """Grid and cell of each placed slot: by rank where the centres fill a grid, else by the size of the cells."""
    rows, i = torch.unique((row * 1e5).round(), return_inverse=True)
    columns, j = torch.unique((column * 1e5).round(), return_inverse=True)
    r, s = len(rows), len(columns)
    full = len(torch.unique(i * s + j)) == r * s
    by_size = (max(1, round(1 / float(height.median()))), max(1, round(1 / float(width.median()))))
    if full and not (moving and by_size[0] * by_size[1] > r * s):
        return (r, s), i, j
    i, j = (row * by_size[0]).long(), (column * by_size[1]).long()
    return by_size, i.clamp(0, by_size[0] - 1), j.clamp(0, by_size[1] - 1)
