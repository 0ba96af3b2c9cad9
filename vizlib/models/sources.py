"""Where a named classifier comes from: timm, torchvision, Hugging Face, the zoo, our own architectures."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vizlib.data import imagenet_labels
from vizlib.models.hub import downloading
from vizlib.models.options import understood, unknown_option
from vizlib.models.quiet import quiet
from vizlib.models.zero_shot import ZeroShot, zero_shot

Labels = tuple[str, ...] | None


@dataclass(frozen=True)
class Request:
    """What of a named classifier was asked for."""

    name: str  # as given, source included
    trained: bool  # fetch the published weights
    num_classes: int | None
    input_size: tuple[int, int, int] | None
    labels: tuple[str, ...] | None = None  # of a zero-shot classifier: the texts that it tells apart
    options: dict[str, Any] = field(default_factory=dict)  # of its builder

    def no_weights(self) -> ValueError:
        return ValueError(
            f"{self.name} needs weights; none are published where it comes from. "
            f"Pass weights=FILE for a local file, or pretrained=False for random weights."
        )

    def unknown(self, known: Iterable[str], source: str) -> ValueError:
        name = self.name.partition("/")[2]
        known = list(known)
        near = difflib.get_close_matches(name, known, 5, 0.5) or sorted(known)[:5]
        names = ", ".join(f"{source}/{n}" for n in near)
        return ValueError(f"a classifier of {source} is needed; got {self.name!r}. Near ones: {names}.")


@dataclass(frozen=True)
class Found:
    """A module and what is known about its photographs."""

    module: nn.Module
    photos: dict[str, Any]  # timm's names: input_size, mean, std, interpolation, crop_pct, crop_mode
    labels: Labels = None
    transform: Callable[[Image.Image], Tensor] | None = None  # where the source brings its own
    frames: int = 0  # of a clip; 0 for a classifier of photographs


def from_timm(name: str, ask: Request) -> Found:
    import timm
    from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

    architecture, tag = split_model_name_tag(name)
    if not is_model(architecture):
        raise ask.unknown(timm.list_models(), "timm")
    if tag and name not in (tagged := timm.list_models(f"{architecture}.*", include_tags=True)):
        raise ask.unknown(tagged, "timm")
    cfg = get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    if ask.trained and not cfg.has_weights:
        raise ask.no_weights()
    options: dict[str, Any] = {"num_classes": ask.num_classes} if ask.num_classes else {}
    if ask.input_size:
        options["in_chans"] = ask.input_size[0]
        if cfg.fixed_input_size:
            options["img_size"] = ask.input_size[1:]
    options |= ask.options
    with understood(ask.name, ask.options, timm.models.model_entrypoint(architecture)):
        if ask.trained:
            with downloading(ask.name, "" if cfg.hf_hub_id else cfg.url):
                module = timm.create_model(name, pretrained=True, **options)
        else:
            module = timm.create_model(name, **options)
    labels = cfg.label_names or imagenet_labels(ask.num_classes or cfg.num_classes)
    return Found(module, photos_of_timm(module), labels and tuple(labels))


def photos_of_timm(module: nn.Module) -> dict[str, Any]:
    """What the photos of a module made by timm need, at the size and channels it was built with."""
    from timm.data import resolve_model_data_config
    from timm.models import get_model_input_config

    return resolve_model_data_config(module) | {"input_size": get_model_input_config(module)["input_size"]}


def from_torchvision(name: str, ask: Request) -> Found:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ask.unknown(known, "torchvision")
    published = models.get_model_weights(name).DEFAULT
    options: dict[str, Any] = ({"num_classes": ask.num_classes} if ask.num_classes else {}) | ask.options
    with understood(ask.name, ask.options, models.get_model_builder(name)):
        if ask.trained:
            with downloading(ask.name, published.url):
                module = models.get_model(name, weights=published, **options)
        else:
            module = models.get_model(name, **options)
    seen = published.transforms()
    side = ask.options.get("image_size", seen.crop_size[0])
    photos = {
        "input_size": (3, side, side),
        "mean": tuple(seen.mean),
        "std": tuple(seen.std),
        "interpolation": seen.interpolation.value,
        "crop_pct": seen.crop_size[0] / seen.resize_size[0],
    }
    return Found(module, photos, imagenet_labels(ask.num_classes or 1000))


class Unfit(ValueError):
    """What was found could be read, but is no classifier as it stands."""


def from_hf(name: str, ask: Request) -> Found:
    folder = Path(name).is_dir()
    if not folder and not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name):
        raise ValueError(f"a folder or a repository, 'hf/OWNER/NAME', is needed; {name!r} is neither. Check the path.")
    with quiet(), _folder(name) if folder else downloading(ask.name):
        try:
            from transformers import AutoConfig, AutoImageProcessor
        except ImportError as error:
            raise RuntimeError(f"{ask.name} needs transformers: pip install 'vizlib[hf]'") from error
        options = ({"num_labels": ask.num_classes} if ask.num_classes else {}) | ask.options
        config, unused = AutoConfig.from_pretrained(name, return_unused_kwargs=True, **options)
        processor = AutoImageProcessor.from_pretrained(name)
        module = _hf_module(name, config, ask)
    for option in unused:
        raise unknown_option(ask.name, option, config.to_dict())
    transform = ProcessorTransform(processor)
    photos = {
        "input_size": tuple(transform(Image.new("RGB", (640, 480))).shape),
        "mean": tuple(processor.image_mean) if processor.do_normalize else (0.0, 0.0, 0.0),
        "std": tuple(processor.image_std) if processor.do_normalize else (1.0, 1.0, 1.0),
        "crop_pct": 1.0,
        "crop_mode": "center" if getattr(processor, "do_center_crop", False) else "squash",
    }
    frames = getattr(config, "num_frames", 0)
    labels = ask.labels if isinstance(module, ZeroShot) else labels_of_config(config)
    return Found(module, photos, labels, transform, frames)


def _hf_module(name: str, config: Any, ask: Request) -> nn.Module:
    """An image classifier, a video classifier (the config counts frames) or a dual encoder (it has a text tower)."""
    import transformers

    two_towers = hasattr(config, "text_config") and hasattr(config, "vision_config")
    if two_towers:
        auto = transformers.AutoModelForZeroShotImageClassification
    elif hasattr(config, "num_frames"):
        auto = transformers.AutoModelForVideoClassification
    else:
        auto = transformers.AutoModelForImageClassification
    texts = ask.labels or ()
    if two_towers and not texts:
        raise Unfit(
            f"{ask.name} compares photographs with texts and needs the texts: the names of at least two classes. "
            f"Pass labels=['cat', 'dog', …]."
        )
    if ask.trained:
        module, report = auto.from_pretrained(name, config=config, dtype=torch.float32, output_loading_info=True)
        _refuse_random(ask, sorted(report["missing_keys"]))
    else:
        module = auto.from_config(config)
    if not two_towers:
        return module
    return zero_shot(module, transformers.AutoTokenizer.from_pretrained(name), texts)


@contextmanager
def _folder(name: str) -> Iterator[None]:
    try:
        yield
    except Unfit:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name}: an image classifier's config.json, preprocessor_config.json and weights are needed; "
            f"reading the folder gave: {str(error).strip().splitlines()[0]} Write them with save_pretrained."
        ) from error


def _refuse_random(ask: Request, missing: list[str]) -> None:
    """Transformers only warns where a part of the model has no weights, often the head, and draws it."""
    if missing:
        raise Unfit(
            f"{ask.name} needs weights for all of the classifier; {len(missing)} are not published with it "
            f"({', '.join(missing[:3])}). Take one that was trained to classify, or pretrained=False."
        )


@dataclass(frozen=True)
class ProcessorTransform:
    """A Hugging Face image processor as a function of one photo."""

    processor: Any

    def __call__(self, photo: Image.Image) -> Tensor:
        """PIL image -> (c, h, w)."""
        pixels: Tensor = self.processor(images=photo, return_tensors="pt")["pixel_values"]
        return pixels.flatten(0, -4)[0]  # a video's processor adds an axis of frames


def labels_of_config(config: Any) -> Labels:
    """The class names in a Hugging Face config, or None where they are only numbered."""
    names = getattr(config, "id2label", None) or {}
    labels = tuple(str(names[i]) for i in sorted(names))
    return None if all(label.startswith("LABEL_") for label in labels) else labels


def from_zoo(name: str, ask: Request) -> Found:
    from vizlib.models import zoo
    from vizlib.models.zoo_architectures import MEMBERS

    if name not in zoo.names():
        raise ask.unknown(zoo.names(), "zoo")
    if ask.trained:
        if ask.options:
            raise ValueError(
                f"the trained weights of {ask.name} fit its own shape; got {', '.join(ask.options)}. "
                f"Leave that out, or pass pretrained=False with it."
            )
        module, labels, mean, std = zoo.load(name)
    else:
        with understood(ask.name, ask.options, MEMBERS[name].build):
            module = zoo.build(name, ask.num_classes or len(zoo.LABELS), **ask.options)
        labels, mean, std = zoo.LABELS, zoo.MEAN, zoo.STD
    photos = {"input_size": (3, 64, 64), "mean": mean, "std": std, "crop_pct": 1.0}
    return Found(module, photos, labels if ask.num_classes in (None, len(labels)) else None)


def from_architectures(name: str, ask: Request) -> Found:
    from vizlib.models.architectures.registry import architectures, build

    if name not in architectures():
        raise ask.unknown(architectures(), "arch")
    row = architectures()[name]
    options = dict(ask.options)
    for option in options:
        if option not in row.options:
            raise unknown_option(ask.name, option, row.options)
    if ask.trained:
        raise ask.no_weights()
    if ask.input_size and ask.input_size[0] != 3:
        raise ValueError(f"{ask.name} takes 3 channels; got input_size={ask.input_size}. Pass (3, rows, columns).")
    if ask.input_size and row.fixed_size:
        options.setdefault("image_size", ask.input_size[1:])
    size = options.get("image_size", row.input_size)
    photos = {
        "input_size": (3, *((size, size) if isinstance(size, int) else size)),
        "crop_pct": row.crop,
        "interpolation": row.interpolation,
    }
    module = build(name, **({"num_classes": ask.num_classes} if ask.num_classes else {}) | options)
    return Found(module, photos, imagenet_labels(ask.num_classes or 1000))


SOURCES: dict[str, Callable[[str, Request], Found]] = {
    "timm": from_timm,
    "torchvision": from_torchvision,
    "hf": from_hf,
    "zoo": from_zoo,
    "arch": from_architectures,
}
