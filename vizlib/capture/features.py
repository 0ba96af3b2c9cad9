"""Feature maps of layers, with the way back to the image recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vizlib.capture.layout import Layout
from vizlib.capture.taps import layout
from vizlib.running import unchanged
from vizlib.types import Classifier


def features(clf: Classifier, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """What layers put out, by one forward that autograd records from the image on.

    Args:
        x: (b, c, h, w), prepared, a leaf that takes a gradient.
        layers: module paths.

    Returns:
        Layer -> (b, c, r, s) in image layout, patches only.

    Raises:
        ValueError: unknown layer, or one without a spatial grid.
    """
    layouts = [layout(clf, x, name) for name in layers]
    found: dict[str, Tensor] = {}

    def hook(item: Layout) -> Callable[..., Any]:
        def leave(_m: nn.Module, _a: Any, output: Any) -> Any:
            tensor = item.pick(output)
            found[item.path] = item.alone().features(tensor)
            return item.put(output, tensor.clone())  # a module that works in place may follow

        return leave

    modules = dict(clf.module.named_modules())
    handles = [modules[item.path].register_forward_hook(hook(item)) for item in layouts]
    try:
        with unchanged(clf.module), torch.enable_grad():
            clf.module(x * 1)  # a model may write into its input, and a leaf forbids that
    finally:
        for handle in handles:
            handle.remove()
    return found
