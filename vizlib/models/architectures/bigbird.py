"""BigBird: each token looks at its neighbours, at a few tokens drawn at random, and at the global ones.

Paper: Zaheer, Guruganesh, Dubey, Ainslie, Alberti, Ontanon, Pham, Ravula, Wang, Yang, Ahmed 2020, "Big
Bird: Transformers for Longer Sequences", arXiv 2007.14062.

    ATTN(X)ᵢ = softmax( Q(xᵢ) K(X_N(i))ᵀ / √d ) V(X_N(i)),  N(i) the tokens that i looks at:
    N(i) = window of i ∪ r random tokens ∪ g global tokens;  for a global token, all

Deviations: an image has two axes, so the window is a square of cells and not a stretch of the sequence;
the class token is the only global one (the paper's "extended" construction); the pattern is drawn token
by token, once, and not in blocks. It is a mask on exact attention: it shows the pattern, but takes the
full matrix's memory and time.

The pattern fixes the grid: a model takes the image size it was built for and no other.

Shapes: b batch, a heads, n tokens (class token, then the grid row by row), d channels of a head, r s grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def bigbird_mask(grid: tuple[int, int], window: int, random: int, generator: torch.Generator) -> Tensor:
    """Who looks at whom: (n, n) bool with n = 1 + r·s, rows the queries.

    Args:
        grid: (r, s).
        window: side of the square of cells round each cell, odd.
        random: patches outside the window that each patch looks at.
        generator: on the CPU.
    """
    row, column = torch.meshgrid(*(torch.arange(size, device="cpu") for size in grid), indexing="ij")
    row, column = row.flatten(), column.flatten()  # (r·s,) each
    far = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())  # (r·s, r·s)
    near = far <= window // 2
    lots = torch.rand(near.shape, generator=generator, device="cpu").masked_fill(near, -1)
    drawn = torch.zeros_like(near).scatter(1, lots.topk(random, 1).indices, True)
    return F.pad(near | drawn, (1, 0, 1, 0), value=True)  # class token: row and column


class BigBirdAttention(nn.Module):
    """Attention along a fixed sparse pattern.

    Args:
        grid: (r, s) of the patches.
        window: side of the square of cells round each cell, odd.
        random: patches outside the window that each patch looks at.
        seed: of the draw.

    Raises:
        ValueError: the window is even.
    """

    mask: Tensor

    def __init__(self, grid: tuple[int, int], window: int = 3, random: int = 6, *, seed: int = 0) -> None:
        if window % 2 == 0:
            raise ValueError(f"a window has a middle, its side is odd; got {window}. Pass e.g. window=3.")
        super().__init__()
        mask = bigbird_mask(grid, window, random, torch.Generator("cpu").manual_seed(seed))
        self.register_buffer("mask", mask.to(torch.get_default_device()))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (b, a, n, d) -> (b, a, n, d).

        Raises:
            ValueError: another number of tokens than the pattern has.
        """
        self._check(k)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)

    def implied_matrix(self, q: Tensor, k: Tensor) -> Tensor:
        """The matrix applied to v, 0 outside the pattern: q, k (b, a, n, d) -> (b, a, n, n)."""
        self._check(k)
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5  # (b, a, n, n)
        return scores.masked_fill(~self.mask, float("-inf")).softmax(-1)

    def _check(self, k: Tensor) -> None:
        if k.shape[2] != len(self.mask):
            raise ValueError(
                f"this BigBird pattern has {len(self.mask)} tokens; got {k.shape[2]}. "
                "Resize the image, or build the model with image_size=(rows, columns) of yours."
            )
