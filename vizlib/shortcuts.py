"""Rendered pictures with a planted shortcut: which pixels are the object and which the give-away mark is known.

Real photo sets hide such marks (a watermark on one class, a ruler beside one diagnosis); here one is put in, so that
tools which claim to find it can be tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("disc", "square", "triangle", "star")
MARKED_CLASS = "star"
_SHARE = {"class": 1.0, "chance": 0.5, "always": 1.0, "never": 0.0}  # of the photographs that may carry the mark
_STICKER = np.array([[250, 230, 40], [200, 20, 160]])  # yellow and magenta, checked

Split = Literal["train", "test"]
Mark = Literal["class", "chance", "always", "never"]
Place = Literal["corner", "anywhere"]


@dataclass(frozen=True, eq=False)
class Shortcuts:
    """Labelled pictures of one object each, some with a mark.

    Attributes:
        images: (n, h, w, 3) uint8.
        labels: (n,) index into `classes`.
        objects: (n, h, w) bool, the pixels of the object that can be seen.
        marks: (n, h, w) bool, the pixels of the mark; none where there is no mark.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    objects: NDArray[np.bool_]
    marks: NDArray[np.bool_]
    classes: tuple[str, ...] = CLASSES

    @property
    def marked(self) -> NDArray[np.bool_]:
        """(n,) which pictures carry the mark."""
        return np.any(self.marks, axis=(1, 2))

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """The picture's file below the folder that `save` writes."""
        return f"{self.classes[self.labels[index]]}/{index:05d}.png"

    def save(self, folder: str | Path) -> Path:
        """Write the pictures as FOLDER/CLASS/NUMBER.png and return the folder."""
        folder = Path(folder)
        for index, pixels in enumerate(self.images):
            path = folder / self.name(index)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return folder


def shortcuts(
    n: int = 1000,
    seed: int = 0,
    *,
    split: Split = "train",
    mark: Mark | None = None,
    place: Place = "corner",
    bare: bool = False,
    size: int = 64,
) -> Shortcuts:
    """Render labelled pictures: a disc, square, triangle or star on a textured ground, some with a small sticker.

    In training the sticker goes with one class (every star, nothing else); in the test it says nothing (half of
    every class). A classifier that learns the sticker is right in training and wrong in the test, and since the
    pixels of object and sticker are known, so is whether a heatmap shows it.

    Args:
        n: how many; the classes take turns. The first m of n pictures are those of n = m.
        seed: of everything random. The two splits of a seed share no picture.
        split: which pictures.
        mark: where the sticker is: "class", on stars only; "chance", on half of all; "always"; "never". Default:
            "class" in training, "chance" in the test. The pictures without it are the same to the bit, so that its
            effect can be measured.
        place: where the sticker is put: into a corner, or anywhere, on the object too.
        bare: leave out the objects and their shadows. The rest is the same to the bit.
        size: rows and columns in pixels.

    Raises:
        ValueError: no picture asked for, pictures too small to tell a star from a disc, or an unknown split, mark or
            place.
    """
    mark = mark or ("class" if split == "train" else "chance")
    known = split in get_args(Split) and mark in _SHARE and place in get_args(Place)
    if n < 1 or size < 16 or not known:
        raise ValueError(
            f"shortcuts needs n ≥ 1, size ≥ 16, split 'train' or 'test', mark 'class', 'chance', 'always' or 'never' "
            f"and place 'corner' or 'anywhere'; got n={n}, size={size}, split={split!r}, mark={mark!r}, "
            f"place={place!r}. Correct it."
        )
    labels = np.arange(n) % len(CLASSES)
    images = np.empty((n, size, size, 3), np.uint8)
    objects, marks = np.empty((2, n, size, size), bool)
    for i, label in enumerate(labels):
        random = np.random.default_rng([seed, int(split == "test"), i])
        image, objects[i] = _picture(CLASSES[label], size, random, bare)
        marks[i] = False
        may = mark in ("chance", "always") or CLASSES[label] == MARKED_CLASS
        # Drawn for every picture, so that "chance" marks the same share of each class and "never" changes nothing else
        if random.random() < _SHARE[mark] * may:
            marks[i] = _stick(image, random, place)
        objects[i] &= ~marks[i]
        images[i] = image
    return Shortcuts(images, labels, objects, marks)


def _picture(shape: str, size: int, random: Generator, bare: bool) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One picture (size, size, 3) and the pixels (size, size) of its object, none on bare ground."""
    ground = _texture(size, random, _colours(random, 20, 120))
    radius = size * random.uniform(0.17, 0.27)
    centre = size * random.uniform(0.36, 0.64, 2)
    turn = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size] + 0.5
    light = random.uniform(0, 2 * np.pi)

    def distance(dy: float = 0.0, dx: float = 0.0) -> NDArray:
        v, u = y - centre[0] - dy, x - centre[1] - dx
        return _distance(shape, u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn), radius)

    away = distance()
    shadow = distance(-np.sin(light) * radius * 0.2, -np.cos(light) * radius * 0.2)
    shaded = ground * (1 - 0.45 * np.clip(0.5 - shadow / (0.25 * radius), 0, 1)[..., None])
    slope = np.gradient(np.minimum(away, 0).clip(-0.35 * radius))  # the rim of the object falls away
    shade = 1 + 0.35 * (slope[0] * np.sin(light) + slope[1] * np.cos(light))
    surface = _texture(size, random, _colours(random, 130, 230)) * shade[..., None]
    cover = np.clip(0.5 - away, 0, 1)[..., None]
    scene = ground if bare else shaded + cover * (surface - shaded)
    image = scene + random.normal(0, 5, (size, size, 1))
    return image.clip(0, 255).astype(np.uint8), (away < 0) & (not bare)


def _distance(shape: str, x: NDArray, y: NDArray, radius: float) -> NDArray:
    """Distance in pixels to the outline, negative inside; the shapes have about the same area for a radius."""
    if shape == "disc":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.89 * radius
    corners = 3 if shape == "triangle" else 5
    reach = (1.5 if shape == "triangle" else 1.45) * radius
    # Every sector between a corner and the notch beside it is folded onto one; its side is a straight line
    angle = abs((np.arctan2(y, x) + np.pi / corners) % (2 * np.pi / corners) - np.pi / corners)
    u, v = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    depth = 0.5 if shape == "triangle" else 0.45  # of a notch, as a share of a corner's reach
    notch = depth * reach * np.array([np.cos(np.pi / corners), np.sin(np.pi / corners)])
    side = notch - [reach, 0.0]
    return ((u - reach) * side[1] - v * side[0]) / np.hypot(*side)


def _texture(size: int, random: Generator, colours: NDArray) -> NDArray:
    """(size, size, 3): two colours mixed by noise of several grain sizes."""
    noise = np.zeros((size, size))
    start = random.integers(2, 6)
    for octave in range(4):
        coarse = Image.fromarray(random.normal(size=(start << octave,) * 2).astype(np.float32))
        noise += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) * 0.6**octave
    mixed = 1 / (1 + np.exp(-1.5 * noise))[..., None]
    return colours[0] + mixed * (colours[1] - colours[0])


def _colours(random: Generator, low: float, high: float) -> NDArray:
    """Two related colours (2, 3); objects are lighter than grounds, so that small networks learn shapes in a minute."""
    first = random.uniform(low, high, 3)
    return np.stack([first, (first + random.uniform(-50, 50, 3)).clip(low, high)])


def _stick(image: NDArray[np.uint8], random: Generator, place: Place) -> NDArray[np.bool_]:
    """Put the sticker into the picture and return its pixels (size, size)."""
    size = len(image)
    cell = max(size // 32, 1)
    side = 4 * cell
    near = cell + random.integers(2 * cell, size=2)
    corner = np.where(random.random(2) < 0.5, near, size - side - near)
    top, left = corner if place == "corner" else random.integers(0, size - side, 2, endpoint=True)
    checks = (np.indices((side, side)) // cell).sum(0) % 2
    image[top : top + side, left : left + side] = _STICKER[checks]
    covered = np.zeros((size, size), bool)
    covered[top : top + side, left : left + side] = True
    return covered
