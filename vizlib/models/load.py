"""One call that makes a Classifier of a name or a module."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from timm.data import create_transform
from torch import nn
from torchvision.transforms import Compose, Grayscale

from vizlib import data
from vizlib.models.sources import SOURCES, Found, Request, labels_of_config, photos_of_timm
from vizlib.models.weight_files import load_weights
from vizlib.types import Classifier

Size = tuple[int, int, int]


def load(
    source: str | nn.Module,
    *,
    pretrained: bool | None = None,
    weights: str | PathLike[str] | None = None,
    num_classes: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    input_size: int | Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop_pct: float | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
    **options: Any,
) -> Classifier:
    """A classifier with the preprocessing and the class names of its own configuration.

    A module of yours is used as it is: not moved, not switched to evaluation mode, not copied. What its
    photos need is read from the configuration that timm's and Hugging Face's modules carry; else they are
    scaled to (3, 224, 224) and by ImageNet's mean and deviation, unless told otherwise here.

    Args:
        source: "timm/NAME" (tags included), "torchvision/NAME", "hf/REPO" or "hf/FOLDER", "zoo/NAME",
            "arch/NAME", or a module that maps (b, c, h, w) to logits (b, classes). A model without a head
            (DINO, CLIP's image tower) has its features in place of logits.
        pretrained: the published weights, the default; False: random ones.
        weights: a local file instead, safetensors or a PyTorch file of tensors, with the module's own names.
        num_classes: another size of the head, for random weights or those of a file.
        device: "cpu", "cuda", "cuda:1", "mps"; default: the first GPU there is. A module stays where it is.
        dtype: e.g. "bfloat16", "float16"; default: float32. A module stays what it is.
        input_size: (c, h, w) in pixels, or the side of a square in colour.
        mean, std: of each channel, for pixel values in [0, 1].
        crop_pct: share of the photo's shorter side that the model gets to see.
        labels: class names in the order of the logits; for a dual encoder (CLIP, ALIGN …) the texts to tell apart.
        name: what the classifier is called in tables and pictures.
        options: of the builder: e.g. drop_path_rate, img_size of timm's; fields of Hugging Face's configuration;
            image_size, keep, projected … of `vl.architectures()["…"].options`.

    Raises:
        ValueError: no such classifier, option, device, file …; the message names near ones or what to do.
        RuntimeError: the weights cannot be fetched, or a package is missing.
    """
    size = (3, input_size, input_size) if isinstance(input_size, int) else input_size
    given = _checked({"input_size": size, "mean": mean, "std": std, "crop_pct": crop_pct})
    if isinstance(source, nn.Module):
        others = {"pretrained": pretrained, "weights": weights, "num_classes": num_classes} | options
        _refuse_changes(source, device, dtype, **others)
        found, called = _from_module(source), type(source).__name__
    elif isinstance(source, str):
        trained = _trained(source, pretrained, weights, num_classes)
        called, ask = source, Request(source, trained, num_classes, given.get("input_size"), _texts(labels), options)
        found = _from_name(source, ask)
        if weights is not None:
            load_weights(found.module, Path(weights).expanduser())
        found.module.eval().to(device=_device(device), dtype=floating(dtype))
    else:
        raise TypeError(f"a name like 'timm/resnet50' or a module is needed; got {type(source).__name__}.")
    photos = _checked({"input_size": (3, 224, 224)} | _colours(found.photos | given) | found.photos | given)
    return Classifier(
        found.module,
        name or called,
        _transform(photos) if given or found.transform is None else found.transform,
        tuple(photos["input_size"]),
        tuple(photos["mean"]),
        tuple(photos["std"]),
        _labels(found, labels),
        found.frames,
    )


def load_all(models: Any) -> dict[str, Classifier]:
    """Classifiers by a name that is theirs alone.

    Args:
        models: names as in `load`, modules or classifiers: one, a list, or a dict, which gives the names.

    Raises:
        ValueError: an empty list, or as `load`.
    """
    if isinstance(models, dict):
        return {name: clf if isinstance(clf, Classifier) else load(clf) for name, clf in models.items()}
    several = list(models) if isinstance(models, list | tuple) else [models]
    if not several:
        raise ValueError("a model is needed; got an empty list. Name at least one, e.g. 'zoo/vit'.")
    found = [clf if isinstance(clf, Classifier) else load(clf) for clf in several]
    return dict(zip(data.distinct([clf.name for clf in found]), found, strict=True))


def _texts(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if labels is None or isinstance(labels, str) else tuple(map(str, labels))


def _from_name(name: str, ask: Request) -> Found:
    source, _, rest = name.partition("/")
    if Path(name, "config.json").is_file():
        return SOURCES["hf"](name, ask)
    if source not in SOURCES or not rest:
        known = ", ".join(f"{known}/…" for known in SOURCES)
        raise ValueError(
            f"a source and a name are needed, like 'timm/resnet50'; got {name!r}. Begin with one of: {known}."
        )
    return SOURCES[source](rest, ask)


def _from_module(module: nn.Module) -> Found:
    if getattr(module, "pretrained_cfg", None):
        return Found(module, photos_of_timm(module))
    config = getattr(module, "config", None)
    size = getattr(config, "image_size", None)
    photos = {}
    if size:
        high, wide = (size, size) if isinstance(size, int) else size
        photos["input_size"] = (getattr(config, "num_channels", 3), high, wide)
    return Found(module, photos, labels_of_config(config), frames=getattr(config, "num_frames", 0))


def _trained(name: str, pretrained: bool | None, weights: Any, num_classes: int | None) -> bool:
    """Whether the published weights are wanted."""
    if pretrained and weights is not None:
        raise ValueError(f"{name} takes one set of weights; got pretrained=True and weights. Leave one out.")
    trained = pretrained is not False and weights is None
    if trained and num_classes is not None:
        raise ValueError(
            f"the published weights of {name} have a head of their own; got num_classes={num_classes}. "
            f"Pass weights=FILE or pretrained=False with it, or leave it out."
        )
    return trained


def _refuse_changes(
    module: nn.Module,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    **others: Any,
) -> None:
    tensor = next(module.parameters(), torch.empty(0))
    wrong = [name for name, value in others.items() if value is not None]
    if device is not None and not _is_on(tensor.device, device):
        wrong.append(f"device={device}")
    if dtype is not None and floating(dtype) != tensor.dtype:
        wrong.append(f"dtype={dtype}")
    if wrong:
        raise ValueError(
            f"a module is used as it is, on {tensor.device} in {tensor.dtype}; got {', '.join(wrong)}. "
            f"Change it first: module.to(…), module.load_state_dict(…)."
        )


def _colours(photos: dict[str, Any]) -> dict[str, Any]:
    """ImageNet's mean and deviation, where nothing better is known and the channels are red, green and blue."""
    channels = photos.get("input_size", (3,))[0]
    lacking = [name for name in ("mean", "std") if name not in photos]
    if channels != 3 and lacking:
        raise ValueError(
            f"{' and '.join(lacking)} are needed for {channels} channel{'s' if channels > 1 else ''}, one number each, "
            f"as in training; none were given, and ImageNet's are of three. Pass e.g. mean={(0.5,) * channels}, "
            f"std={(0.5,) * channels}."
        )
    return {"mean": Classifier.mean, "std": Classifier.std}


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, checked."""
    given = {k: v for k, v in given.items() if v is not None}
    size = given.get("input_size", (3, 1, 1))
    if not isinstance(size, Sequence) or len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size):
        raise ValueError(f"input_size is (channels, rows, columns) or one side; got {size!r}. Pass e.g. (3, 224, 224).")
    for key in ("mean", "std"):
        values = tuple(given.get(key, (1.0,) * size[0]))
        if len(values) != size[0] or (key == "std" and min(values) <= 0):
            rule = f"one number for each of {size[0]} channels" + (", above 0," if key == "std" else "")
            raise ValueError(f"{key}: {rule} is needed; got {values}. Pixel values lie in [0, 1].")
    if given.get("crop_pct", 1.0) <= 0:
        raise ValueError(f"crop_pct is a share above 0; got {given['crop_pct']}. At 1 nothing is cut off.")
    return given


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        found = torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch asserts that it was built for CUDA
        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        raise ValueError(
            f"a device is needed; {str(device)!r} is not there. A GPU is called 'cuda' (NVIDIA, AMD) or 'mps' (Apple); "
            f"here there is {' and '.join(repr(name) for name, there in here.items() if there)}. Leave device out to "
            f"take the best."
        ) from error
    return found.device


def _is_on(there: torch.device, asked: str | torch.device) -> bool:
    """Whether a device is the one asked for; "cuda" asks for any GPU."""
    return there.type == _device(asked).type and torch.device(asked).index in (None, there.index)


def floating(dtype: str | torch.dtype | None) -> torch.dtype:
    """A floating-point dtype, also by its name; None is float32.

    Raises:
        ValueError: no such dtype, or not one of floating point.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype or torch.float32
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"a floating-point dtype is needed; got {dtype!r}. Take 'float32' or 'bfloat16'.")
    return found


def _labels(found: Found, labels: Sequence[str] | None) -> tuple[str, ...] | None:
    if labels is None:
        return found.labels
    classes = getattr(found.module, "num_classes", None) or len(labels)
    if isinstance(labels, str) or len(labels) != classes:
        raise ValueError(f"{classes} labels are needed, one a class; got {len(labels)}. Name every class.")
    return tuple(map(str, labels))


def _transform(photos: dict[str, Any]) -> Compose:
    """PIL image (RGB) -> (c, h, w), as timm prepares it for evaluation."""
    compose = create_transform(**photos, is_training=False)
    return Compose([Grayscale(), *compose.transforms]) if photos["input_size"][0] == 1 else compose
