"""Whether the map stays when the photograph hardly changes."""

from __future__ import annotations

import torch
from torch import Tensor

from vizlib.measure.evaluation import Evaluation


def stability(ask: Evaluation, *, samples: int = 5, radius: float = 0.05) -> Tensor:
    """Max-sensitivity: the largest ‖map(x + ε) − map(x)‖ / ‖map(x)‖ over noise ε, uniform in ± radius: (b,).

    Args:
        samples: draws of ε.
        radius: in the model's input units (0.05 is about 3 grey levels of 255 at ImageNet's deviations).

    Source: Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, arXiv 1901.09392, section 4.
    """
    generator, largest = ask.generator(), torch.zeros(len(ask.x), device=ask.x.device)
    size = ask.maps.flatten(1).norm(dim=1)
    for _ in range(samples):
        noise = radius * (2 * torch.rand(ask.x.shape, generator=generator) - 1)
        moved = ask.again(ask.x + noise.to(ask.x), ask.target) - ask.maps
        largest = torch.maximum(largest, moved.flatten(1).norm(dim=1) / size)
    return largest
