"""How a module's output lies on the image: NCHW, NHWC or tokens with a prefix, read from its cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from vizlib.capture.arrange import tokens_of
from vizlib.capture.cells import hull, settle
from vizlib.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the numbers of one module's output lie in the image.

    Attributes:
        path: the module.
        item: which tensor of the output, if it returns several.
        channels: the axis of the channels.
        grid: (r, s).
        width: how many channels.
        tokens: for (b, n, c) outputs, which cell each token holds; None for feature maps.
    """

    path: str
    item: int
    channels: int
    grid: tuple[int, int]
    width: int
    tokens: Tokens | None = None

    def alone(self) -> Layout:
        """The layout of the picked tensor by itself."""
        return replace(self, item=0)

    def pick(self, output: Any) -> Tensor:
        """The tensor of a module's output that this layout is about."""
        return [t for t in tree_flatten(output)[0] if isinstance(t, Tensor)][self.item]

    def put(self, output: Any, tensor: Tensor) -> Any:
        """The module's output with that tensor exchanged."""
        leaves, spec = tree_flatten(output)
        spots = [i for i, t in enumerate(leaves) if isinstance(t, Tensor)]
        leaves[spots[self.item]] = tensor
        return tree_unflatten(leaves, spec)

    def features(self, output: Any) -> Tensor:
        """Module output, or a gradient of that shape, to feature maps (b, c, r, s) without prefix and padding."""
        x = self.pick(output)
        if self.tokens is None:
            return x.movedim(self.channels, 1)
        x = x.movedim(self.channels, 1)  # (b, c, n)
        tokens, (r, s) = self.tokens, self.grid
        index = tokens.index[:, 0].expand(len(x), -1)  # (b, n)
        if torch.equal(index[0], torch.arange(tokens.count, device=x.device)):
            return x[:, :, tokens.prefix :].unflatten(2, (r, s))
        maps = x.new_zeros(len(x), x.shape[1], tokens.count + 1)
        slots = torch.where(index >= 0, index, tokens.count)[:, None].expand_as(x)
        return maps.scatter(2, slots, x)[:, :, tokens.prefix : -1].unflatten(2, (r, s))


def read_layout(path: str, item: int, cells: Tensor, shape: torch.Size, batch: int, moving: bool) -> Layout | None:
    """The layout of an output with these cells, or None where it is not one feature vector for each place.

    Args:
        cells: (*dims, 5), dims of the output or 1.
        shape: of the output.
    """
    if len(shape) not in (3, 4) or shape[0] != batch:
        return None
    cells = settle(cells)
    for channels in range(1, len(shape)) if len(shape) == 4 else (2, 1):
        space = [d for d in range(1, len(shape)) if d != channels]
        own = hull(cells, [channels]).squeeze(channels)  # (b, r, s, 5) or (b, n, 5)
        if own.ndim == 4:
            if own.shape[1] == 1 or own.shape[2] == 1 or (channels == 2):
                continue
            if _lines_up(own[..., 0], own[..., 2]) and _lines_up(own[..., 1].mT, own[..., 3].mT):
                return Layout(path, item, channels, (shape[space[0]], shape[space[1]]), shape[channels])
        elif own.shape[1] > 1 and cells.shape[channels] == 1:
            tokens = tokens_of(own.expand(batch, -1, -1)[:, None], moving=moving)
            if tokens.grid is not None and tokens.grid[0] * tokens.grid[1] > 1:
                return Layout(path, item, channels, tokens.grid, shape[channels], tokens)
    return None


def _lines_up(start: Tensor, end: Tensor) -> bool:
    """Do all cells of a line (b, lines, cells) start at the same place, to half a cell, each line after the one before?

    Args:
        start: where the cells start in the image; end: where they end, negated.
    """
    first, lines = start[:, :, :1], start.shape[1]
    level = (start == first) | ((start - first).abs() < 0.5 / lines)
    middle = (start - end)[0, :, 0]
    return bool(level.all()) and bool((middle.diff() > 0).all() | ~middle.isfinite().all())
