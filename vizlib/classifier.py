"""The classifier: a model together with what its photographs need."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn

from vizlib import data
from vizlib.running import logits_of, unchanged


@dataclass(frozen=True, eq=False, repr=False)
class Classifier:
    """A model together with what its photographs need: size, normalisation, class names.

    Calling it gives logits (b, classes), in evaluation mode, without gradients; the module's own flags stay.
    """

    module: nn.Module
    name: str
    transform: Callable[[Any], Tensor]  # PIL image -> (c, h, w), normalised
    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    labels: tuple[str, ...] | None = None
    frames: int = 0  # of a clip (b, t, c, h, w); 0 for a classifier of photographs

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self._tensors() if p.is_floating_point()), torch.float32)

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.module.parameters()
        yield from self.module.buffers()

    def prepare(self, photos: Any) -> Tensor:
        """Photographs to the model's input (b, c, h, w), on its device, in its dtype.

        Args:
            photos: a path, PIL image, array or uint8 tensor, or a list of them; a float tensor (b, c, h, w) is taken
                as already preprocessed. For a classifier of clips, the frames of one clip in a list, or a list of
                such lists; a float tensor is (b, t, c, h, w).

        Raises:
            ValueError: a photograph cannot be read, or a tensor has the wrong shape or is not finite.
        """
        if isinstance(photos, Tensor) and photos.is_floating_point():
            return self._as_given(photos)
        if not self.frames:
            x = torch.stack([self.transform(photo) for photo in data.open_photos(photos)])
            return x.to(self.device, self.dtype)
        clips = photos if isinstance(photos, list) and photos and isinstance(photos[0], list) else [photos]
        opened = [data.open_photos(clip) for clip in clips]
        if any(len(clip) != self.frames for clip in opened):
            got = ", ".join(str(len(clip)) for clip in opened)
            raise ValueError(f"{self.name} needs clips of {self.frames} frames each, as lists; got {got} frames.")
        x = torch.stack([torch.stack([self.transform(frame) for frame in clip]) for clip in opened])
        return x.to(self.device, self.dtype)

    def _as_given(self, x: Tensor) -> Tensor:
        shape = ("b", "t", "c", "h", "w") if self.frames else ("b", "c", "h", "w")
        if x.ndim != len(shape) or x.shape[-3] != self.input_size[0]:
            raise ValueError(
                f"a preprocessed batch needs shape ({', '.join(shape)}) with {self.input_size[0]} channels; got "
                f"{tuple(x.shape)}. Add the batch axis with x[None], or pass the photograph itself."
            )
        if not len(x):
            raise ValueError(f"a photograph is needed; got an empty batch {tuple(x.shape)}. Pass at least one.")
        if not bool(x.isfinite().all()):
            bad = (~x.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
            raise ValueError(
                f"a preprocessed batch needs finite numbers; photograph {', '.join(map(str, bad))} holds NaN or "
                f"infinity. Leave it out, or look where they come from."
            )
        return x.to(self.device, self.dtype)

    def picture(self, x: Tensor) -> Tensor:
        """The model's input as an image (b, 3, h, w) in [0, 1]; a clip as a strip (b, 3, t·h, w)."""
        if x.ndim == 5:
            x = x.transpose(1, 2).flatten(2, 3)
        mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (x.detach().float() * std + mean).clamp(0, 1)

    def label(self, index: int) -> str:
        return self.labels[index] if self.labels and 0 <= index < len(self.labels) else f"class {index}"

    def index(self, target: int | str, classes: int | None = None) -> int:
        """The class index of a label or an index.

        Raises:
            ValueError: no such class.
        """
        count = len(self.labels) if self.labels else classes
        if isinstance(target, str):
            if target in (self.labels or ()):
                return (self.labels or ()).index(target)
            raise ValueError(_no_such_label(self, target))
        index = int(target)
        if count is not None and not 0 <= index < count:
            raise ValueError(f"a class index from 0 to {count - 1} is needed; got {index}. Or name a label.")
        return index

    def must_name(self, classes: int) -> None:
        """Raises ValueError where the model turns out to have another number of classes than it has labels."""
        if self.labels is not None and len(self.labels) != classes:
            raise ValueError(
                f"one label a class is needed; {self.name} gives {classes} logits and was loaded with "
                f"{len(self.labels)} labels. Name every class in labels=…, in the order of the logits."
            )

    @contextmanager
    def fed(self, x: Tensor) -> Iterator[None]:
        """Around a run on x: what the model raises is told together with the input's size, which is often the reason.

        Raises:
            ValueError: the model raised on an input of another size than its own.
        """
        try:
            yield
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            got, own = tuple(x.shape[-3:]), self.input_size
            memory = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
            if memory or not _raised_by_a_model(error):
                raise
            if got == own:
                error.add_note(
                    f"{self.name} was run on {got}, its input_size. If it needs another, pass input_size to vl.load."
                )
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(
                f"{self.name} needs inputs of {own}; got {got}, which it cannot take: {reason.rstrip('.')}. Pass the "
                f"photograph itself, which is brought to that size, or load the model with input_size={got}."
            ) from error

    @torch.no_grad()
    def __call__(self, photos: Any) -> Tensor:
        x = self.prepare(photos)
        with unchanged(self.module), self.fed(x):
            logits = logits_of(self.module(x))
        self.must_name(logits.shape[1])
        return logits

    def __repr__(self) -> str:
        classes = f"{len(self.labels)} labels" if self.labels else "no labels"
        size = " × ".join(map(str, self.input_size))
        return (
            f"Classifier {self.name!r}: {type(self.module).__name__}, {classes}, input {size}, "
            f"{str(self.dtype).removeprefix('torch.')} on {self.device}"
        )


def must_be_classifier(clf: Any, what: str) -> None:
    """Raises TypeError where `what` was asked for with something else: a module, a name."""
    if not isinstance(clf, Classifier):
        raise TypeError(f"{what} needs a Classifier; got {type(clf).__name__}. Use vl.load(…) first.")


def _raised_by_a_model(error: Exception) -> bool:
    """And not by what watches it: heads or gates that are not there."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    room = frame.f_globals.get("__name__", "")
    return not room.startswith("vizlib.") or room.startswith("vizlib.models.")


def _no_such_label(clf: Classifier, target: str) -> str:
    if not clf.labels:
        return f"{clf.name} has no label names; got {target!r}. Pass a class index, or labels=… to vl.load."
    near = difflib.get_close_matches(target, clf.labels, 3, 0.3) or list(clf.labels[:3])
    return f"a label of {clf.name} is needed; got {target!r}. Near ones: {', '.join(map(repr, near))}."
