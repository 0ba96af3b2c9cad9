"""Whether the map stays when the photograph hardly changes."""

from __future__ import annotations

import torch
from torch import Tensor

from vizlib.measure.evaluation import Evaluation, must_count


def stability(ask: Evaluation, *, samples: int = 5, radius: float = 0.05) -> Tensor:
    """Max-sensitivity: the largest ‖map(x + ε) − map(x)‖ / ‖map(x)‖ over noise ε, uniform in ± radius: (b,).

    A map of 0 that becomes another has changed by 1.

    Args:
        samples: draws of ε.
        radius: in the model's input units (0.05 is about 3 grey levels of 255 at ImageNet's deviations).

    Source: Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, arXiv 1901.09392, section 4.
    """
    must_count(1, samples=samples)
    generator, largest = ask.generator(), torch.zeros(len(ask.x), device=ask.x.device)
    size = ask.maps.flatten(1).norm(dim=1)
    for _ in range(samples):
        noise = radius * (2 * torch.rand(ask.x.shape, generator=generator) - 1)
        moved = (ask.again(ask.x + noise.to(ask.x), ask.target) - ask.maps).flatten(1).norm(dim=1)
        largest = torch.maximum(largest, torch.where(size > 0, moved / size.clamp_min(1e-30), (moved > 0).float()))
    return largest
