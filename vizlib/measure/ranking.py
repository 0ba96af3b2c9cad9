"""Rank correlation between maps, batched."""

from __future__ import annotations

import torch
from torch import Tensor


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of maps (…, r, s), in [-1, 1]: (…). Equal values share their mean rank.

    0 where one of the two is the same everywhere, 1 where both are.
    """
    x, y = (_mean_ranks(t.flatten(-2)) for t in (a, b))
    x, y = x - x.mean(-1, keepdim=True), y - y.mean(-1, keepdim=True)
    norm = x.norm(dim=-1) * y.norm(dim=-1)
    both_flat = ((x == 0).all(-1) & (y == 0).all(-1)).double()
    return torch.where(norm > 0, (x * y).sum(-1) / norm.clamp_min(1e-300), both_flat).float()


def _mean_ranks(values: Tensor) -> Tensor:
    """(…, n) -> ranks from 0, the mean of those that equal values take up."""
    values = values.double().contiguous()
    ordered = values.sort(-1).values
    below = torch.searchsorted(ordered, values)
    upto = torch.searchsorted(ordered, values, right=True)
    return (below + upto - 1).double() / 2
