"""The photo set of the zoo: twenty classes of Tiny-ImageNet, 64 × 64, with a box round each object.

Source: Le, Yang 2015, "Tiny ImageNet Visual Recognition Challenge" (Stanford CS231n); photographs from
ImageNet, for non-commercial research and teaching. Nothing of it is part of this package.
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from urllib.request import urlopen

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
TIMEOUT = 10  # seconds without a byte
MAX_BYTES = 2 * 1024**3  # the whole of Tiny-ImageNet is 0.5 GiB unpacked

Place = Path | zipfile.Path
Box = tuple[str, str, str, str]  # xmin, ymin, xmax, ymax in pixels, both ends included


def tiny_imagenet20(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the photo set: train/CLASS (500 photos a class), val/CLASS (50 a class), boxes.csv.

    Looked for at `root`, else where the environment variable VIZLIB_DATA says, else downloaded once
    (237 MiB). Archives are unpacked into a cache (VIZLIB_CACHE, else the user's cache folder).

    Args:
        root: a folder in this layout, a tar of one, or tiny-imagenet-200 as published, folder or zip.

    Raises:
        ValueError: what `root` or VIZLIB_DATA names is missing, broken or something else.
        RuntimeError: no place is named and the download failed.
    """
    named = root or os.environ.get("VIZLIB_DATA")
    if not named:
        return _cached("tiny_imagenet20", _download_and_select)
    place = Path(named).expanduser()
    if place.is_dir():
        return _layout(place)
    if not place.is_file():
        raise ValueError(
            f"{place}: the photo set is needed; there is no such file or folder. "
            f"Correct root or VIZLIB_DATA, or leave both out to download it."
        )
    unpack = _unzip if zipfile.is_zipfile(place) else _untar
    return _layout(_cached(f"photos-{_digest(place)}", partial(unpack, place)))


def _layout(place: Path) -> Path:
    """The folder with train/ and val/ in it: `place` or one below it."""
    for folder in (place, *sorted(p for p in place.iterdir() if p.is_dir())):
        if (folder / "train").is_dir() and (folder / "val").is_dir():
            if (folder / "wnids.txt").is_file():
                return _cached(f"photos-{_digest(folder / 'wnids.txt')}", partial(select, folder))
            return folder
    raise ValueError(
        f"{place}: folders train/CLASS and val/CLASS are needed; found none. Name the set's folder or tar."
    )


def _cached(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache folder `name`, filled on first use; a fill that is interrupted leaves nothing behind."""
    home = os.environ.get("VIZLIB_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "vizlib")
    target = Path(home).expanduser() / name
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as scratch:
        filling = Path(scratch, name)
        filling.mkdir()
        fill(filling)
        try:
            filling.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    return target


def _digest(file: Path, algorithm: str = "sha256") -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()


def _untar(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            if sum(member.size for member in tar.getmembers()) > MAX_BYTES:
                raise ValueError(f"{archive}: less than {MAX_BYTES} bytes are needed; unpacked it has more.")
            tar.extractall(folder, filter="data")  # refuses paths and links that lead out of the folder
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{archive}: a tar of the photo set is needed; unpacking gave '{error}'.") from error


def _unzip(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            tops = {name.split("/")[0] for name in opened.namelist()}
            select(zipfile.Path(opened, f"{min(tops, default='')}/"), folder)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive}: tiny-imagenet-200.zip is needed; reading it gave '{error}'.") from error


def _download_and_select(folder: Path) -> None:
    archive = folder.parent / "tiny-imagenet-200.zip"
    try:
        _download(archive)
        found = _digest(archive, "md5")
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(
            f"the photo set is needed; no place is named and downloading {URL} gave '{error}'. "
            f"Set VIZLIB_DATA to its folder or tar, or fetch that file elsewhere and set VIZLIB_DATA to it."
        ) from error
    if found != MD5:
        raise RuntimeError(f"{URL}: md5 {MD5} is needed; the download has {found}. Try again, or set VIZLIB_DATA.")
    _unzip(archive, folder)


def _download(target: Path) -> None:
    from tqdm import tqdm

    with urlopen(URL, timeout=TIMEOUT) as answer, target.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(total=total, unit="B", unit_scale=True, desc="Tiny-ImageNet") as bar:
            while block := answer.read(1 << 20):
                file.write(block)
                bar.update(len(block))
                if bar.n > MAX_BYTES:
                    raise OSError(f"more than {MAX_BYTES} bytes")


def select(source: Place, target: Path) -> None:
    """Copy our twenty classes of Tiny-ImageNet (as published) to `target` in the photo set's layout.

    Raises:
        ValueError: `source` is not Tiny-ImageNet.
    """
    with (target / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["split", "class", "wnid", "file", "xmin", "ymin", "xmax", "ymax"])
        try:
            for split, wnid, photo, box in _annotations(source):
                name = f"{split}/{_classes()[wnid]}/{photo.name}"
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                with photo.open("rb") as opened, (target / name).open("wb") as copy:
                    shutil.copyfileobj(opened, copy)
                table.writerow([split, _classes()[wnid], wnid, name, *box])
        except (FileNotFoundError, KeyError) as error:
            raise ValueError(
                f"{source}: tiny-imagenet-200 as published is needed; {error} is missing. Fetch it again."
            ) from error


def _annotations(source: Place) -> Iterator[tuple[str, str, Place, Box]]:
    """Each photo of our classes: split, WordNet id, file, box."""
    for wnid in _classes():
        for line in (source / "train" / wnid / f"{wnid}_boxes.txt").read_text().splitlines():
            name, *box = line.split("\t")
            yield "train", wnid, source / "train" / wnid / "images" / name, tuple(box)  # type: ignore[misc]
    for line in (source / "val" / "val_annotations.txt").read_text().splitlines():
        name, wnid, *box = line.split("\t")
        if wnid in _classes():
            yield "val", wnid, source / "val" / "images" / name, tuple(box)  # type: ignore[misc]


def _classes() -> dict[str, str]:
    """WordNet id -> our class name, from data/tiny_imagenet20.csv."""
    with (files("vizlib.tables") / "tiny_imagenet20.csv").open() as file:
        return {row["wnid"]: row["class"] for row in csv.DictReader(file)}
