"""What each attention head does: how far it looks, and how evenly."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from vizlib.attention import Attention
from vizlib.tokens import Tokens
from vizlib.types import Trace


def heads(trace: Trace) -> pd.DataFrame:
    """Attention distance and entropy of every head, averaged over photographs and queries.

    Distance of a query: Σ_k A[q, k] · |place of q - place of k| / Σ_k A[q, k] over the keys k that are
    patches, between the centres of their cells. Entropy of a query: -Σ_k A[q, k] · ln A[q, k] over all its
    keys. The patches are the queries; where an operation has none among its queries (class attention), its
    prefix tokens are, and they have an entropy and no distance.

    Returns:
        A row per head, in execution order: `layer`, `head`, `distance` in image units (1 is the longer side
        of the image; times the pixels of that side it compares with a receptive field) and `entropy` in nats
        (0: one key only; ln k: all k keys alike).

    Raises:
        ValueError: no operation of the trace has a matrix of weights over places.

    Source: Dosovitskiy et al. 2020, An Image is Worth 16x16 Words, arXiv 2010.11929, appendix D.7.
    Deviation: in image units and not pixels; mass on prefix tokens is left out.
    """
    spatial = [a for a in trace.attentions.values() if a.shares]
    if not spatial:
        raise ValueError(
            f"attention distance needs operations with weights over places; {trace.model} has {trace.kinds}. "
            f"Name a model with spatial attention (vl.summary lists the operations)."
        )
    tables = []
    for attention in spatial:
        distance, entropy = _distance_and_entropy(attention)
        numbers = {"distance": distance.tolist(), "entropy": entropy.tolist()}
        tables.append(pd.DataFrame({"layer": attention.name, "head": range(attention.heads), **numbers}))
    return pd.concat(tables, ignore_index=True)


def _distance_and_entropy(attention: Attention) -> tuple[Tensor, Tensor]:
    """Means over photographs and queries, per head: (a,) each; without places the distance is NaN."""
    where = attention.outputs if attention.outputs.grid else attention.queries
    size, device = tuple(attention.image.shape[-2:]), attention.output.device
    at_query, at_key = _places(where, size).to(device), _places(attention.keys, size).to(device)
    on_patch = at_key.isfinite().all(-1)[:, :, None, None]  # (b', g, 1, 1, k), b' is 1 or b
    patch = at_query.isfinite().all(-1)  # (b', g, q)
    asked = patch if patch.any() else where.index.to(device) >= 0
    totals = torch.zeros(4, attention.heads, dtype=torch.float64, device=device)
    for part, rows in attention.tiles():
        weights = rows.double()
        wanted = asked[:, :, None, part].expand(*weights.shape[:-1])
        mass = (weights * on_patch).sum(-1)
        placed = wanted & patch[:, :, None, part] & (mass > 0)
        distance = (weights * on_patch * _apart(at_query[:, :, part], at_key)[:, :, None]).sum(-1) / mass
        entropy = torch.special.entr(weights).sum(-1)
        sums = (distance.where(placed, 0), placed, entropy.where(wanted, 0), wanted)
        totals += torch.stack([s.double().sum((0, 1, 3)) for s in sums])
    return totals[0] / totals[1], totals[2] / totals[3]


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Distances (…, q, k) between places (…, q, 2) and (…, k, 2); no place counts as the corner."""
    return torch.cdist(a.nan_to_num(), b.nan_to_num(), compute_mode="donot_use_mm_for_euclid_dist")


def _places(tokens: Tokens, size: tuple[int, ...]) -> Tensor:
    """Centre of each slot's cell in units of the image's longer side, (b', g, n, 2); NaN: no patch."""
    index = tokens.index
    if tokens.grid is None:
        return torch.full((*index.shape, 2), torch.nan, dtype=torch.float64)
    r, s = tokens.grid
    cell = index - tokens.prefix
    centres = torch.stack([(cell // s + 0.5) / r * size[0], (cell % s + 0.5) / s * size[1]], -1).double()
    return centres.masked_fill((cell < 0)[..., None], torch.nan) / max(size)
