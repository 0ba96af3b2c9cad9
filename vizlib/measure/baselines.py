"""What stands in place of the pixels that are taken away. The baseline decides the result, so it is always told."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.types import Classifier

BLUR = 1 / 16  # standard deviation as a share of the longer side: 14 pixels of 224
WORDS = {
    "blur": "blur, σ = 1/16 of the longer side",
    "mean": "the photograph's mean colour",
    "grey": "mid-grey",
}
Baseline = str | float | Tensor


def baseline_of(clf: Classifier, x: Tensor, baseline: Baseline) -> Tensor:
    """The photographs (b, c, h, w) with everything taken away.

    Args:
        baseline: "blur" (a Gaussian blur with a deviation of 1/16 of the longer side), "mean" (each photograph's mean
            colour), "grey" (0.5 in the photograph's own range), or a number or tensor in the model's input units.

    Raises:
        ValueError: another name, or a tensor that does not broadcast to x.
    """
    if isinstance(baseline, str):
        if baseline not in WORDS:
            raise ValueError(
                f"a baseline is one of {', '.join(WORDS)}, a number or a tensor; got {baseline!r}. Take one."
            )
        if baseline == "blur":
            return blur(x, BLUR * max(x.shape[-2:]))
        if baseline == "mean":
            return x.mean((2, 3), keepdim=True).expand_as(x)
        mean, std = (torch.tensor(v, device=x.device, dtype=x.dtype).view(-1, 1, 1) for v in (clf.mean, clf.std))
        return ((0.5 - mean) / std).expand_as(x)
    given = torch.as_tensor(baseline, device=x.device, dtype=x.dtype)
    try:
        return given.expand_as(x)
    except RuntimeError:
        raise ValueError(
            f"a baseline needs a shape that broadcasts to {tuple(x.shape)}; got {tuple(given.shape)}. "
            f"Pass (c, 1, 1) for a colour or (b, c, h, w) for images."
        ) from None


def words(baseline: Baseline) -> str:
    """What a baseline is, for captions."""
    if isinstance(baseline, str):
        return WORDS.get(baseline, baseline)
    return "a tensor" if isinstance(baseline, Tensor) else f"the value {baseline:g}"


def blur(x: Tensor, deviation: float) -> Tensor:
    """Gaussian blur (b, c, h, w), in two one-dimensional passes; the edge is repeated beyond the edge."""
    reach = int(3 * deviation + 0.5)
    places = torch.arange(-reach, reach + 1, device=x.device, dtype=torch.float32)
    weight = torch.exp(-0.5 * (places / deviation) ** 2)
    weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, -1)
    wide = F.pad(x.float(), (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(wide, weight, groups=x.shape[1])
    return F.conv2d(rows, weight.transpose(2, 3), groups=x.shape[1]).to(x.dtype)
