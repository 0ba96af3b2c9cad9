"""The grid pointing game: photographs of different classes in one picture, one class asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.measure.evaluation import Evaluation, must_count


def grid_pointing(ask: Evaluation, *, k: int = 2) -> Tensor:
    """Share of the map's positive values on its own photograph in a mosaic of k × k photographs: (b,) in [0, 1].

    Every photograph is once the one that is asked for, in a cell drawn at random; the others of its mosaic are of
    other classes. 1 / k² is chance, and what a class-blind method reaches on average.

    Raises:
        ValueError: k is below 2, or the photographs have fewer than k² classes.

    Source: Böhle, Fritz, Schiele 2021, Convolutional Dynamic Alignment Networks, arXiv 2104.00032; Arias-Duart et al.
        2022, Focus!, arXiv 2109.15035.
    Deviation: the mosaic has the model's input size, so that models of one size take part; its photographs are smaller.
    """
    must_count(2, k=k)
    mosaics, cell = _mosaics(ask, k)
    positive = ask.again(mosaics, ask.target).relu()
    h, w = positive.shape[-2:]
    rows = torch.arange(h, device=cell.device) * k // h
    columns = torch.arange(w, device=cell.device) * k // w
    own = (rows[:, None] * k + columns) == cell[:, None, None]
    return (positive * own).sum((1, 2)) / positive.sum((1, 2)).clamp_min(1e-30)


def _mosaics(ask: Evaluation, k: int) -> tuple[Tensor, Tensor]:
    """Mosaics (b, c, h, w), and the cell (b,) of the photograph that each is about."""
    others = _of_other_classes(ask.target.tolist(), k)
    b, count = len(ask.x), k * k
    cell = torch.randint(count, (b,), generator=ask.generator())
    placed = (torch.arange(count) - cell[:, None]) % count  # the photograph itself stands first among its others
    chosen = torch.tensor(others).gather(1, placed)
    h, w = ask.x.shape[-2:]
    small = F.interpolate(ask.x.float(), (-(-h // k), -(-w // k)), mode="bilinear", antialias=True)
    tiles = small[chosen.to(ask.x.device)].unflatten(1, (k, k))  # (b, k, k, c, h/k, w/k)
    mosaic = tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)[..., :h, :w]
    return mosaic.to(ask.x.dtype), cell.to(ask.x.device)


def _of_other_classes(target: list[int], k: int) -> list[list[int]]:
    """For every photograph, itself and the next k² − 1 of classes that are not yet there."""
    if len(set(target)) < k * k:
        raise ValueError(
            f"mosaics of {k} × {k} need photographs of {k * k} classes; got {len(set(target))}. Add photographs, or "
            f"name the classes with target=."
        )
    rows = []
    for first in range(len(target)):
        row = [first]
        for other in (*range(first + 1, len(target)), *range(first)):
            if len(row) < k * k and target[other] not in {target[i] for i in row}:
                row.append(other)
        rows.append(row)
    return rows
