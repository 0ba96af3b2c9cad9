"""Class activation maps that perturb: Score-CAM and Ablation-CAM, through the grad-cam package.

The package makes the masked photographs and silences the channels; the layer, its layout in the image and the
targets come from here, so that they need no configuration. The logits of every run are kept as they pass by:
one set of runs serves all targets, and what the package does with scores afterwards (dividing by a logit that
may be negative, stretching maps to [0, 1]) is left out.

Every function takes `module`; `x` (b, c, h, w); `scores`, for each photograph a function from logits (m,
classes) to the targets' scores (m, t); `activation` (b, c, r, s) of a layer and the `layout` of its output;
and returns signed maps (b, t, r, s). `batch` is how many images go through the model at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from vizlib.capture.layout import Layout
from vizlib.running import logits_of, unchanged

Score = Callable[[Tensor], Tensor]


def scorecam(
    module: nn.Module,
    x: Tensor,
    scores: Sequence[Score],
    activation: Tensor,
    layout: Layout,
    *,
    batch: int = 16,
) -> Tensor:
    """Score-CAM: Σ_c w_c A_c, w the softmax over channels of the score on x ⊙ mask_c, A_c scaled to [0, 1].

    Source: Wang et al. 2020, Score-CAM, arXiv 1910.01279.
    Deviation: without the final ReLU; the score on a baseline is not subtracted, which no softmax would
        notice. The grad-cam package enlarges A_c with its corner cells' centres on the image's corners.
    """
    from pytorch_grad_cam import ScoreCAM, score_cam

    maps = []
    with unchanged(module), _quiet(score_cam):
        package = ScoreCAM(_Logits(module, x.dtype), [])
        package.batch_size = batch
        for photo, score, features in zip(x, scores, activation, strict=True):
            seen = _Record()
            for part in features.split(batch):  # a call of the package holds c masked photographs
                package.get_cam_weights(photo[None], None, [seen], part[None].cpu().numpy(), None)
            weight = score(seen.logits()).softmax(0)
            maps.append(torch.einsum("ct,crs->trs", weight.to(features), features))
    return torch.stack(maps)


def ablationcam(
    module: nn.Module,
    x: Tensor,
    scores: Sequence[Score],
    activation: Tensor,
    layout: Layout,
    *,
    batch: int = 16,
) -> Tensor:
    """Ablation-CAM: Σ_c w_c A_c, w_c how far the score falls when channel c is set to 0 at all patches.

    Source: Desai, Ramaswamy 2020, Ablation-CAM, WACV, doi 10.1109/WACV45572.2020.9093360.
    Deviation: without the final ReLU and without dividing by the score, which only scales the map where the
        score is positive and would turn its sign elsewhere. The grad-cam package's own layer sets channels
        that can be negative to -1e7 instead of 0, and knows two layouts.
    """
    from pytorch_grad_cam import AblationCAM, ablation_cam

    maps = []
    layer = module.get_submodule(layout.path)
    silenced = _Silenced(layout)
    with unchanged(module), _quiet(ablation_cam), _put_back(module, layer, silenced):
        package = AblationCAM(_Logits(module, x.dtype), [], ablation_layer=silenced, batch_size=batch)
        for i, (score, features) in enumerate(zip(scores, activation, strict=True)):
            seen, silenced.photo = _Record(), i
            package.get_cam_weights(x[i : i + 1], layer, [seen], features[None].cpu().numpy(), None)
            whole, without = score(seen.logits()).tensor_split([1])
            maps.append(torch.einsum("ct,crs->trs", (whole - without).to(features), features))
    return torch.stack(maps)


class _Logits(nn.Module):
    """The classifier as the package wants it: a module that returns logits, of any input dtype."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.module(x.to(self.dtype)))

    def train(self, mode: bool = True) -> _Logits:
        return self  # the package calls eval(); `unchanged` keeps the flags


class _Record:
    """A target for the package that keeps the logits of every image it is shown."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def __call__(self, row: Tensor) -> Tensor:
        self.rows.append(row)
        return row.new_ones(())  # the package makes weights of this, which nobody reads

    def logits(self) -> Tensor:
        return torch.stack(self.rows).to(torch.promote_types(self.rows[0].dtype, torch.float32))


class _Silenced(nn.Module):
    """Stands in for the layer while its channels are set to 0 one by one: an AblationLayer for any layout."""

    indices: np.ndarray  # the channels that are still to come; the package moves on through them
    output: Any
    photo: int = 0

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def activations_to_be_ablated(self, activations: np.ndarray, ratio: float) -> np.ndarray:
        self.indices = np.arange(len(activations))
        return self.indices

    def set_next_batch(self, input_batch_index: int, activations: Any, num_channels_to_ablate: int) -> None:
        self.output = tree_map_only(
            Tensor, lambda t: t.repeat(num_channels_to_ablate, *[1] * (t.ndim - 1)), activations
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        maps = self.layout.pick(self.output).movedim(self.layout.channels, 1)
        copies = torch.arange(len(maps))
        channels = torch.from_numpy(self.indices[: len(maps)])
        maps[copies, channels] = maps[copies, channels].masked_fill(self._patches(maps), 0)
        return self.output

    def _patches(self, maps: Tensor) -> Tensor:
        """Which places hold patches: prefix tokens keep their channels."""
        tokens = self.layout.tokens
        if tokens is None:
            return maps.new_ones((), dtype=torch.bool)
        index = tokens.index[min(self.photo, len(tokens.index) - 1), 0]
        return (index >= tokens.prefix).to(maps.device)


@contextmanager
def _put_back(module: nn.Module, layer: nn.Module, stand_in: nn.Module) -> Iterator[None]:
    """The layer back in its place and without the package's hook, also when the model raised in between."""
    from pytorch_grad_cam.utils.find_layers import replace_layer_recursive

    hooks = set(layer._forward_hooks)
    try:
        yield
    finally:
        replace_layer_recursive(module, stand_in, layer)
        for left in set(layer._forward_hooks) - hooks:
            del layer._forward_hooks[left]


@contextmanager
def _quiet(source: ModuleType) -> Iterator[None]:
    """No progress bar per photograph: whoever loops over photographs shows one."""
    with patch.object(source, "tqdm", SimpleNamespace(tqdm=iter)):
        yield
