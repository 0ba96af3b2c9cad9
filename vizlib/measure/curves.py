"""Perturbation curves: how the target's probability changes as the map's strongest pixels are taken away or shown.

Every function takes an `Evaluation` and returns the shares of pixels (t,) and the probabilities (b, t).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.measure.baselines import Baseline, baseline_of
from vizlib.measure.evaluation import Evaluation, must_count, ranks, shares_of
from vizlib.measure.imputation import impute


def deletion(
    ask: Evaluation, *, steps: int = 100, baseline: Baseline = "blur", cells: int | None = None
) -> tuple[Tensor, Tensor]:
    """Deletion: the pixels are replaced by the baseline, those with the largest value first.

    Args:
        steps: equal parts in which the pixels are taken; the curve has one point more.
        baseline: see `baselines.baseline_of`.
        cells: take whole squares of a grid of cells × cells, by the map's mean in each, and no single pixels. Between
            methods of different resolution only this is fair: a map of single pixels can pick those whose exchange
            turns the score like an adversarial pattern, without knowing where the object is.

    Source: Petsiuk, Das, Saenko 2018, RISE, arXiv 1806.07421; with single pixels as parts, pixel flipping: Bach et al.
        2015, doi 10.1371/journal.pone.0130140.
    Deviation: the paper's baseline is grey; here it is chosen and told.
    """
    return _exchange(ask, steps, cells, ask.x, baseline_of(ask.clf, ask.x, baseline))


def insertion(
    ask: Evaluation, *, steps: int = 100, baseline: Baseline = "blur", cells: int | None = None
) -> tuple[Tensor, Tensor]:
    """Insertion: from the baseline, the photograph's pixels are put in, those with the largest value first.

    Args, Source: as in `deletion`.
    """
    return _exchange(ask, steps, cells, baseline_of(ask.clf, ask.x, baseline), ask.x)


def road(
    ask: Evaluation,
    *,
    order: Literal["most", "least"] = "most",
    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9),
    noise: float = 0.01,
    tolerance: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """ROAD: like deletion, but what is taken away is filled in from around, so that no new edges appear.

    Args:
        order: take the pixels with the largest values first ("most"; a good map falls fast) or last ("least").
        shares: of the pixels, in (0, 1).
        noise: standard deviation of the noise on what is filled in, in the model's input units.
        tolerance: see `impute`.

    Source: Rong, Leemann et al. 2022, arXiv 2202.00449.
    Deviation: the score is the target's probability, as in `deletion`; the paper's and Quantus' is the accuracy over
        the photographs, which one photograph alone does not have.
    """
    if order not in ("most", "least"):
        raise ValueError(f"ROAD takes away the 'most' or the 'least' important pixels first; got {order!r}. Name one.")
    fraction = shares_of(shares).float().to(ask.x.device)
    places = ranks(ask.maps if order == "most" else -ask.maps, ask.seed)
    counts = (fraction * places[0].numel()).round().long()
    grain = noise * torch.randn(ask.x.shape[1:], generator=ask.generator()).to(ask.x)

    def make(photo: Tensor, step: Tensor) -> Tensor:
        gone = places[photo] < counts[step, None, None]
        return impute(ask.x[photo], gone, tolerance=tolerance) + grain * gone[:, None]

    return fraction, ask.scores(len(fraction), make)


def area(fraction: Tensor, score: Tensor) -> Tensor:
    """Mean height of curves (b, t) over the measured fractions (t,), by the trapezoidal rule: (b,)."""
    if len(fraction) == 1:
        return score[:, 0]
    return torch.trapezoid(score, fraction, dim=1) / (fraction[-1] - fraction[0])


def _exchange(ask: Evaluation, steps: int, cells: int | None, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Scores on the way from images `start` to `end`, the pixels of the largest values first."""
    size = ask.maps.shape[-2:]
    must_count(1, steps=steps)
    if cells is not None:
        must_count(2, cells=cells)
        if cells > min(size):
            raise ValueError(f"at most {min(size)} cells fit the shorter side; got {cells}. Take fewer.")
    squares = ask.maps if cells is None else F.adaptive_avg_pool2d(ask.maps, cells)
    places = ranks(F.interpolate(squares[:, None], size, mode="nearest")[:, 0], ask.seed)
    fraction = torch.arange(steps + 1, device=ask.x.device) / steps
    counts = (fraction.double() * places[0].numel()).round().long()

    def make(photo: Tensor, step: Tensor) -> Tensor:
        done = places[photo] < counts[step, None, None]
        return torch.where(done[:, None], end[photo], start[photo])

    return fraction, ask.scores(steps + 1, make)
