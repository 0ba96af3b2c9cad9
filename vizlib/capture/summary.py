"""What a classifier is made of, and what stands in the way of each kind of method."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vizlib.capture.anatomy import Anatomy, study
from vizlib.capture.steps import steps_of
from vizlib.capture.target import cam_layer
from vizlib.types import UNSEEN, Classifier

Family = Literal["CNN", "Transformer", "hybrid", "MLP", "RNN"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
RECURRENT = (nn.RNNBase,)


def probe(clf: Classifier, size: tuple[int, int] | None = None) -> Tensor:
    """Noise (1, c, h, w), or a clip of it, to run a classifier on: what it is made of depends on no photograph."""
    channels, *own = clf.input_size
    shape = (1, *([clf.frames] if clf.frames else []), channels, *(size or own))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return noise.to(clf.device, clf.dtype)


def family(clf: Classifier, size: tuple[int, int] | None = None) -> Family:
    """What a classifier is by what it contains.

    With attention it is a Transformer, or a hybrid if it has at least two convolutions that reach beyond their stride
    and mix channels (one is a patch embedding), or as many depthwise ones as attention operations. Without, it is a CNN
    if any convolution reaches beyond its stride, else an RNN or an MLP. A softmax that only pools places into one
    vector (global context) is no attention here, and attention that is written without softmax is not seen.
    """
    anatomy = study(clf, probe(clf, size))
    operations = sum(s.kind != "pooling" or s.outputs.index.shape[-1] > 1 for s in anatomy.sites.values())
    wide = [m for m in clf.module.modules() if isinstance(m, CONVOLUTIONS) and _reaches(m)]
    mixing = sum(m.groups < m.in_channels for m in wide)
    if operations:
        return "hybrid" if mixing > 1 or len(wide) - mixing >= operations else "Transformer"
    if wide:
        return "CNN"
    return "RNN" if any(isinstance(m, RECURRENT) for m in clf.module.modules()) else "MLP"


def _reaches(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    return any(k > s for k, s in zip(module.kernel_size, module.stride, strict=True))


def obstacles(clf: Classifier, x: Tensor) -> dict[str, str]:
    """Why a kind of method does not apply to a classifier at this input size, "" where it does.

    Args:
        x: (b, c, h, w), prepared.

    Returns:
        Reasons for "cam" (all that need a layer with a grid), "rollout" (all that carry mass back) and "attention".
    """
    anatomy = study(clf, x)
    try:
        cam_layer(clf, x)
        cam = ""
    except RuntimeError as error:
        cam = str(error)
    return {"cam": cam, "rollout": steps_of(anatomy)[1], "attention": _no_picture(anatomy)}


def _no_picture(anatomy: Anatomy) -> str:
    if any(s.keys.grid for s in anatomy.sites.values()):
        return ""
    kinds = sorted({s.kind for s in anatomy.sites.values()})
    return f"its attention is {' and '.join(kinds)}: no keys in the image" if kinds else f"it has {UNSEEN}"
