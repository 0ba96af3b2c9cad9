"""What is left of the confidence when the photograph is shown through the map."""

from __future__ import annotations

import torch
from torch import Tensor

from vizlib.measure.baselines import Baseline, baseline_of
from vizlib.measure.evaluation import Evaluation


def average_drop(ask: Evaluation, *, baseline: Baseline = "grey") -> Tensor:
    """Share of the probability that is lost on the photograph times the map: max(0, p - p') / p, (b,) in [0, 1].

    The map's positive part is scaled to a largest value of 1; where it is 0, the baseline is seen. A map that is 1
    everywhere hides nothing and loses nothing: read it beside `deletion`.

    Source: Chattopadhay et al. 2018, Grad-CAM++, arXiv 1710.11063, section 4.1.
    Deviation: the paper multiplies pixel values, which makes what is hidden black; here it takes the baseline.
    """
    before, after = _through(ask, baseline)  # in logarithms: of a class ruled out, the probability may be 0
    return -torch.expm1((after - before).clamp_max(0))


def increase(ask: Evaluation, *, baseline: Baseline = "grey") -> Tensor:
    """1 where the probability is higher on the photograph times the map than on the photograph, else 0: (b,).

    Source, Deviation: as in `average_drop`.
    """
    before, after = _through(ask, baseline)
    return (after > before).float()


def _through(ask: Evaluation, baseline: Baseline) -> tuple[Tensor, Tensor]:
    """Log-probabilities (b,) of the photograph and of the photograph seen through its map."""
    hidden = baseline_of(ask.clf, ask.x, baseline)
    shown = ask.maps.relu()
    shown = shown / shown.amax((1, 2), keepdim=True).clamp_min(1e-30)

    def make(photo: Tensor, step: Tensor) -> Tensor:
        through = torch.lerp(hidden[photo].float(), ask.x[photo].float(), shown[photo, None])
        return torch.where(step[:, None, None, None] == 0, ask.x[photo].float(), through)

    return tuple(ask.scores(2, make, "log-probability").unbind(1))  # type: ignore[return-value]
