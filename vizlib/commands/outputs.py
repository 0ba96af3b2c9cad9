"""What a command says and writes: progress, lines, pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vizlib.show.files import PICTURES, writable


def progress(steps: Sequence[Any], what: str) -> Iterator[Any]:
    """A bar on a terminal, after a second of work."""
    from tqdm import tqdm

    return iter(tqdm(steps, desc=what, disable=None, delay=1, leave=False))


def say(line: str) -> None:
    """A line on stdout that leaves a bar whole."""
    from tqdm import tqdm

    tqdm.write(line)


def refuse(reason: str) -> None:
    """Why something was not made, as one line on stderr."""
    from tqdm import tqdm

    tqdm.write(f"vizlib: {' '.join(reason.split())}", file=sys.stderr)


def place_of_pictures(out: Path, count: int) -> Path:
    """Where pictures go: a folder, or a file where there is one picture.

    Raises:
        ValueError: a file name for several, an ending that is no picture's, or a place that takes none.
    """
    if not out.suffix or out.is_dir():
        return writable(out)
    if count > 1:
        raise ValueError(f"{count} pictures need a folder; got --out {out}. Name a folder.")
    return writable(out, PICTURES)


def write(figure: Any, out: Path, name: str) -> Path:
    """Saves and closes a figure, as `out` if that names a picture, else in it."""
    import matplotlib.pyplot as plt

    path = out if out.suffix in PICTURES and not out.is_dir() else out / name.replace("/", "_")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
