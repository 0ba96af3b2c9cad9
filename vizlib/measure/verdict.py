"""Scores in words: how sure the mean is, and whether maps that know nothing do as well."""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 5  # photographs below which an interval says nothing
NAMES = {"random": "a random map", "centre": "a centre Gaussian"}


def interval(values: Tensor, *, share: float = 0.95, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean of values (n,), percentiles of means over photographs drawn with replacement.

    Source: Efron 1979, Bootstrap Methods, doi 10.1214/aos/1176344552.
    """
    values = values.detach().double().cpu()
    chosen = torch.randint(len(values), (draws, len(values)), generator=torch.Generator().manual_seed(seed))
    means = values[chosen].mean(1)
    low, high = means.quantile(torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)).tolist()
    return low, high


def beats(value: Tensor, reference: Tensor, higher_is_better: bool) -> bool:
    """Whether maps of scores (b,) are better than reference maps of scores (d, b), d of them per photograph.

    With 5 photographs or more: the 95 % interval of the mean difference lies above 0. With fewer: better than every
    one of the d on every photograph.
    """
    gain = (value - reference) * (1 if higher_is_better else -1)
    if len(value) < FEW:
        return bool((gain > 0).all())
    return interval(gain.mean(0))[0] > 0


def sentence(
    what: str, value: Tensor, unit: str, higher: bool, references: dict[str, float], won: dict[str, bool]
) -> str:
    """A score as a sentence: mean, interval, direction, references, and what follows.

    Args:
        what: metric, method, model, baseline.
        references: mean score of each.
        won: whether the maps beat it.
    """
    n = len(value)
    low, high = interval(value)
    spread = f" (95 %: {low:.3f} to {high:.3f})" if n >= FEW else ""
    text = f"{what}, {n} photograph{'s' if n > 1 else ''}: {float(value.mean()):.3f}{spread} {unit}, "
    text += f"{'higher' if higher else 'lower'} is better"
    if not references:
        return f"{text}."
    text += "; " + ", ".join(f"{NAMES[name]} {mean:.3f}" for name, mean in references.items()) + ". "
    return text + _comparison(won)


def _comparison(won: dict[str, bool]) -> str:
    lost = [NAMES[name] for name, better in won.items() if not better]
    beaten = [NAMES[name] for name, better in won.items() if better]
    if not lost:
        return f"Better than {' and '.join(beaten)}."
    but = f" Better than {' and '.join(beaten)}." if beaten else ""
    return f"No better than {' or '.join(lost)}.{but}"
