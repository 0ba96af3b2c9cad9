"""Where results are written: which endings a name may have, and what is written under which. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")
SHEETS = (".html", *PICTURES, ".csv")


def writable(path: str | Path, endings: Sequence[str] = ()) -> Path:
    """A path that a file may be written to, or files into where it names a folder; nothing is made yet.

    Args:
        endings: one of which the name must have; none: the path is a folder.

    Raises:
        ValueError: another ending, or a place that takes no files.
    """
    path = Path(path).expanduser()
    if endings and (path.suffix not in endings or path.is_dir()):
        *others, last = endings
        listed = f"{', '.join(others)} or {last}" if others else last
        found = "a folder" if path.is_dir() else repr(path.name)
        raise ValueError(f"a file name that ends in {listed} is needed; got {found}. Add an ending.")
    place = next(each for each in (path, *path.absolute().parents) if each.exists())
    folder = place.parent if endings and place == path else place
    if not folder.is_dir() or not os.access(place, os.W_OK):
        found = "is no folder" if not folder.is_dir() else "may not be written"
        raise ValueError(f"a place to write to is needed; {path} is none: {place} {found}. Name another.")
    return path


def save(
    path: str | Path,
    *,
    figure: Callable[[], Figure],
    table: pd.DataFrame,
    page: Callable[[], str] | None = None,
    dpi: int = 120,
) -> Path:
    """Write one file, made anew in a folder that may be new: what its ending says.

    Args:
        path: ends in .html (the page, where there is one), .png, .pdf, .svg (the figure) or .csv (the table).
        dpi: pixels per inch of a .png.

    Raises:
        ValueError: as `writable`.
    """
    path = writable(path, SHEETS if page else (*PICTURES, ".csv"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if page and path.suffix == ".html":
        path.write_text(page(), "utf-8")
    elif path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        figure().savefig(path, dpi=dpi)
    return path
