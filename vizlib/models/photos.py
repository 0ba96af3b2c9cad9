"""Folders of photos for training and for measuring accuracy, decoded once and kept in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from vizlib.models.recipe import Recipe
from vizlib.models.zoo import MEAN, STD
from vizlib.models.zoo_architectures import IMAGE_SIZE


class Photos(Dataset):
    """The photos in ROOT/CLASS/, shrunk to a shorter side of 64 pixels: (3, h, w) and the class's index."""

    def __init__(self, root: Path, transform: Callable[[Image.Image], Tensor]) -> None:
        """Read all photos; `transform` runs every time one is taken.

        Raises:
            ValueError: if there is no such folder, or no folder of photos in it.
        """
        try:
            folder = ImageFolder(root, loader=_load_small)
        except FileNotFoundError as error:
            raise ValueError(f"a data set needs photos in {root}/CLASS/; {error}. Name another folder.") from error
        self.classes: list[str] = folder.classes
        self.labels: list[int] = folder.targets
        self.images: list[Image.Image] = [folder[i][0] for i in range(len(folder))]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def _load_small(path: str) -> Image.Image:
    with Image.open(path) as image:
        photo = image.convert("RGB")
    if min(photo.size) <= IMAGE_SIZE:
        return photo
    return v2.functional.resize(photo, [IMAGE_SIZE], antialias=True)


def augmentation(recipe: Recipe) -> Callable[[Image.Image], Tensor]:
    """Return timm's training transform: crop, flip, RandAugment, normalisation, random erasing."""
    crops = recipe.crop_scale < 1
    return create_transform(
        IMAGE_SIZE,
        is_training=True,
        scale=(recipe.crop_scale, 1.0),
        ratio=(3 / 4, 4 / 3) if crops else (1.0, 1.0),
        hflip=recipe.flip,
        color_jitter=None,
        auto_augment=recipe.randaugment or None,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        re_prob=recipe.random_erasing,
    )


def preprocessing() -> v2.Compose:
    """Return what a photo goes through outside training: shorter side to 64, centre crop, normalisation."""
    return v2.Compose(
        [
            v2.Resize(IMAGE_SIZE, antialias=True),
            v2.CenterCrop(IMAGE_SIZE),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
