"""Labelled photographs wherever they lie: a folder of classes, a table of paths, a torch Dataset, an HF split.

Every source is told as a list of names with labels, in an order that is the same each time, and a way to read one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from vizlib import data

TABLES = (".csv", ".parquet")
_LABELS, _PATHS = ("label", "class", "target"), ("path", "file", "image", "filename")


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled photographs.

    Attributes:
        names: a string per photograph, its path where it has one.
        labels: (n,) index into `classes`.
        classes: the label names as the data have them, or numbers as text.
        read: photograph by number -> PIL image, or a preprocessed tensor (c, h, w).
        numbered: the labels are class numbers of the model, not names.
    """

    names: pa.Array
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    read: Callable[[int], Any]
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, row: int) -> str:
        return str(self.names[row].as_py())


def source_of(photos: Any) -> Source:
    """The labelled photographs in a folder, table, torch Dataset or HF split.

    Args:
        photos: a folder with a folder per class (local, or an address like "s3://bucket/photos"); a CSV or Parquet
            file or a DataFrame with columns "path" and "label", paths relative to the file; a torch Dataset of
            (image, label), floats (c, h, w) taken as preprocessed; an HF `datasets` split with an image and a label.

    Raises:
        ValueError: there is no such place, or no labelled photograph in it.
        TypeError: something else was given.
    """
    if isinstance(photos, Source):
        return photos
    if isinstance(photos, pd.DataFrame):
        return _from_table(photos, "")
    if isinstance(photos, str | os.PathLike):
        place = os.fspath(photos)
        if place.lower().endswith(TABLES):
            return _from_file(place)
        return _from_address(place) if "://" in place else _from_folder(Path(place).expanduser())
    if hasattr(photos, "features") and hasattr(photos, "column_names"):
        return _from_hf(photos)
    if hasattr(photos, "__getitem__") and hasattr(photos, "__len__"):
        return _from_dataset(photos)
    raise TypeError(
        f"labelled photographs are needed: a folder, a CSV or Parquet file, a torch Dataset with a length or an HF "
        f"split; got {type(photos).__name__}. Write paths and labels to a CSV file."
    )


def _from_folder(root: Path) -> Source:
    if not root.is_dir():
        what = "it is a file" if root.exists() else "there is no such folder"
        raise ValueError(f"{root}: a folder of photographs is needed; {what}. Correct the path.")
    try:
        classes = sorted(e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith("."))
        found = [(path, label) for label, name in enumerate(classes) for path in _files(root / name, {root.resolve()})]
    except PermissionError as error:
        raise ValueError(f"{root}: folders that may be read are needed; {error}. Change the permissions.") from error
    return _folder_source(str(root), classes, found, _read_path)


def _files(folder: Path, above: set[Path]) -> list[str]:
    """Every file below a folder, in order; links are followed, but never into a folder that they lie in."""
    here = folder.resolve()
    if here in above:
        return []
    found = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found += _files(Path(entry.path), above | {here})
        else:
            found.append(entry.path)
    return found


def _from_address(address: str) -> Source:
    from fsspec.core import url_to_fs

    try:
        system, root = url_to_fs(address)
        paths = sorted(system.find(root))
    except (OSError, ImportError, ValueError) as error:
        raise ValueError(f"{address}: photographs at an address are needed; {error}. Check the address.") from error
    parts = [path[len(root) :].strip("/").split("/") for path in paths]
    inside = [(path, part[0]) for path, part in zip(paths, parts, strict=True) if len(part) > 1]
    classes = sorted({name for _, name in inside})
    found = [(system.unstrip_protocol(path), classes.index(name)) for path, name in inside]
    return _folder_source(address, classes, found, _read_path)


def _folder_source(root: str, classes: list[str], found: list[tuple[str, int]], read: Callable[[str], Any]) -> Source:
    if not found:
        raise ValueError(
            f"{root}: photographs in a folder per class are needed; found {len(classes)} folders and no file in "
            f"them. Name the folder that holds the class folders."
        )
    names = pa.array([path for path, _ in found], pa.string())
    labels = np.array([label for _, label in found], np.int64)
    return Source(names, labels, tuple(classes), partial(_read_named, names, read))


def _from_file(place: str) -> Source:
    read = pd.read_csv if place.lower().endswith(".csv") else pd.read_parquet
    try:
        table = read(place)
    except (OSError, ValueError) as error:  # pandas' and Arrow's own errors are among these
        raise ValueError(f"{place}: a table of path and label is needed; {error}. Check the file.") from error
    base = place.rpartition("/")[0] if "://" in place else str(Path(place).resolve().parent)
    return _from_table(table, base)


def _from_table(table: pd.DataFrame, base: str) -> Source:
    path, label = (next((c for c in names if c in table.columns), None) for names in (_PATHS, _LABELS))
    if path is None or label is None or table.empty:
        raise ValueError(
            f"a table with the columns 'path' and 'label' is needed; got {len(table)} rows of "
            f"{', '.join(map(str, table.columns))}. Rename its columns."
        )
    paths, given = table[path], table[label]
    if given.isna().any() or paths.isna().any():
        raise ValueError(
            f"a path and a label in every row are needed; row {int((given.isna() | paths.isna()).argmax())} lacks one. "
            f"Fill or drop it."
        )
    apart = [p if "://" in p or p.startswith("/") or not base else f"{base}/{p}" for p in map(str, paths)]
    again = pd.Series(apart).duplicated()
    if again.any():
        second = int(again.argmax())
        first = apart.index(apart[second])
        raise ValueError(
            f"every photograph once is needed; {apart[second]} stands in rows {first} and {second}, as "
            f"{given.iloc[first]} and {given.iloc[second]}. Drop one of them."
        )
    names = pa.array(apart, pa.string())
    return _labelled(names, given.to_numpy(), partial(_read_named, names, _read_path))


def _from_dataset(photos: Any) -> Source:
    """A torch Dataset; its labels are taken from `targets` where it has them, else by going through it once."""
    if not len(photos):
        raise ValueError("labelled photographs are needed; the data set is empty. Check how it was made.")
    first = photos[0]
    if not (isinstance(first, tuple | list) and len(first) == 2):
        raise TypeError(
            f"a data set of pairs (image, label) is needed; its first item is {type(first).__name__}. Wrap it."
        )
    given = getattr(photos, "targets", None)
    if given is None or len(given) != len(photos):
        given = [photos[i][1] for i in range(len(photos))]
    samples: Any = getattr(photos, "samples", None) or ()
    known = len(samples) == len(photos) and isinstance(samples[0], tuple | list)
    names = pa.array([str(samples[i][0]) if known else f"#{i}" for i in range(len(photos))], pa.string())
    return _labelled(names, np.asarray(given), partial(_read_item, photos), getattr(photos, "classes", None))


def _from_hf(split: Any) -> Source:
    columns = {name: type(feature).__name__ for name, feature in split.features.items()}
    image = next((n for n, kind in columns.items() if kind == "Image"), None)
    label = next((n for n, kind in columns.items() if kind == "ClassLabel"), None)
    label = label or next((n for n in _LABELS if n in columns), None)
    if image is None or label is None or not len(split):
        raise ValueError(
            f"a split with an image and a label is needed; got {len(split)} rows of "
            f"{', '.join(f'{n} ({k})' for n, k in columns.items())}. Cast the columns to Image and ClassLabel."
        )
    names = pa.array([f"#{i}" for i in range(len(split))], pa.string())
    classes = getattr(split.features[label], "names", None)
    return _labelled(names, np.asarray(split[label]), partial(_read_row, split, image), classes)


def _labelled(
    names: pa.Array, given: NDArray, read: Callable[[int], Any], classes: Sequence[str] | None = None
) -> Source:
    """Labels as they were given: class numbers, with or without names, or the names themselves."""
    if np.issubdtype(given.dtype, np.integer):
        if given.min() < 0 or (classes is not None and given.max() >= len(classes)):
            raise ValueError(
                f"labels from 0 to {len(classes) - 1 if classes else 'classes - 1'} are needed; got "
                f"{given.min()} … {given.max()}. Correct the table."
            )
        every = classes or [str(i) for i in range(int(given.max()) + 1)]
        return Source(names, given.astype(np.int64), tuple(map(str, every)), read, numbered=not classes)
    text = given.astype(str)
    found, index = np.unique(text, return_inverse=True)
    return Source(names, index.astype(np.int64), tuple(map(str, found)), read)


def _read_named(names: pa.Array, read: Callable[[str], Any], row: int) -> Any:
    return read(names[row].as_py())


def _read_path(path: str) -> Image.Image:
    if "://" not in path:
        return data.open_photo(path)
    import fsspec

    try:
        with fsspec.open(path) as file:
            return data.open_photo(file.read())
    except OSError as error:
        raise ValueError(f"{path}: a file that can be read is needed; {error}. Check the address.") from error


def _read_item(photos: Any, row: int) -> Any:
    return photos[row][0]


def _read_row(split: Any, image: str, row: int) -> Any:
    return split[row][image]
