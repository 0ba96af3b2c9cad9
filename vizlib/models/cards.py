"""Write a trained network as the zoo keeps it: weights in half precision, and a card of what was measured."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from vizlib.models import zoo
from vizlib.models.accuracy import Accuracy, accuracy
from vizlib.models.photos import Photos
from vizlib.models.recipe import Recipe
from vizlib.models.zoo_architectures import IMAGE_SIZE, MEMBERS


def export(
    name: str, weights: dict[str, Tensor], photos: Photos, recipe: Recipe, folder: Path, **about: Any
) -> zoo.Card:
    """Write NAME.safetensors, NAME.json and NAME.confusion.csv, and return the card.

    Every figure of the card is measured on the weights as they are stored, on the processor, in float32.

    Args:
        name: the member.
        weights: its state dict.
        photos: the validation photos, without augmentation.
        recipe: how it was trained.
        folder: where the files go.
        about: what only the training knows: epochs, dataset, duration_s, hardware, command.
    """
    stored = save({key: _half(value) for key, value in weights.items()})
    module = zoo.assemble(name, stored, len(photos.classes), recipe.layer_scale)
    found = measure(module, photos)
    card = zoo.Card(
        name=name,
        family=MEMBERS[name].family,
        architecture=MEMBERS[name].architecture,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        gmacs=gmacs(module),
        photos=found.photos,
        top1=found.top1,
        top1_interval=found.top1_interval,
        top5=found.top5,
        ece=found.ece,
        per_class=dict(zip(photos.classes, found.per_class.tolist(), strict=True)),
        labels=tuple(photos.classes),
        recipe=dataclasses.asdict(recipe),
        seed=recipe.seed,
        sha256=hashlib.sha256(stored).hexdigest(),
        **about,
    )
    text = json.dumps(dataclasses.asdict(card), indent=2) + "\n"
    write_whole(folder / f"{name}.safetensors", stored)
    write_whole(folder / f"{name}.confusion.csv", _table(photos.classes, found.confusion).encode())
    write_whole(folder / f"{name}.json", text.encode())
    return card


def measure(module: nn.Module, photos: Photos) -> Accuracy:
    """Return the accuracy of a network in evaluation mode, on the device where it is."""
    device = next(module.parameters()).device
    with torch.inference_mode():
        logits = [module(batch.to(device)).float().cpu() for batch, _ in DataLoader(photos, batch_size=100)]
    return accuracy(torch.cat(logits), torch.tensor(photos.labels))


def gmacs(module: nn.Module) -> float:
    """Return 10⁹ multiply-accumulates, half the counted operations, of one 64 × 64 photo.

    Attention is counted as its two products: the counter does not know the fused kernel of every device.
    """
    still = copy.deepcopy(module).eval().requires_grad_(False)
    photo = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        still(photo)
    return counter.get_total_flops() / 2 / 1e9


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _half(value: Tensor) -> Tensor:
    return (value.half() if value.is_floating_point() else value).cpu().contiguous()


def _table(classes: list[str], confusion: Tensor) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, confusion.tolist(), strict=True))
    return text.getvalue()
