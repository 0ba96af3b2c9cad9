"""Scores in words: how sure the mean is, and whether maps that know nothing do as well."""

from __future__ import annotations

import torch
from torch import Tensor

FEW = 6  # photographs below which an interval says nothing: to win five of five is chance in 1 of 32 cases
DRAWS = 2000
LEVEL = 0.025  # on either side
NAMES = {"random": "a random map", "centre": "a centre Gaussian"}


def interval(values: Tensor, *, share: float = 0.95, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean of values (n,), percentiles of means over photographs drawn with replacement.

    Source: Efron 1979, Bootstrap Methods, doi 10.1214/aos/1176344552.
    """
    values = values.detach().double().cpu()
    chosen = torch.randint(len(values), (draws, len(values)), generator=torch.Generator().manual_seed(seed))
    means = values[chosen].mean(1)
    low, high = means.quantile(torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64)).tolist()
    return low, high


def better(value: Tensor, reference: Tensor, higher_is_better: bool) -> bool | None:
    """Whether maps of scores (b,) are better than reference maps of scores (d, b): True, False for worse, None unknown.

    By a permutation test. If the maps were like the references, then any of a photograph's 1 + d maps could stand in
    their place: they are better where at most 1 in 40 of such swaps has a sum of scores as good as theirs or better,
    and worse where at most 1 in 40 has one as bad or worse. One photograph needs 39 references for that, two need 6,
    three need 3. From 6 photographs on, the mean of the d stands for them, so that what is compared is the mean over
    photographs and not the spread. One reference, such as the centre Gaussian, needs 6 photographs.

    Source: Fisher 1935, The Design of Experiments, section 21; Phipson, Smyth 2010, Permutation P-values Should Never
        Be Zero, arXiv 1603.05766.
    """
    others = reference if len(value) < FEW else reference.mean(0, keepdim=True)
    each = torch.cat([value[None], others]).double().cpu() * (1 if higher_is_better else -1)
    swapped = each.gather(0, _swaps(*each.shape)).sum(1)
    own, rounding = swapped[0], 1e-9 * each.abs().sum()
    if float((swapped >= own - rounding).double().mean()) <= LEVEL:
        return True
    return False if float((swapped <= own + rounding).double().mean()) <= LEVEL else None


def beats(value: Tensor, reference: Tensor, higher_is_better: bool) -> bool:
    """Whether maps of scores (b,) are shown to be better than reference maps of scores (d, b), see `better`."""
    return better(value, reference, higher_is_better) is True


def sentence(
    what: str,
    value: Tensor,
    unit: str,
    higher: bool,
    references: dict[str, float],
    outcome: dict[str, bool | None],
    *,
    flat: int = 0,
    caveat: str = "",
) -> str:
    """A score as a sentence: mean, interval, direction, references, and what follows.

    Args:
        what: metric, method, model, baseline.
        references: mean score of each.
        outcome: whether the maps are better than it, see `better`.
        flat: how many of the maps are the same everywhere.
        caveat: what the metric does not ask.
    """
    n = len(value)
    low, high = interval(value)
    spread = f" (95 %: {low:.3f} to {high:.3f})" if n >= FEW else ""
    text = f"{what}, {_photographs(n)}: {float(value.mean()):.3f}{spread} {unit}, "
    text += f"{'higher' if higher else 'lower'} is better"
    if references:
        text += "; " + ", ".join(f"{NAMES[name]} {mean:.3f}" for name, mean in references.items())
    return ". ".join(part for part in (text, _flatness(flat, n), _comparison(outcome, n), caveat) if part) + "."


def _flatness(flat: int, n: int) -> str:
    if not flat:
        return ""
    which = "The map is" if n == 1 else f"{flat} of {n} maps {'is' if flat == 1 else 'are'}"
    return f"{which} flat, the same everywhere, and {'says' if flat == 1 else 'say'} nothing"


def _comparison(outcome: dict[str, bool | None], n: int) -> str:
    won, lost, unknown = ([NAMES[n] for n, found in outcome.items() if found is way] for way in (True, False, None))
    parts = []
    if won:
        parts.append(f"Better than {' and '.join(won)}")
    if lost:
        parts.append(f"Worse than {' and '.join(lost)}")
    if unknown:
        parts.append(f"Not shown to be better than {' or '.join(unknown)} with {_photographs(n)}")
    return ". ".join(parts)


def _photographs(n: int) -> str:
    return f"{n} photograph{'' if n == 1 else 's'}"


def _swaps(maps: int, photos: int) -> Tensor:
    """Which of the maps stands in each photograph's place: (n, photos). The first row is the maps themselves.

    Every combination where they are few, else some of them drawn at random.
    """
    count = maps**photos
    if count <= DRAWS:
        return torch.arange(count)[:, None] // maps ** torch.arange(photos) % maps
    drawn = torch.randint(maps, (DRAWS, photos), generator=torch.Generator().manual_seed(0))
    return torch.cat([torch.zeros(1, photos, dtype=torch.long), drawn])
