"""What every metric of faithfulness is given: photographs, maps at pixel resolution, and batched runs of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor

from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier

Make = Callable[[Tensor, Tensor], Tensor]
Scale = Literal["probability", "log-probability", "logit"]
# On a processor: the activations of more outgrow what its allocator keeps, so that every page is fetched anew.
AT_ONCE_ON_CPU = 8


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Maps to judge, beside the photographs and the classifier that they speak about.

    Attributes:
        x: (b, c, h, w), prepared.
        maps: (b, h, w) in float32, at pixel resolution, signed.
        target: (b,) the class whose score is followed.
        batch: how many images go through the model at once, at most.
        again: makes the maps (b, h, w) of other photographs for the same targets, by the same method.
        masks: (b, h, w), True where the object lies; None where this is not known.
        seed: of everything that is drawn.
    """

    clf: Classifier
    x: Tensor
    maps: Tensor
    target: Tensor
    batch: int
    again: Callable[[Tensor, Tensor], Tensor]
    masks: Tensor | None = None
    seed: int = 0

    def parts(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images, or their numbers, in the parts that go through the model at once."""
        return images.split(min(self.batch, AT_ONCE_ON_CPU) if self.x.device.type == "cpu" else self.batch)

    @torch.no_grad()
    def scores(self, steps: int, make: Make, scale: Scale = "probability") -> Tensor:
        """The target's score on images made from each photograph: (b, steps), in float32.

        Batches run over photographs and steps alike, so that they are full whatever the number of either.

        Args:
            make: indices of photographs (m,) and of steps (m,) -> images (m, c, h, w).
            scale: of the score; log-probabilities do not underflow.
        """
        found = []
        every = torch.arange(len(self.x) * steps, device=self.x.device)
        with unchanged(self.clf.module):
            for part in self.parts(every):
                photo, step = part // steps, part % steps
                out = logits_of(self.clf.module(make(photo, step).to(self.x.dtype))).float()
                if scale != "logit":
                    out = out.softmax(1) if scale == "probability" else out.log_softmax(1)
                found.append(out.gather(1, self.target[photo, None])[:, 0])
        return torch.cat(found).view(len(self.x), steps)

    def generator(self) -> torch.Generator:
        """The same draws on every device, for every map."""
        return torch.Generator().manual_seed(self.seed)


def must_count(least: int, **given: Any) -> None:
    """Raises ValueError where one of the numbers is not a whole number of at least `least`."""
    for name, number in given.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
            raise ValueError(
                f"{name} needs a whole number of at least {least}; got {number!r}. Give one, or leave {name} out."
            )


def shares_of(shares: Any) -> Tensor:
    """Shares of the places, each above 0 and below 1: (n,).

    Raises:
        ValueError: something else, or none.
    """
    try:
        found = torch.as_tensor(shares, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        found = torch.zeros(0)
    if found.ndim != 1 or not len(found) or not bool(((found > 0) & (found < 1)).all()):
        raise ValueError(f"shares need a tuple of numbers between 0 and 1; got {shares!r}. Take (0.1, 0.3, 0.5).")
    return found


def ranks(maps: Tensor, seed: int = 0) -> Tensor:
    """The place of every pixel among those of its map, 0 the largest value: (b, h, w) -> (b, h, w).

    Equal values come in random order, the same for every map: in reading order, a map with large flat parts would be
    judged by the upper edge of the photograph.
    """
    flat = maps.flatten(1)
    n = flat.shape[1]
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(maps.device)
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(n, device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view_as(maps)
