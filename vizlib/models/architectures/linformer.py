"""Linformer: keys and values are projected along the sequence, so that a query looks at k mixtures of tokens.

Paper: Wang, Li, Khabsa, Fang, Ma 2020, "Linformer: Self-Attention with Linear Complexity", arXiv 2006.04768.

    head = softmax( Q (E K)ᵀ / √d ) · (F V),  E, F learned, (k, n), the same for all heads of a layer

Time and memory are O(n·k) and not O(n²). Each row over the k mixtures sums to 1; the implied weights over
the n tokens are that row times F, which may be negative and need not sum to 1.

The projection fixes the number of tokens: a model takes the image size it was built for and no other.

Shapes: b batch, a heads, n tokens, d channels of a head, k projected keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LinformerAttention(nn.Module):
    """Attention over projected keys and values.

    Args:
        tokens: n, class token included.
        projected: k.
    """

    def __init__(self, tokens: int, projected: int = 64) -> None:
        super().__init__()
        self.key_projection = nn.Parameter(torch.randn(projected, tokens) * tokens**-0.5)
        self.value_projection = nn.Parameter(torch.randn(projected, tokens) * tokens**-0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q, k, v (b, a, n, d) -> (b, a, n, d).

        Raises:
            ValueError: another number of tokens than the projections have.
        """
        return F.scaled_dot_product_attention(q, self._project(k), self.value_projection @ v)

    def implied_matrix(self, q: Tensor, k: Tensor) -> Tensor:
        """softmax(Q (E K)ᵀ / √d) F, the matrix applied to v: q, k (b, a, n, d) -> (b, a, n, n)."""
        scores = q @ self._project(k).transpose(2, 3) * q.shape[-1] ** -0.5  # (b, a, n, k)
        return scores.softmax(-1) @ self.value_projection

    def _project(self, k: Tensor) -> Tensor:
        n = self.key_projection.shape[1]
        if k.shape[2] != n:
            raise ValueError(
                f"this Linformer projects {n} tokens; got {k.shape[2]}. "
                "Resize the image, or build the model with image_size=(rows, columns) of yours."
            )
        return self.key_projection @ k  # (b, a, k, d)
