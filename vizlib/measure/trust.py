"""Is a heatmap any better than maps that know nothing? Judged on the spot, so that the answer stands under the picture.

One statistic, insertion − deletion in squares, ranked among those of random maps: a map that knows nothing is better
than all 19 of them in one of twenty cases (p = 1/20).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from vizlib.measure.faithfulness import centre, faithfulness
from vizlib.types import Classifier, Heatmap

DRAWS = 19  # random maps
SQUARES = STEPS = 8  # as in the benchmark of the zoo
BASELINE = "blur"
METRICS = ("deletion", "insertion")
FLAT = 1e-5  # range over largest |value|, below which the order of the squares is that of rounding errors
Scores = dict[str, Tensor]
Judge = Callable[[Heatmap], Heatmap]


def judge(clf: Classifier, x: Tensor, *, seed: int = 0) -> Judge:
    """A function that judges heatmaps of photographs x (b, c, h, w), each map by itself.

    It puts into a heatmap's notes, (b,) each: `deletion` and `insertion`; the same of random maps, in the mean, and of
    the centre Gaussian (`random deletion`, `centre deletion`, …); `p`, the share of the 20 maps, this one and 19 random
    ones, whose insertion − deletion is as high as this one's or higher, from 0.05 to 1; `beats centre`, 1 or 0. Of a
    map that is the same in all squares every score is NaN, and it beats nothing.

    What random maps and the centre Gaussian score is found once for each size of map and each class that is followed,
    about 360 images through the model per photograph, and serves all maps; a map itself takes about 20.

    Args:
        seed: of the random maps, which are uniform noise in cells as coarse as the map's.

    Raises:
        ValueError: by the function, of maps that `faithfulness` does not take, or of a score of the user's own.
    """

    @cache
    def chance(size: tuple[int, ...], classes: tuple[int, ...]) -> tuple[Scores, Scores]:
        """Scores of the random maps (19, b) and of the centre Gaussian (1, b)."""
        each = list(zip(x.split(1), classes, strict=True))
        return _of_each(clf, each, partial(_noise, size, seed)), _of_each(clf, each, centre)

    def judged(heatmap: Heatmap) -> Heatmap:
        if heatmap.target is None and heatmap.score is not None:
            raise ValueError(
                "a class whose probability is followed is needed; this map speaks about a score of your own. Name a "
                "class as target."
            )
        target = clf(x).argmax(1) if heatmap.target is None else heatmap.target.to(x.device)
        own = _scores(clf, x, replace(heatmap, target=target))
        random, middle = chance(tuple(heatmap.values.shape[-2:]), tuple(target.tolist()))
        reached = (_difference(random) >= _difference(own)).sum(0)
        notes = own | {f"random {name}": random[name].mean(0) for name in METRICS}
        notes |= {f"centre {name}": middle[name][0] for name in METRICS} | {"p": (1 + reached) / (1 + DRAWS)}
        flat = _flat(heatmap, x)
        notes = {name: note.masked_fill(flat, torch.nan) for name, note in notes.items()}
        notes["beats centre"] = ((_difference(own) > _difference(middle)[0]) & ~flat).float()
        return replace(heatmap, notes=heatmap.notes | notes)

    return judged


def _noise(size: tuple[int, ...], seed: int, photo: Tensor) -> Tensor:
    """Other random maps (19, r, s) for every photograph, the same whenever it is looked at.

    With the same ones for all photographs, a set that happens to be poor would let too many maps pass everywhere.
    """
    own = crc32(photo.float().cpu().numpy().tobytes())
    return torch.rand(DRAWS, *size, generator=torch.Generator().manual_seed(seed + own)).to(photo.device)


def _of_each(clf: Classifier, photos: list[tuple[Tensor, int]], make: Callable[[Tensor], Tensor]) -> Scores:
    """What the maps (d, r, s) that are made for a photograph score on it: (d, b)."""
    found = []
    for photo, target in photos:
        maps = make(photo)
        alike, picture = (t.expand(len(maps), -1, -1, -1) for t in (photo, clf.picture(photo)))
        classes = torch.full((len(maps),), target, device=photo.device)
        found.append(_scores(clf, alike, Heatmap(maps, picture, "", clf.name, classes)))
    return {name: torch.stack([scores[name] for scores in found], 1) for name in METRICS}


def _scores(clf: Classifier, x: Tensor, heatmap: Heatmap) -> Scores:
    options: dict[str, Any] = {"steps": STEPS, "cells": SQUARES, "baseline": BASELINE}
    return {name: faithfulness(clf, x, heatmap, name, draws=0, **options).value for name in METRICS}


def _difference(scores: Scores) -> Tensor:
    return scores["insertion"] - scores["deletion"]


def _flat(heatmap: Heatmap, x: Tensor) -> Tensor:
    """Whether a map is the same in all squares: (b,)."""
    squares = F.adaptive_avg_pool2d(heatmap.pixels((x.shape[-2], x.shape[-1])), SQUARES).flatten(1)
    return squares.amax(1) - squares.amin(1) <= FLAT * squares.abs().amax(1)
