"""Whether the map's values add up to what the model does when several places are taken away together."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.measure.baselines import Baseline, baseline_of
from vizlib.measure.evaluation import Evaluation
from vizlib.running import logits_of, unchanged

CELLS = 16  # places are squares of a 16 × 16 grid: single pixels hardly move a logit
SHARES = (0.02, 0.05, 0.1, 0.2, 0.4)


def sensitivity_n(
    ask: Evaluation,
    *,
    shares: tuple[float, ...] = SHARES,
    samples: int = 20,
    subsets: Tensor | None = None,
    baseline: Baseline = "grey",
) -> Tensor:
    """Correlation between the sum of the map over random subsets of n places and the logit's fall without them: (b,).

    Pearson's, for every n, then the mean over the n; 1 where the map adds up as the model does.

    Args:
        shares: each n as a share of the places.
        samples: subsets for each n.
        subsets: (n, samples, h, w) bool, subsets of your own, in place of the drawn ones.
        baseline: what stands in their place.

    Source: Ancona et al. 2018, Towards Better Understanding of Gradient-based Attribution Methods, arXiv 1711.06104.
        With one n and single pixels it is the faithfulness correlation of Bhatt et al. 2020, arXiv 2005.00631.
    Deviation: places are the squares of a 16 × 16 grid, and the n are averaged.
    """
    if subsets is None:
        subsets = torch.stack([_drawn(ask, samples, share) for share in shares])
    gone = subsets.flatten(0, 1).to(ask.x.device)
    hidden = baseline_of(ask.clf, ask.x, baseline)
    whole = torch.zeros_like(gone[:1])

    def make(photo: Tensor, step: Tensor) -> Tensor:
        return torch.where(torch.cat([whole, gone])[step, None], hidden[photo], ask.x[photo])

    score = ask.scores(1 + len(gone), make, logits=True).double()
    falls = (score[:, :1] - score[:, 1:]).unflatten(1, subsets.shape[:2])
    sums = torch.einsum("bhw,nshw->bns", ask.maps.double(), subsets.to(ask.maps.device, torch.float64))
    return _pearson(sums, falls).mean(1).float()


def infidelity(
    ask: Evaluation,
    *,
    samples: int = 50,
    share: float = 0.2,
    normalise: bool = True,
    perturb: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    baseline: Baseline = "grey",
) -> Tensor:
    """Mean squared difference between the map's sum over what is taken away and the logit's fall: (b,), by Captum.

    Args:
        samples: random subsets of places, as in `sensitivity_n`.
        share: of the places in each.
        normalise: scale each map by the factor that fits best, so that its unit does not matter.
        perturb: images (m, c, h, w) -> what multiplies the map (m, c, h, w), and the images without it.
        baseline: what stands in the places.

    Source: Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, arXiv 1901.09392.
    """
    from captum.metrics import infidelity as by_captum

    hidden, channels = baseline_of(ask.clf, ask.x, baseline), ask.x.shape[1]
    masks = iter(_drawn(ask, samples, share).to(ask.x.device))

    def taken(images: Tensor) -> tuple[Tensor, Tensor]:  # Captum repeats every photograph next to itself
        each = len(images) // len(ask.x)
        mask = torch.stack(list(islice(masks, each))).repeat(len(ask.x), 1, 1)[:, None]
        return mask.expand_as(images).float(), torch.where(mask, hidden.repeat_interleave(each, 0), images)

    def forward(images: Tensor) -> Tensor:
        parts = ask.parts(images.to(ask.x.dtype))
        return torch.cat([logits_of(ask.clf.module(part)).float() for part in parts])

    with unchanged(ask.clf.module), torch.no_grad():
        found = by_captum(
            forward,
            perturb or taken,
            ask.x,
            (ask.maps / channels)[:, None].expand_as(ask.x),  # their sum over the channels is the map
            target=ask.target,
            n_perturb_samples=samples,
            max_examples_per_batch=len(ask.x) * min(samples, -(-ask.batch // len(ask.x))),
            normalize=normalise,
        )
    return found.float()


def _drawn(ask: Evaluation, samples: int, share: float) -> Tensor:
    """Random subsets of the places, (samples, h, w) bool: the same for every photograph and every map."""
    if not 0 < share < 1:
        raise ValueError(f"a subset holds a share of the places between 0 and 1; got {share}. Take 0.2.")
    h, w = ask.x.shape[-2:]
    grid = min(CELLS, h), min(CELLS, w)
    count = grid[0] * grid[1]
    order = torch.rand(samples, count, generator=ask.generator()).argsort(1).argsort(1)
    chosen = (order < max(1, round(share * count))).view(samples, 1, *grid).float()
    return F.interpolate(chosen, (h, w), mode="nearest")[:, 0] > 0


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation over the last axis; 0 where one of the two does not vary."""
    a, b = (t - t.mean(-1, keepdim=True) for t in (a, b))
    norm = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norm > 0, (a * b).sum(-1) / norm.clamp_min(1e-300), 0)
