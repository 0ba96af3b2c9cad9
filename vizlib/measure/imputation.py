"""Filling in missing pixels from their neighbours, for ROAD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EVERY = 8  # steps of the solver between two looks at the residual, which make a GPU wait


def impute(images: Tensor, missing: Tensor, *, tolerance: float = 1e-3, most: int = 2000) -> Tensor:
    """Every missing pixel becomes the weighted mean of its eight neighbours, missing ones too: noisy linear imputation.

    The weights are 1/6 beside and 1/12 across a corner, over the neighbours inside the image. One linear system per
    image and channel, symmetric and positive; all are solved at once by conjugate gradients, from a guess that
    averages the known pixels over larger and larger neighbourhoods.

    Args:
        images: (m, c, h, w).
        missing: (m, h, w), True where a pixel is to be filled in.
        tolerance: largest residual, in units of `images`.
        most: steps of the solver at most.

    Returns:
        (m, c, h, w) in float32, without noise; known pixels as they were.

    Source: Rong, Leemann et al. 2022, A Consistent and Efficient Evaluation Strategy for Attribution Methods, arXiv
        2202.00449.
    """
    unknown = missing[:, None].float()
    known = images.float() * (1 - unknown)
    total = _around(torch.ones_like(unknown[:1]))

    def system(u: Tensor) -> Tensor:
        return (total * u - _around(u)) * unknown

    guess = _guess(known, 1 - unknown) * unknown
    residual = _around(known) * unknown - system(guess)
    direction, power = residual, _dot(residual, residual)
    for step in range(most):
        if step % EVERY == 0 and float(residual.abs().amax()) <= tolerance:
            break
        along = system(direction)
        length = power / _dot(direction, along).clamp_min(1e-30)
        guess, residual = guess + length * direction, residual - length * along
        power, before = _dot(residual, residual), power
        direction = residual + power / before.clamp_min(1e-30) * direction
    return known + guess


def _around(u: Tensor) -> Tensor:
    """The weighted sum of each pixel's neighbours inside the image.

    With the pixel itself at weight 1/3 the weights are (1, 2, 1) ⊗ (1, 2, 1) / 12: two short sums, several times faster
    on a processor than a convolution of one channel.
    """
    return _line(_line(u, -1), -2).sub_(u, alpha=4).div_(12)


def _line(u: Tensor, dim: int) -> Tensor:
    """u[i - 1] + 2 u[i] + u[i + 1] along an axis, nothing beyond the ends."""
    n = u.shape[dim] - 1
    total = 2 * u
    total.narrow(dim, 1, n).add_(u.narrow(dim, 0, n))
    total.narrow(dim, 0, n).add_(u.narrow(dim, 1, n))
    return total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1), keepdim=True)


def _guess(known: Tensor, weight: Tensor) -> Tensor:
    """The mean of the known pixels in the smallest square of 2ᵏ pixels around that holds any."""
    size = known.shape[-2:]
    filled, seen = known, weight.expand_as(known)
    values, weights = known, weight
    while max(values.shape[-2:]) > 1 and not bool(seen.all()):
        values, weights = (F.avg_pool2d(t, 2, ceil_mode=True) for t in (values, weights))
        mean = F.interpolate(values / weights.clamp_min(1e-12), size, mode="nearest")
        there = F.interpolate((weights > 0).float(), size, mode="nearest").expand_as(mean)
        filled = filled + mean * there * (1 - seen)
        seen = torch.maximum(seen, there)
    return filled
