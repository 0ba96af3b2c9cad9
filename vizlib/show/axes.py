"""The pieces a drawing is put together from: photograph, map, numbered colour bar, mark, reason."""

from __future__ import annotations

import textwrap
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from vizlib.show.colour import Scale

Interpolation = Literal["bilinear", "nearest"]
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601


def axes_grid(rows: int, columns: int, size: float = 2.2) -> NDArray:
    """New axes (rows, columns), each for a picture of `size` inches."""
    inches = (columns * size * 1.3, rows * size * 1.15 + 0.4)
    return plt.subplots(rows, columns, figsize=inches, squeeze=False, layout="constrained")[1]


def draw_photograph(ax: Axes, image: Tensor, colour: bool) -> None:
    """An image (3, h, w) in [0, 1] over [0, 1] x [0, 1], so that points and maps fall in place."""
    pixels = image.detach().float().cpu().permute(1, 2, 0)
    if pixels.shape[-1] == 1:
        pixels = pixels.expand(-1, -1, 3)
    if not colour:
        pixels = (pixels @ LUMINANCE)[..., None].expand(-1, -1, 3)
    ax.imshow(pixels.numpy(), extent=(0, 1, 1, 0), interpolation="bilinear")
    ax.set_aspect(pixels.shape[0] / pixels.shape[1])
    ax.set_xticks([])
    ax.set_yticks([])


def draw_map(ax: Axes, values: Tensor, scale: Scale, alpha: float, interpolation: Interpolation) -> None:
    """Raw values (r, s) spread over the whole image."""
    aspect = ax.get_aspect()
    ax.imshow(
        values.detach().float().cpu().numpy(),
        cmap=scale.colours,
        vmin=scale.low,
        vmax=scale.high,
        alpha=alpha,
        interpolation=interpolation,
        extent=(0, 1, 1, 0),
        aspect=aspect,
    )


def draw_bar(ax: Axes | list[Axes], scale: Scale, unit: str = "", *, ticks: int = 4, width: float = 0.045) -> None:
    """The colours with their numbers, opaque, beside a picture or beside several that share them."""
    colours = ScalarMappable(Normalize(scale.low, scale.high), scale.colours)
    if isinstance(ax, Axes):
        bar = ax.figure.colorbar(colours, cax=ax.inset_axes((1.03 if width > 0.02 else 1.01, 0, width, 1)))
    else:
        bar = ax[0].figure.colorbar(colours, ax=ax, fraction=0.03, pad=0.02)
    bar.locator, bar.formatter = MaxNLocator(ticks), FuncFormatter(lambda value, _: f"{value:.3g}")
    bar.update_ticks()
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    bar.set_label(unit, fontsize=7)


def draw_mark(ax: Axes, point: tuple[float, float]) -> Axes:
    """A ring at an image point (row, column) in [0, 1], visible on any ground."""
    row, column = point
    for colour, width in (("black", 3.0), ("cyan", 1.5)):
        ax.plot(column, row, "o", ms=9, mfc="none", mec=colour, mew=width)
    return ax


def draw_reason(ax: Axes, reason: str) -> None:
    """Why there is no picture here, in place of the picture."""
    ax.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], facecolor="0.95")
    ax.set_aspect(1)
    for side in ax.spines.values():
        side.set(color="0.7", linestyle=(0, (4, 3)))
    short = textwrap.shorten(reason, 260, placeholder=" …")
    ax.text(0.5, 0.5, textwrap.fill(short, 30), ha="center", va="center", fontsize=6.5, color="0.25")


def flat(axes: NDArray | list[Axes] | Axes) -> list[Axes]:
    """Axes of any arrangement, one after the other."""
    return list(np.ravel(np.asarray(axes, dtype=object)))
