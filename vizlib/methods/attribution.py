"""Attributions to pixels, through Captum: what each pixel of the model's input did for the target's score.

Every function takes `forward`, from input (m, c, h, w) to scores; `x` (b, c, h, w); and `target` (b,), the
class whose logit is explained, or None where `forward` itself gives one score (m,) per image. It returns the
signed map (b, h, w), summed over the colour channels, and notes about it, (b,) each. Inputs are normalised,
so that a baseline of 0 is the mean colour of the training photographs. `batch` bounds how many images go
through the model at once (never fewer than the photographs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
Attributed = tuple[Tensor, dict[str, Tensor]]


def saliency(forward: Forward, x: Tensor, target: Tensor | None, *, absolute: bool = False) -> Attributed:
    """Gradient of the score with respect to the pixels.

    Args:
        absolute: the largest |gradient| over the channels, as the paper draws it, instead of the signed sum.

    Source: Simonyan, Vedaldi, Zisserman 2013, Deep Inside Convolutional Networks, arXiv 1312.6034.
    """
    from captum.attr import Saliency

    return _over_channels(Saliency(forward).attribute(_leaf(x), target, abs=False), absolute), {}


def input_x_gradient(forward: Forward, x: Tensor, target: Tensor | None) -> Attributed:
    """Input times gradient: the score's first-order change from the mean colour, pixel by pixel.

    Source: Shrikumar et al. 2016, Not Just a Black Box, arXiv 1605.01713.
    """
    from captum.attr import InputXGradient

    return _over_channels(InputXGradient(forward).attribute(_leaf(x), target)), {}


def integrated_gradients(
    forward: Forward,
    x: Tensor,
    target: Tensor | None,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 50,
    batch: int = 16,
) -> Attributed:
    """Integrated gradients: (x - x') ⊙ mean gradient on the straight way from a baseline x' to x.

    The map sums to score(x) - score(x'); what the steps miss of it is the note `convergence_delta`.

    Args:
        baseline: x', a number or a tensor that broadcasts to x.
        steps: points on the way (Gauss-Legendre).

    Source: Sundararajan, Taly, Yan 2017, Axiomatic Attribution for Deep Networks, arXiv 1703.01365.
    """
    from captum.attr import IntegratedGradients

    _positive(steps=steps, batch=batch)
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    values, delta = IntegratedGradients(forward).attribute(
        _leaf(x),
        start,
        target,
        n_steps=steps,
        internal_batch_size=max(batch, len(x)),
        return_convergence_delta=True,
    )
    return _over_channels(values), {"convergence_delta": delta.float()}


def smoothgrad(
    forward: Forward,
    x: Tensor,
    target: Tensor | None,
    *,
    samples: int = 25,
    noise: float = 0.15,
    absolute: bool = False,
    seed: int = 0,
    batch: int = 16,
) -> Attributed:
    """SmoothGrad: the saliency averaged over noisy copies of the photograph.

    Args:
        samples: noisy copies.
        noise: their standard deviation as a share of the photograph's range of values.
        absolute: as in `saliency`, of each copy's average.
        seed: of the noise; every photograph gets the same, so that a batch equals its photographs one by one.

    Source: Smilkov et al. 2017, SmoothGrad, arXiv 1706.03825 (noise 0.1 to 0.2, up to 50 samples).
    """
    from captum.attr import NoiseTunnel, Saliency

    _positive(samples=samples, batch=batch)
    tunnel = NoiseTunnel(Saliency(forward))
    maps = []
    for photo, at in _one_by_one(x, target):
        with _seeded(seed, x.device):
            maps.append(
                tunnel.attribute(
                    _leaf(photo),
                    nt_samples=samples,
                    nt_samples_batch_size=min(batch, samples),
                    stdevs=noise * float(photo.amax() - photo.amin()),
                    target=at,
                    abs=False,
                )
            )
    return _over_channels(torch.cat(maps), absolute), {}


@torch.no_grad()
def occlusion(
    forward: Forward,
    x: Tensor,
    target: Tensor | None,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    baseline: float = 0.0,
    batch: int = 16,
) -> Attributed:
    """Occlusion: how far the score falls when a window over the pixel is covered, averaged over the windows.

    Args:
        window: rows and columns of the window in pixels; default an eighth of each side.
        stride: its steps; default half the window.
        baseline: what covers it.

    Source: Zeiler, Fergus 2013, Visualizing and Understanding Convolutional Networks, arXiv 1311.2901.
    """
    from captum.attr import Occlusion

    image = tuple(x.shape[-2:])
    size = _pair(window, tuple(max(1, side // 8) for side in image))
    step = _pair(stride, tuple(max(1, side // 2) for side in size))
    _positive(window=min(size), stride=min(step), batch=batch)
    if any(not a <= b <= c for a, b, c in zip(step, size, image, strict=True)):
        raise ValueError(
            f"the stride must fit into the window, or pixels stay uncovered, and the window into the image; "
            f"got stride {step}, window {size}, image {image}. Choose smaller ones."
        )
    values = Occlusion(forward).attribute(
        x,
        (x.shape[1], *size),
        (x.shape[1], *step),
        baseline,
        target,
        perturbations_per_eval=max(1, batch // len(x)),
    )
    return values.mean(1).float(), {}  # the window covers all channels at once: each holds the whole drop


def gradientshap(
    forward: Forward,
    x: Tensor,
    target: Tensor | None,
    *,
    baselines: Tensor | None = None,
    samples: int = 50,
    noise: float = 0.0,
    seed: int = 0,
    batch: int = 16,
) -> Attributed:
    """GradientSHAP: the mean of (x - x') ⊙ gradient at random points on the way from random baselines x'.

    Args:
        baselines: (m, c, h, w) to draw x' from; default three flat images: the photograph's smallest value, 0
            (the mean colour) and its largest value.
        samples: draws per photograph.
        noise: standard deviation of noise added to x, as in SmoothGrad, as a share of its range of values.
        seed: of the draws; every photograph gets the same.

    Returns:
        The map, which sums to score(x) - mean score(x') but for the note `convergence_delta`.

    Source: Lundberg, Lee 2017, A Unified Approach to Interpreting Model Predictions, arXiv 1705.07874; Erion
        et al. 2019, Expected Gradients, arXiv 1906.10670.
    """
    from captum.attr import GradientShap

    _positive(samples=samples, batch=batch)
    shap = GradientShap(forward)
    maps, deltas = [], []
    for photo, at in _one_by_one(x, target):
        spread = noise * float(photo.amax() - photo.amin())
        starts = _flat(photo) if baselines is None else baselines.to(photo)
        total, missed = torch.zeros_like(photo), torch.zeros((), device=x.device)
        with _seeded(seed, x.device):
            for drawn in [min(batch, samples - done) for done in range(0, samples, batch)]:
                values, delta = shap.attribute(_leaf(photo), starts, drawn, spread, at, None, True)
                total += values.detach() * (drawn / samples)
                missed += delta.float().mean() * (drawn / samples)
        maps.append(total)
        deltas.append(missed)
    return _over_channels(torch.cat(maps)), {"convergence_delta": torch.stack(deltas)}


def _flat(photo: Tensor) -> Tensor:
    """The darkest, the mean and the brightest flat image of a photograph (1, c, h, w): (3, c, h, w)."""
    levels = torch.stack([photo.amin(), photo.new_zeros(()), photo.amax()])
    return levels.view(3, 1, 1, 1).expand(3, *photo.shape[1:])


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_()


def _over_channels(values: Tensor, absolute: bool = False) -> Tensor:
    """(b, c, h, w) -> (b, h, w)."""
    values = values.detach().float()
    return values.abs().amax(1) if absolute else values.sum(1)


def _one_by_one(x: Tensor, target: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    for i in range(len(x)):
        yield x[i : i + 1], None if target is None else target[i : i + 1]


def _pair(size: int | tuple[int, int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    if size is None:
        return default
    return (size, size) if isinstance(size, int) else tuple(size)


def _positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1; got {number}.")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's and NumPy's random state from the seed inside, as it was outside: Captum draws from both."""
    numpy_state = np.random.get_state()  # noqa: NPY002 - Captum itself draws from the global state
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
