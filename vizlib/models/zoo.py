"""The embedded zoo: nine small classifiers from CNN to Transformer, trained alike on twenty classes.

>>> zoo.names()
['resnet', 'seresnet', 'cbam', 'convnext', 'mbconv', 'vit', 'deit', 'swin', 'hybrid']
>>> zoo.card("vit").top1            # share of the 1000 validation photos
>>> module, labels, mean, std = zoo.load("vit")

Weights and cards lie in weights/, or in the folder of a training of your own.
"""

from __future__ import annotations

import csv
import hashlib
import json
import textwrap
from dataclasses import dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse_safetensors
from torch import Tensor, nn

from vizlib.models.zoo_architectures import IMAGE_SIZE, MEMBERS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green and blue in [0, 1]
LABELS = (
    "african_elephant", "bullfrog", "espresso", "german_shepherd", "golden_retriever",
    "goldfish", "king_penguin", "ladybug", "lemon", "lighthouse",
    "lion", "monarch_butterfly", "orange", "persian_cat", "pizza",
    "school_bus", "sports_car", "tabby_cat", "teapot", "tractor",
)  # fmt: skip


@dataclass(frozen=True)
class Card:
    """What is known of a trained member; every figure is measured on the weights as they are stored."""

    name: str
    family: str  # CNN, Transformer or hybrid
    architecture: str
    parameters: int
    gmacs: float  # 10⁹ multiply-accumulates for one photo of 64 × 64
    top1: float  # share of the validation photos, in [0, 1]
    top1_interval: tuple[float, float]  # 95 %, Wilson
    top5: float
    per_class: dict[str, float]  # accuracy of each class
    ece: float  # expected calibration error, 15 bins, in [0, 1]
    photos: int  # how many the figures rest on
    dataset: str
    labels: tuple[str, ...]
    recipe: dict[str, Any]
    seed: int
    epochs: int  # trained; the recipe's are those of the learning rate's schedule
    duration_s: float
    hardware: str
    command: str
    sha256: str  # of the weights file

    def __str__(self) -> str:
        low, high = (f"{100 * end:.1f}" for end in self.top1_interval)
        classes = [f"{name} {share:.0%}" for name, share in sorted(self.per_class.items(), key=lambda item: -item[1])]
        size = f"{IMAGE_SIZE} × {IMAGE_SIZE}"
        lines = {
            "": f"{self.family}: {self.architecture}",
            "size": f"{self.parameters:,} parameters, {self.gmacs:.3f} GMACs for a photo of {size}",
            "top-1": f"{self.top1:.1%} (95 % interval {low} – {high}) of {self.photos} validation photos",
            "top-5": f"{self.top5:.1%}",
            "calibration": f"expected calibration error {self.ece:.1%}",
            "classes": ", ".join(classes),
            "confusion": f"weights/{self.name}.confusion.csv, or vl.zoo.confusion({self.name!r})",
            "photos": self.dataset,
            "recipe": ", ".join(f"{key} {value}" for key, value in self.recipe.items()),
            "trained": f"{self.epochs} epochs, seed {self.seed}, {self.duration_s / 60:.0f} min on {self.hardware}",
            "command": self.command,
            "sha256": self.sha256,
        }
        wrapped = (textwrap.wrap(text, 100, subsequent_indent=" " * 14) for text in lines.values())
        return f"zoo/{self.name}\n" + "\n".join(
            f"{key:14}" + "\n".join(text) for key, text in zip(lines, wrapped, strict=True)
        )


def names() -> list[str]:
    """Return the names of all members, trained or not, from CNN to Transformer."""
    return list(MEMBERS)


def trained() -> list[str]:
    """Return the names of the members whose weights are here."""
    return [name for name in MEMBERS if (_weights() / f"{name}.safetensors").is_file()]


def build(name: str, classes: int = len(LABELS), **options: Any) -> nn.Module:
    """Return a member with random weights.

    Args:
        name: one of `names()`, with or without "zoo/" before it.
        classes: how many classes it tells apart.
        options: `drop_path`, `layer_scale`; see `zoo_architectures`.
    """
    return MEMBERS[_known(name)].build(classes, **options)


def card(name: str, folder: Path | None = None) -> Card:
    """Return the card of a trained member.

    Args:
        name: one of `names()`.
        folder: where its weights and card lie; default: the weights that come with the library.

    Raises:
        ValueError: if there is no member of this name.
        RuntimeError: if it is not trained yet.
    """
    name = _known(name)
    text = json.loads(_read(folder, f"{name}.json", name))
    for field in ("labels", "top1_interval"):
        text[field] = tuple(text[field])
    return Card(**{field.name: text[field.name] for field in fields(Card)})


def confusion(name: str, folder: Path | None = None) -> Tensor:
    """Return how many validation photos of a class (row) a trained member called a class (column).

    Args:
        name: one of `names()`.
        folder: where its files lie; default: the weights that come with the library.

    Returns:
        (classes, classes), in the order of the card's labels.

    Raises:
        ValueError: if there is no member of this name.
        RuntimeError: if it is not trained yet.
    """
    name = _known(name)
    rows = list(csv.reader(_read(folder, f"{name}.confusion.csv", name).decode().splitlines()))
    return torch.tensor([[int(count) for count in row[1:]] for row in rows[1:]])


def load(
    name: str, folder: Path | None = None
) -> tuple[nn.Module, tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Return a trained member in evaluation mode, its labels, and the mean and deviation that it expects.

    The weights are stored in half precision and come back in float32.

    Args:
        name: one of `names()`, with or without "zoo/" before it.
        folder: where its weights and card lie; default: the weights that come with the library.

    Raises:
        ValueError: if there is no member of this name.
        RuntimeError: if it is not trained yet, or its weights are not those of its card.
    """
    name = _known(name)
    about = card(name, folder)
    stored = _read(folder, f"{name}.safetensors", name)
    found = hashlib.sha256(stored).hexdigest()
    if found != about.sha256:
        raise RuntimeError(
            f"zoo/{name} needs the weights of its card, sha256 {about.sha256[:16]}…; {name}.safetensors has "
            f"{found[:16]}…. Install vizlib again, or train the network again."
        )
    module = assemble(name, stored, len(about.labels), about.recipe["layer_scale"])
    return module, about.labels, MEAN, STD


def assemble(name: str, stored: bytes, classes: int, layer_scale: float) -> nn.Module:
    """Return a member in evaluation mode with the weights of a safetensors file, in float32."""
    module = build(name, classes, layer_scale=layer_scale or None)
    weights = parse_safetensors(stored)
    module.load_state_dict({key: _single(value) for key, value in weights.items()})
    return module.eval()


def _known(name: str) -> str:
    short = name.removeprefix("zoo/")
    if short not in MEMBERS:
        raise ValueError(f"the zoo needs one of its members' names; got {name!r}. Take one of: {', '.join(MEMBERS)}.")
    return short


def _weights() -> Traversable:
    return resources.files("vizlib.models") / "weights"


def _read(folder: Path | None, file: str, name: str) -> bytes:
    where = folder or _weights()
    try:
        return (where / file).read_bytes()
    except FileNotFoundError:
        raise RuntimeError(
            f"zoo/{name} needs {file} in {where}; there is none: not trained yet, or lost. "
            f"Train it (vizlib train {name} --data DIR), or install vizlib again if it came with it."
        ) from None


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
