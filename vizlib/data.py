"""Photographs and class names: sample photos, reading any photo, the Tiny-ImageNet photo set, rendered pictures.

Nothing here needs torch.
"""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vizlib.shortcuts import Shortcuts, shortcuts
from vizlib.tiny_imagenet import tiny_imagenet20

__all__ = [
    "Shortcuts",
    "imagenet_labels",
    "open_photo",
    "open_photos",
    "photo",
    "photos",
    "shortcuts",
    "subject",
    "tiny_imagenet20",
]

# Photographs inside scikit-image's wheel: our name -> its file.
_SAMPLES = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble": "hubble_deep_field.jpg",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
# What photographs come in. Others that Pillow knows run another program (EPS) or trip over broken files.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF", "JPEG2000", "MPO", "PPM", "TGA")
_SUBJECTS = {
    "cat": ("tabby_cat", "tabby"),
    "clock": ("analog clock", "wall clock"),
    "coffee": ("espresso",),
    "rocket": ("missile", "projectile"),
}
MAX_PIXELS = 100_000_000
# What Pillow's decoders raise on broken files (found by corrupting files of each format).
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, RuntimeError, struct.error)


def photos() -> list[str]:
    """Names of the sample photographs that need no download."""
    return list(_SAMPLES)


def photo(name: str) -> Image.Image:
    """A sample photograph by name, RGB.

    Raises:
        ValueError: no sample has this name.
    """
    if name not in _SAMPLES:
        raise ValueError(f"a sample photo is needed; got {name!r}. Name one of: {', '.join(_SAMPLES)}.")
    with as_file(files("skimage") / "data" / _SAMPLES[name]) as path:
        image = open_photo(path)
    image.info["sample"] = name
    return image


def subject(name: str) -> tuple[str, ...]:
    """What a sample photograph shows, under every name that the zoo's or ImageNet's labels have for it.

    Empty: none of these classes. A classifier without any of the names can only be wrong about the photograph.
    """
    return _SUBJECTS.get(name, ())


def photo_name(photo: Any) -> str:
    """A file's name without its ending; the name of a sample photograph; else "photo"."""
    if isinstance(photo, str | Path):
        return Path(photo).stem
    return str(getattr(photo, "info", {}).get("sample", "photo"))


def distinct(names: list[str]) -> list[str]:
    """A number behind every name that came before."""
    seen = Counter[str]()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return numbered


def open_photos(photos: Any) -> list[Image.Image]:
    """One photograph, a list of them, or a batch array or tensor (b, …), as RGB images.

    Raises:
        ValueError: one of them cannot be read, or there is none.
    """
    several = isinstance(photos, list | tuple) or getattr(photos, "ndim", 0) == 4
    opened = [open_photo(p) for p in photos] if several else [open_photo(photos)]
    if not opened:
        raise ValueError("a photograph is needed; got an empty list. Pass at least one.")
    return opened


def open_photo(photo: Any) -> Image.Image:
    """Any photograph as an RGB image of 8 bits a channel, upright.

    EXIF rotation is applied, transparency is laid on white, 16-bit values are divided by 257; of an animation
    the first frame is taken.

    Args:
        photo: a path, the name of a sample photo, the bytes of an image file, a PIL image, an array (h, w),
            (h, w, 1), (h, w, 3) or (h, w, 4), or a tensor (c, h, w). Integers are pixel values in 0 … 255
            (uint16: 0 … 65535), floats lie in [0, 1].

    Raises:
        ValueError: the file is missing, broken, too large (100 megapixels) or no image, or the values do not
            fit.
        TypeError: not a photograph at all.
    """
    if isinstance(photo, Image.Image):
        return _to_rgb(photo, "the image")
    if isinstance(photo, str | os.PathLike):
        return _open_path(os.fspath(photo))
    if isinstance(photo, bytes | bytearray | memoryview):
        return _open_file(io.BytesIO(photo), "the image given as bytes")
    if isinstance(photo, np.ndarray):
        return _from_array(photo)
    if callable(getattr(photo, "detach", None)):  # a tensor, without importing torch
        return _from_array(_tensor_to_array(photo), "the tensor")
    raise TypeError(
        f"a photo is a path, PIL image, array, tensor or bytes; got {type(photo).__name__}. "
        f"Convert it, for example with PIL.Image.fromarray."
    )


def _open_path(path: str) -> Image.Image:
    if not os.path.exists(path):
        if path in _SAMPLES:
            return photo(path)
        samples = ", ".join(_SAMPLES)
        raise ValueError(f"{path[:200]}: no such file. Check the path, or name a sample: {samples}.")
    if os.path.isdir(path):
        raise ValueError(f"{path}: a photo is needed; this is a folder. Pass the files in it as a list.")
    if not os.path.isfile(path):  # a pipe or device would block for ever
        raise ValueError(f"{path}: a photo is needed; this is no regular file. Copy the photo to a file.")
    return _open_file(path, path)


def _open_file(file: str | io.BytesIO, name: str) -> Image.Image:
    try:
        Image.init()
        image = Image.open(file, formats=[f for f in _FORMATS if f in Image.OPEN])
    except UnidentifiedImageError:
        empty = not (file.getbuffer().nbytes if isinstance(file, io.BytesIO) else os.path.getsize(file))
        found = "it is empty" if empty else f"it is none of {', '.join(_FORMATS)}"
        raise ValueError(f"{name}: an image file is needed; {found}. Save it as JPEG or PNG.") from None
    except Image.DecompressionBombError:
        raise ValueError(_too_large(name)) from None
    except PermissionError:
        raise ValueError(f"{name}: the file may not be read. Change its permissions.") from None
    except _BROKEN as error:
        raise ValueError(_broken(name, error)) from None
    with image:
        return _to_rgb(image, name)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.width * image.height >= MAX_PIXELS:
        raise ValueError(_too_large(name, image.size))
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode in ("F", "I") or image.mode.startswith("I;"):
            return _from_array(np.asarray(image), name)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except _BROKEN as error:
        raise ValueError(_broken(name, error)) from None


def _from_array(array: np.ndarray, name: str = "the array") -> Image.Image:
    """An array (h, w), (h, w, 1 | 3 | 4) of any number type as an RGB image."""
    shape = array.shape
    if array.ndim == 3 and shape[-1] == 1:
        array = array[..., 0]
    if 0 in shape or not (array.ndim == 2 or (array.ndim == 3 and shape[-1] in (3, 4))):
        channels_first = shape[:1] in ((1,), (3,))
        do = "Put channels last: array.transpose(1, 2, 0)." if channels_first else "Reshape it."
        raise ValueError(f"{name}: shape (h, w), (h, w, 3) or (h, w, 4) is needed; got {shape}. {do}")
    image = Image.fromarray(_to_uint8(array, name))
    return _to_rgb(image, name)


def _to_uint8(array: np.ndarray, name: str) -> np.ndarray:
    """Pixel values of any number type as 0 … 255: floats from [0, 1], 16-bit integers from 0 … 65535."""
    kind = array.dtype.kind
    if kind not in "buif":
        raise ValueError(f"{name}: numbers are needed; got {array.dtype}. Convert it to uint8.")
    low, high = array.min(), array.max()
    if kind in "bf":
        full, needed = 1, "floats in [0, 1]"
    elif array.dtype == np.uint16 or high > 255:
        full, needed = 65535, "integers in 0 … 255, or 16-bit ones in 0 … 65535,"
    else:
        full, needed = 255, "integers in 0 … 255"
    if not (low >= 0 and high <= full):  # written so that NaN fails too
        raise ValueError(f"{name}: {needed} are needed; got {low:g} … {high:g}. Rescale it.")
    if array.dtype == np.uint8:
        return array
    return np.rint(array.astype(np.float64) * (255 / full)).astype(np.uint8)


def _tensor_to_array(tensor: Any) -> np.ndarray:
    """A tensor (c, h, w) or (h, w) as an array (h, w, c) or (h, w)."""
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return array.transpose(1, 2, 0)
    if array.ndim == 2:
        return array
    raise ValueError(f"the tensor: shape (3, h, w) is needed; got {tuple(tensor.shape)}. Permute its axes.")


def _too_large(name: str, size: tuple[int, int] | None = None) -> str:
    found = f"it has {size[0]} × {size[1]}" if size else "it has far more"
    return f"{name}: fewer than {MAX_PIXELS // 10**6} megapixels are needed; {found}. Scale it down first."


def _broken(name: str, error: Exception) -> str:
    return f"{name}: a whole image is needed; reading it gave '{error}'. Save or download it again."


@cache
def imagenet_labels(classes: int = 1000) -> tuple[str, ...] | None:
    """English names of the ImageNet classes as timm orders them; None where `classes` is no ImageNet count.

    The first of WordNet's synonyms; with the WordNet id where two classes share it (crane, bird and machine).
    """
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": classes})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    names = [synonyms.split(", ")[0] for synonyms in info.label_descriptions()]
    count = Counter(names)
    pairs = zip(names, info.label_names(), strict=True)
    return tuple(name if count[name] == 1 else f"{name} ({wnid})" for name, wnid in pairs)
