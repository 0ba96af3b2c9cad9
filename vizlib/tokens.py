"""Where the tokens of an operation lie in the image, and how mass moves between two token grids."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of an operation, g groups of n slots, on a regular grid of image cells.

    Cell (i, j) of the grid (r, s) covers rows i/r … (i+1)/r and columns j/s … (j+1)/s of the image. A slot of the
    operation holds a prefix token (class, distillation, register), a patch or padding; several slots may hold the
    same patch (overlapping neighbourhoods), and a patch may be in no slot (pruned tokens).

    Attributes:
        grid: (r, s), or None where the tokens have no place in the image (channels, latent queries).
        prefix: number of prefix tokens p.
        index: (1 or b, g, n) long; -1 padding, 0 … p-1 prefix tokens, p + i·s + j the patch in cell (i, j).
    """

    grid: tuple[int, int] | None
    prefix: int
    index: Tensor = field(repr=False)

    @property
    def facts(self) -> str:
        """Slots, grid and prefix tokens, in words."""
        where = f"grid {self.grid[0]} × {self.grid[1]}" if self.grid else "no places"
        return f"{self.index.shape[-1]} ({where}{f', prefix {self.prefix}' if self.prefix else ''})"

    @property
    def count(self) -> int:
        """Distinct tokens: p + r·s."""
        return self.prefix + (self.grid[0] * self.grid[1] if self.grid else 0)

    def gather(self, mass: Tensor) -> Tensor:
        """Mass per token (b, p + r·s) to mass per slot (b, g, n); a token in several slots is shared between them."""
        index = self.index.expand(len(mass), -1, -1)
        slots = index.clamp(min=0).flatten(1)
        real = (index >= 0).flatten(1).to(mass.dtype)
        copies = torch.zeros_like(mass).scatter_add_(1, slots, real)
        return ((mass / copies.clamp(min=1)).gather(1, slots) * real).view_as(index)

    def scatter(self, mass: Tensor) -> Tensor:
        """Mass per slot (b, g, n) to mass per token (b, p + r·s); what lies on padding is dropped."""
        index = self.index.expand(len(mass), -1, -1)
        real = (index >= 0).to(mass.dtype)
        total = mass.new_zeros(len(mass), self.count)
        return total.scatter_add_(1, index.clamp(min=0).flatten(1), (mass * real).flatten(1))

    def present(self) -> Tensor:
        """Which tokens are in some slot: (1 or b, p + r·s) bool."""
        return self.scatter(torch.ones(self.index.shape, device=self.index.device)) > 0

    def patches(self, mass: Tensor) -> Tensor:
        """The patch part of a mass per token (b, p + r·s) as a picture (b, r, s)."""
        if self.grid is None:
            raise ValueError("a picture needs tokens with places in the image; these have none (channels or latents).")
        return mass[:, self.prefix :].unflatten(1, self.grid)

    def slots_at(self, point: tuple[float, float]) -> Tensor:
        """Which slots hold the patch at an image point (row, column) in [0, 1]: (1 or b, g, n) bool."""
        if self.grid is None:
            raise ValueError("a query point needs tokens with places in the image; these have none.")
        if not all(0 <= v <= 1 for v in point):
            raise ValueError(f"a point is (row, column) in [0, 1]; got {point}. Divide pixels by the image's size.")
        row, column = (min(int(v * n), n - 1) for v, n in zip(point, self.grid, strict=True))
        return self.index == self.prefix + row * self.grid[1] + column


@lru_cache(maxsize=256)
def _spread(source: int, target: int) -> Tensor:
    """Share of each of `source` equal intervals of [0, 1] that lies in each of `target`: (source, target)."""
    edges_s = torch.linspace(0, 1, source + 1, dtype=torch.float64)
    edges_t = torch.linspace(0, 1, target + 1, dtype=torch.float64)
    upper = torch.minimum(edges_s[1:, None], edges_t[None, 1:])
    lower = torch.maximum(edges_s[:-1, None], edges_t[None, :-1])
    return (upper - lower).clamp(min=0) * source


def regrid(mass: Tensor, source: Tokens, target: Tokens) -> Tensor:
    """Mass per token of one layout to another by area overlap of the cells; a patch's mass is all handed on.

    Prefix tokens keep their mass by order; what lies on a prefix token that the target does not have stays behind: a
    class token that enters late (CaiT) is a parameter there and came from nowhere in the image.

    Args:
        mass: (b, p + r·s) on `source`.

    Returns:
        (b, p' + r'·s') on `target`.
    """
    if source.grid == target.grid and source.prefix == target.prefix:
        return mass
    if source.grid is None or target.grid is None:
        raise ValueError("mass can only move between token grids that lie in the image.")
    patches = mass[:, source.prefix :].unflatten(1, source.grid)
    rows, columns = (_spread(n, m).to(mass.device, mass.dtype) for n, m in zip(source.grid, target.grid, strict=True))
    moved = torch.einsum("brs,ri,sj->bij", patches, rows, columns).flatten(1)
    shared = min(source.prefix, target.prefix)
    prefix = mass.new_zeros(len(mass), target.prefix)
    prefix[:, :shared] = mass[:, :shared]
    return torch.cat([prefix, moved], 1)
