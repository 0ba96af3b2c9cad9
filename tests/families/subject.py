"""A classifier to look at: with random weights that are nowhere zero, and photographs that differ in one quarter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from families.sources import candidates
from torch import Tensor, nn

from vizlib.capture.taps import layout
from vizlib.capture.target import cam_layer
from vizlib.capture.trace import record
from vizlib.running import logits_of
from vizlib.types import Classifier, Trace

CORNERS = ("top left", "top right", "bottom left", "bottom right")
DRAWS = 2  # of what each corner is changed to
NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(eq=False)
class Subject:
    """A classifier and 1 + 4·DRAWS photographs: one, and others that differ from it in the quarter of each CORNER."""

    clf: Classifier
    photos: Tensor

    @cached_property
    def run(self) -> tuple[Trace, Tensor]:
        """A trace of all photographs, and the features (1 + 4·DRAWS, c, r, s) of the class-activation layer."""
        layer = cam_layer(self.clf, self.photos)
        where, kept = layout(self.clf, self.photos, layer), []
        module = self.clf.module.get_submodule(layer)
        handle = module.register_forward_hook(lambda _m, _a, output: kept.append(where.features(output).clone()))
        try:
            return record(self.clf, self.photos, start=True), kept[0]
        finally:
            handle.remove()

    @property
    def trace(self) -> Trace:
        return self.run[0]


def build(name: str, scale: int = 1) -> Subject:
    """A classifier at a non-square size where it can be built or run at one, else at its own.

    Args:
        name: of timm, or "torchvision/…" or "hf/…".
        scale: how much larger; where a token sees the whole image, a change of one quarter shows everywhere.

    Raises:
        RuntimeError: it runs at no size.
    """
    tried = ""
    for size, make in candidates(name, scale):
        torch.manual_seed(0)
        try:
            return prepare(make(), name, size)
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:  # a size that it cannot be run at
            tried = f"{size}: {error}"
    raise RuntimeError(f"{name} runs at no size that was tried; the last was {tried}")


def prepare(module: nn.Module, name: str, size: tuple[int, int]) -> Subject:
    """A module with its zeros randomised and its running statistics those of noise, and the photographs."""
    module.eval()
    randomise(module)
    photos = changed_photos(size)
    calibrate(module, photos)
    return Subject(Classifier(module, name, lambda _: photos[0], (3, *size)), photos)


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Values for what is zero or nothing at initialisation: heads, bias tables, LayerScale, last gains of branches."""
    generator = torch.Generator().manual_seed(1)
    for m in module.modules():
        if isinstance(getattr(m, "scale", None), float):  # of attention scores, so that its rows are not all alike
            m.scale *= 4
    for name, p in module.named_parameters():
        if not bool((p == p.flatten()[:1]).all()):
            if "bias_table" in name or "attention_bias" in name:
                p.copy_(torch.randn(p.shape, generator=generator))
            continue
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim > 1 and min(p.shape) > 1:
            p.copy_(noise * (0.5 if "bias" in name else p[0].numel() ** -0.5))
        elif name.endswith(("bias", "beta")):
            p.copy_(0.05 * noise)
        elif abs(float(p.flatten()[0])) < 0.2:  # what a branch adds is small, so that what is local stays so
            p.copy_(0.15 + 0.03 * noise)


@torch.no_grad()
def calibrate(module: nn.Module, photos: Tensor) -> None:
    """Running statistics of the photographs, so that deep random networks neither explode nor fall silent."""
    norms = [m for m in module.modules() if isinstance(m, NORMS) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.training, m.momentum = True, 1.0
    try:
        logits_of(module(photos))
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.training, m.momentum = False, momentum


def changed_photos(size: tuple[int, int]) -> Tensor:
    """(1 + 4·DRAWS, 3, h, w): noise at several scales, then, corner by corner, the same with stronger noise there.

    Each corner is changed DRAWS times: what one change does to a random network is partly chance.
    """
    h, w = size
    generator = torch.Generator().manual_seed(2)

    def noise() -> Tensor:
        scales = [torch.randn(1, 3, math.ceil(h / n), math.ceil(w / n), generator=generator) for n in (1, 8, 32)]
        return sum((F.interpolate(s, size) for s in scales), torch.zeros(1)) / 3**0.5

    base, others = noise(), [3 * noise() for _ in range(DRAWS)]
    photos = [base]
    for corner in range(4):
        rows, columns = quarter(size, corner)
        for other in others:
            photo = base.clone()
            photo[..., rows, columns] = other[..., rows, columns]
            photos.append(photo)
    return torch.cat(photos)


def quarter(size: tuple[int, int], corner: int) -> tuple[slice, slice]:
    """Rows and columns of the quarter of a picture at a corner."""
    (r, s), (down, right) = size, divmod(corner, 2)
    return slice(r - r // 2, r) if down else slice(0, r // 2), slice(s - s // 2, s) if right else slice(0, s // 2)
