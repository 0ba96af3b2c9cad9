"""How much of the picture a map needs. Neither number knows the model: a map can be simple and wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from vizlib.measure.evaluation import Evaluation

TINY = 1e-100  # far below any float32: a map of 0 has equal shares, every other map keeps its own


def sparsity(ask: Evaluation) -> Tensor:
    """Gini index of |map| over the pixels: 0 where all are alike, towards 1 where few hold everything. (b,)

    A map of 0 has 0.

    Source: Chalasani et al. 2020, Concise Explanations of Neural Networks using Adversarial Training, arXiv 1810.06583.
    """
    sizes = ask.maps.abs().flatten(1).double().sort(1).values
    n = sizes.shape[1]
    weight = 2 * torch.arange(1, n + 1, device=sizes.device) - n - 1
    return ((weight * sizes).sum(1) / (n * sizes.sum(1)).clamp_min(TINY)).float()


def complexity(ask: Evaluation) -> Tensor:
    """Entropy of each pixel's share of |map|, in nats: 0 for one pixel, ln(h w) where all are alike. (b,)

    A map of 0 has ln(h w).

    Source: Bhatt, Weller, Moura 2020, Evaluating and Aggregating Feature-based Model Explanations, arXiv 2005.00631.
    """
    sizes = ask.maps.abs().flatten(1).double() + TINY
    return torch.special.entr(sizes / sizes.sum(1, keepdim=True)).sum(1).float()
