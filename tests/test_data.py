"""Photos of every kind, and every kind of broken file."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vizlib import data

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # 3 rows, 4 columns
COLOUR = np.stack([RAMP, 255 - RAMP, RAMP // 2], -1)


def pixels(photo):
    image = data.open_photo(photo)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_every_sample_photo_opens_by_both_ways():
    assert {"cat", "coffee", "astronaut", "rocket"} <= set(data.photos())
    for name in data.photos():
        assert data.photo(name).mode == "RGB"
        assert min(data.photo(name).size) >= 224
    assert data.open_photo("cat").tobytes() == data.photo("cat").tobytes()
    with pytest.raises(ValueError, match="Name one of: astronaut"):
        data.photo("dog")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOUR, COLOUR),
        (RAMP, np.stack([RAMP] * 3, -1)),
        (RAMP[..., None], np.stack([RAMP] * 3, -1)),
        (RAMP.astype(np.uint16) * 257, np.stack([RAMP] * 3, -1)),
        (RAMP.astype(np.int64), np.stack([RAMP] * 3, -1)),
        (COLOUR.astype(np.float32) / 255, COLOUR),
        (COLOUR.astype(np.float16) / 255, COLOUR),
        (RAMP > 100, np.stack([(RAMP > 100) * np.uint8(255)] * 3, -1)),
        (np.dstack([COLOUR, np.full_like(RAMP, 255)]), COLOUR),
        (np.dstack([COLOUR, np.zeros_like(RAMP)]), np.full_like(COLOUR, 255)),  # transparent: white
        (torch.tensor(COLOUR).permute(2, 0, 1), COLOUR),
        (torch.tensor(COLOUR).permute(2, 0, 1) / 255, COLOUR),
        (torch.tensor(RAMP)[None].to(torch.bfloat16).round() / 256, None),
    ],
)
def test_arrays_and_tensors(array, expected):
    found = pixels(array)
    assert found.shape == (3, 4, 3)
    if expected is not None:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"got \(3, 8, 9\)\. Put channels last"),
        (np.zeros((0, 4, 3), np.uint8), r"got \(0, 4, 3\)"),
        (np.zeros((4, 4, 2), np.uint8), r"got \(4, 4, 2\)"),
        (COLOUR.astype(np.float32), r"floats in \[0, 1\] are needed; got 0 … 255"),
        (np.full((3, 4), np.nan), "got nan"),
        (RAMP.astype(np.int16) - 1, "got -1 … "),
        (np.array([["a"]]), "numbers are needed"),
        (torch.zeros(2, 3, 4, 4), r"shape \(3, h, w\)"),
    ],
)
def test_arrays_that_are_no_photo(array, words):
    with pytest.raises(ValueError, match=words):
        data.open_photo(array)


@pytest.mark.parametrize("thing", [None, 3, object(), ["cat"]])
def test_things_that_are_no_photo(thing):
    with pytest.raises(TypeError, match="a photo is a path"):
        data.open_photo(thing)


def test_exif_rotation_turns_the_photo_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "turned.png"), np.rot90(COLOUR, -1))


def test_modes_of_files(tmp_path):
    grey = Image.fromarray(RAMP)
    grey.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pixels(tmp_path / "grey.png")[..., 1], RAMP)
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(pixels(str(tmp_path / "deep.png"))[..., 2], RAMP)
    Image.fromarray(RAMP.astype(np.float32) / 255).save(tmp_path / "float.tiff")
    np.testing.assert_array_equal(pixels(tmp_path / "float.tiff")[..., 0], RAMP)
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    assert abs(pixels(tmp_path / "cmyk.jpg").astype(int) - (255, 0, 0)).max() <= 3


def test_transparency_is_laid_on_white(tmp_path):
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "hole.gif", transparency=0)
    np.testing.assert_array_equal(pixels(tmp_path / "hole.gif"), [[[255] * 3, [40, 50, 60]]])
    np.testing.assert_array_equal(pixels(Image.new("LA", (1, 1), (0, 51))), [[[204] * 3]])


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert data.open_photo(tmp_path / "two.gif").getpixel((0, 0)) == (255, 0, 0)


def test_the_given_image_is_not_changed():
    given = Image.fromarray(np.dstack([COLOUR, RAMP]))
    before = given.tobytes()
    data.open_photo(given)
    assert (given.mode, given.tobytes()) == ("RGBA", before)


def png_header(width, height):
    """A PNG that claims a size and has no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (header, b"IDAT" + zlib.compress(b""))
    chunks = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg():
    file = io.BytesIO()
    data.photo("cat").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"GIF89a", "image"),
        (b"<html>not found</html>", "it is none of JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is none of JPEG, PNG"),
        (jpeg()[:2000], "a whole image is needed"),
        (png_header(10_000, 10_000), "fewer than 100 megapixels are needed; it has 10000 × 10000"),
        (png_header(60_000, 60_000), "fewer than 100 megapixels"),
        (png_header(10, 10), "a whole image is needed"),
    ],
)
def test_broken_and_hostile_files(tmp_path, content, words):
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        data.open_photo(file)
    assert str(file) in str(caught.value)
    with pytest.raises(ValueError, match="the image given as bytes"):
        data.open_photo(content)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        data.open_photo(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="no such file"):
        data.open_photo("x" * 10_000)
    with pytest.raises(ValueError, match="this is a folder"):
        data.open_photo(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        data.open_photo(tmp_path / "pipe")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_corrupted_files_open_or_say_so():
    """Random damage to files of each format gives a picture or a ValueError, and never anything else."""
    random = np.random.default_rng(0)
    small = data.photo("cat").resize((40, 30))
    outcomes = {"opened": 0, "refused": 0}
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "TGA"):
        file = io.BytesIO()
        small.save(file, kind)
        for _ in range(40):
            damaged = bytearray(file.getvalue())
            for place in random.integers(0, len(damaged), random.integers(10)):
                damaged[place] = random.integers(256)
            kept = len(damaged) if random.random() < 0.7 else random.integers(len(damaged))
            try:
                data.open_photo(bytes(damaged[:kept]))
                outcomes["opened"] += 1
            except ValueError:
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 20


def test_lists_and_batches():
    assert len(data.open_photos(["cat", RAMP])) == 2
    assert len(data.open_photos(np.stack([COLOUR] * 3))) == 3
    assert len(data.open_photos(torch.zeros(2, 3, 4, 4))) == 2
    assert len(data.open_photos("cat")) == 1
    with pytest.raises(ValueError, match="empty list"):
        data.open_photos([])


def test_imagenet_labels_are_unique_names():
    labels = data.imagenet_labels()
    assert len(set(labels)) == 1000
    assert (labels[281], labels[967]) == ("tabby", "espresso")
    assert labels[134] != labels[517]
    assert {"crane (n02012849)", "crane (n03126707)"} <= set(labels)
    assert data.imagenet_labels(20) is None
