"""How far a layer sees: its effective receptive field, measured by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vizlib.capture.feature_maps import feature_maps
from vizlib.types import Classifier, Heatmap


def receptive_field(
    clf: Classifier,
    photos: Any,
    layers: str | Sequence[str],
    *,
    point: tuple[float, float] = (0.5, 0.5),
    draws: int = 8,
) -> list[Heatmap]:
    """How strongly each pixel moves what a layer says at one point of the image.

    F[p] = ‖∂y / ∂x[p]‖, with y (c,) the layer's features in the cell at the point and x[p] (3,) a pixel of
    the model's input. The sum over channels is estimated from `draws` mixtures εᵀy with random signs ε:
    the mean of ‖∂(εᵀy) / ∂x[p]‖² is F[p]². (A plain sum of channels will not do: after a layer norm it is
    constant.)

    Args:
        photos: a photograph or several, as for `trace`.
        layers: module paths whose output lies on a grid; one forward serves all of them.
        point: (row, column) in [0, 1].
        draws: mixtures per layer, one backward each.

    Returns:
        A heatmap (b, h, w) per layer, with the notes, (b,) each:
        `radius`, Σ F · distance / Σ F over the pixels, from the centre of the cell, in image units (1 is the longer
        side; it compares with the attention distance of `heads`);
        `touched`, the share of the pixels with F > 0, in [0, 1]: the theoretical receptive field.

    Raises:
        ValueError: unknown layer, one without a spatial grid, or a point outside the image.

    Source: Luo, Li, Urtasun, Zemel 2016, Understanding the Effective Receptive Field in Deep Convolutional
    Neural Networks, arXiv 1701.04128. Deviation: all channels and not one; real photographs and not noise.
    """
    if not all(0 <= v <= 1 for v in point) or draws < 1:
        raise ValueError(
            f"a point (row, column) in [0, 1] and at least one draw are needed; got {point} and {draws}. "
            f"Divide pixels by the image's size."
        )
    named = [layers] if isinstance(layers, str) else list(layers)
    x = clf.prepare(photos).detach().clone().requires_grad_()
    image, generator = clf.picture(x), torch.Generator().manual_seed(0)
    maps, found = feature_maps(clf, x, named), []
    for name in named:
        grid = maps[name].shape[-2:]
        row, column = (min(int(v * n), n - 1) for v, n in zip(point, grid, strict=True))
        here = maps[name][..., row, column]  # (b, c)
        squared = torch.zeros_like(image[:, 0])
        for _ in range(draws):
            signs = torch.randint(0, 2, here.shape[1:], generator=generator).to(here) * 2 - 1
            (pull,) = torch.autograd.grad((here * signs).sum(), x, retain_graph=True)
            squared += pull.float().square().sum(1) / draws
        centre = (row + 0.5) / grid[0], (column + 0.5) / grid[1]
        found.append(_heatmap(clf, image, name, squared.sqrt(), centre))
    return found


def _heatmap(clf: Classifier, image: Tensor, layer: str, field: Tensor, centre: tuple[float, float]) -> Heatmap:
    notes = {"radius": reach(field, centre), "touched": (field > 0).float().mean((1, 2))}
    unit = "change of the features per unit of input"
    return Heatmap(field, image, "receptive field", clf.name, unit=unit, layer=layer, notes=notes)


def reach(values: Tensor, point: tuple[float, float]) -> Tensor:
    """Mean distance of a map's mass from a point, in units of the image's longer side (square cells).

    Args:
        values: (b, r, s), not negative.
        point: (row, column) in [0, 1].

    Returns:
        (b,) Σ values · distance / Σ values, between the point and the centres of the cells.
    """
    r, s = values.shape[-2:]
    rows = (torch.arange(r, device=values.device) + 0.5 - point[0] * r) / max(r, s)
    columns = (torch.arange(s, device=values.device) + 0.5 - point[1] * s) / max(r, s)
    away = torch.hypot(rows[:, None], columns[None])
    return (values * away).sum((-2, -1)) / values.sum((-2, -1))
