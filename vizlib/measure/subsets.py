"""Whether the map's values add up to what the model does when several places are taken away together."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.measure.baselines import Baseline, baseline_of
from vizlib.measure.evaluation import Evaluation, Make, must_count, shares_of

CELLS = 16  # places are squares of a 16 × 16 grid: single pixels hardly move a logit
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)
SIDES = (0.1, 0.5)


def sensitivity_n(
    ask: Evaluation,
    *,
    shares: tuple[float, ...] = SHARES,
    samples: int = 20,
    subsets: Tensor | None = None,
    baseline: Baseline = "grey",
) -> Tensor:
    """Correlation between the sum of the map over random subsets of n places and the logit's fall without them: (b,).

    Pearson's, for every n, then the mean over the n; 1 where the map adds up as the model does. One photograph's value
    is a draw: its standard error is about (1 - r²) / sqrt(samples · number of n), 0.1 at the default and a small r;
    four times the samples halve it, and so do four times the photographs for their mean.

    Args:
        shares: each n as a share of the places.
        samples: subsets for each n, at least 3: two points always lie on a line.
        subsets: (n, samples, h, w) bool, subsets of your own, in place of the drawn ones.
        baseline: what stands in their place.

    Source: Ancona et al. 2018, Towards Better Understanding of Gradient-based Attribution Methods, arXiv 1711.06104.
        With one n and single pixels it is the faithfulness correlation of Bhatt et al. 2020, arXiv 2005.00631.
    Deviation: places are the squares of a 16 × 16 grid, and the n are averaged.
    """
    if subsets is None:
        must_count(3, samples=samples)
        generator = ask.generator()  # one for all n: subsets that hold each other are noisy in the same way
        subsets = torch.stack([_scattered(ask, samples, share, generator) for share in shares_of(shares).tolist()])
    elif subsets.ndim != 4 or subsets.shape[2:] != ask.maps.shape[1:] or subsets.shape[1] < 3:
        size = ", ".join(map(str, ask.maps.shape[1:]))
        raise ValueError(f"subsets need the shape (n, 3 or more, {size}); got {tuple(subsets.shape)}. Leave them out.")
    gone = subsets.flatten(0, 1).to(ask.x.device)
    falls = _falls(ask, len(gone), _without(ask, gone, baseline)).unflatten(1, subsets.shape[:2])
    sums = torch.einsum("bhw,nshw->bns", ask.maps.double(), subsets.to(ask.maps.device, torch.float64))
    return _pearson(sums, falls).mean(1).float()


def infidelity(
    ask: Evaluation,
    *,
    samples: int = 50,
    sides: tuple[float, float] = SIDES,
    normalise: bool = True,
    perturb: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    baseline: Baseline = "grey",
) -> Tensor:
    """Mean squared difference between the map's sum over a square that is taken away and the logit's fall: (b,).

    mean of (β Σ I · map - (f(x) - f(x without I)))² over squares I of random place and size. All of one size, every map
    of one sign would foretell the mean fall.

    Args:
        samples: squares.
        sides: the smallest and the largest side of a square, as shares of the photograph's shorter side.
        normalise: β is the factor that fits this map best, but never below 0, so that its unit does not matter and its
            sign does: a map that points the wrong way does as badly as a map of 0. Without it β is 1.
        perturb: images (m, c, h, w) -> what multiplies the map (m, c, h, w), spread over the c channels alike, and the
            images without it; instead of squares. It is called several times and sees the photographs in order, each
            `samples` times in a row.
        baseline: what stands in the squares.

    Source: Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, arXiv 1901.09392, with the squares
        that it proposes for images.
    Deviation: in the paper I is x - x₀ inside of the square, since its maps are gradients; here it is 1, for maps in
        logits, which x - x₀ is already a part of. β may be negative in the authors' code and in Captum, which gives a
        map and its negative the same score.
    """
    must_count(1, samples=samples)
    maps, sums = ask.maps.double(), []
    squares = _squares(ask, samples, sides).to(ask.x.device)
    fill = _without(ask, squares, baseline)

    def make(photo: Tensor, step: Tensor) -> Tensor:
        if perturb is None:
            weight, without = squares[step, None], fill(photo, step)
        else:
            weight, without = perturb(ask.x[photo])
        sums.append((weight.double().mean(1) * maps[photo]).sum((1, 2)))
        return without

    falls = _falls(ask, samples, make)
    told = torch.cat(sums).view_as(falls)
    if normalise:
        power = (told**2).sum(1, keepdim=True).clamp_min(1e-300)
        told = told * ((told * falls).sum(1, keepdim=True) / power).clamp_min(0)
    return ((told - falls) ** 2).mean(1).float()


def _falls(ask: Evaluation, count: int, make: Make) -> Tensor:
    """How far the target's logit falls on `count` images made from each photograph: (b, count)."""
    whole = ask.scores(1, lambda photo, _: ask.x[photo], "logit")
    return whole.double() - ask.scores(count, make, "logit").double()


def _without(ask: Evaluation, gone: Tensor, baseline: Baseline) -> Make:
    """Makes the photographs with the baseline where `gone` (n, h, w) is True."""
    hidden = baseline_of(ask.clf, ask.x, baseline)
    return lambda photo, step: torch.where(gone[step, None], hidden[photo], ask.x[photo])


def _scattered(ask: Evaluation, samples: int, share: float, generator: torch.Generator) -> Tensor:
    """Random subsets of the places, (samples, h, w) bool: the same for every photograph and every map."""
    h, w = ask.x.shape[-2:]
    grid = min(CELLS, h), min(CELLS, w)
    count = grid[0] * grid[1]
    order = torch.rand(samples, count, generator=generator).argsort(1).argsort(1)
    chosen = (order < max(1, round(share * count))).view(samples, 1, *grid).float()
    return F.interpolate(chosen, (h, w), mode="nearest")[:, 0] > 0


def _squares(ask: Evaluation, samples: int, sides: tuple[float, float]) -> Tensor:
    """Random squares inside of the picture, (samples, h, w) bool: the same for every photograph and every map."""
    if len(sides) != 2 or not 0 < sides[0] <= sides[1] <= 1:
        raise ValueError(f"sides are two shares of the shorter side, in (0, 1], in order; got {sides}. Take {SIDES}.")
    size = torch.tensor(ask.x.shape[-2:])
    share, *corner = torch.rand(3, samples, 1, generator=ask.generator())
    side = (size.min() * (sides[0] + (sides[1] - sides[0]) * share)).round().clamp_min(1)
    inside = []
    for length, place in zip(size, corner, strict=True):
        start, pixel = (place * (length - side + 1)).floor(), torch.arange(int(length))
        inside.append((pixel >= start) & (pixel < start + side))
    return inside[0][:, :, None] & inside[1][:, None]


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation over the last axis; 0 where one of the two does not vary."""
    a, b = (t - t.mean(-1, keepdim=True) for t in (a, b))
    norm = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norm > 0, (a * b).sum(-1) / norm.clamp_min(1e-300), 0)
