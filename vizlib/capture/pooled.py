"""A photograph as the model's own feature vector: what is alike to the model lies close together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from vizlib.capture.taps import layout
from vizlib.capture.target import cam_layer
from vizlib.types import Classifier


@contextmanager
def pooled_features(clf: Classifier, x: Tensor) -> Iterator[list[Tensor]]:
    """Collects, from every run of the model inside, the mean over places of the class-activation layer, (b, c) each.

    Args:
        x: (b, c, h, w), prepared: what the runs will be given.

    Raises:
        RuntimeError: the model has no layer on a grid that its head reads.
    """
    where = layout(clf, x, cam_layer(clf, x))
    found: list[Tensor] = []

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        found.append(where.features(output).detach().mean((-2, -1)))

    handle = clf.module.get_submodule(where.path).register_forward_hook(hook)
    try:
        yield found
    finally:
        handle.remove()
