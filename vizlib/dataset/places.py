"""Whether a map lies on the object: its mass inside of boxes or masks that are known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from vizlib.dataset.maps import Maps
from vizlib.types import Classifier

CHUNK = 256  # photographs whose masks are in memory at once


def locate(clf: Classifier, table: pd.DataFrame, maps: Maps, where: Any) -> pd.DataFrame:
    """The table with the share of each map's mass on the object.

        inside = Σ relu(map) · covered / Σ relu(map),   covered: share of a map's cell that lies on the object

    Args:
        table: of `predict`; rows without a map or a box have NaN.
        maps: of `explain`.
        where: the photo set's boxes.csv (or a DataFrame of it), matched by the end of the path; or masks (n, h, w)
            bool, one for each row number of the data.

    Returns:
        The table with `inside` in [0, 1] and `object_share`, the share of the model's input that the object covers,
        which is what a map without preference would have inside.

    Raises:
        ValueError: no row has both a map and a place.
    """
    known = set(maps.rows.tolist())
    drawn = _drawer(where)
    found: dict[int, tuple[float, float]] = {}
    lines = [(row, path) for row, path in zip(table["row"].tolist(), table["path"], strict=True) if row in known]
    for start in range(0, len(lines), CHUNK):
        pairs = [(row, picture) for row, path in lines[start : start + CHUNK] if (picture := drawn(row, path))]
        if pairs:
            rows = [row for row, _ in pairs]
            seen = clf.picture(clf.prepare([picture for _, picture in pairs]))[:, 0].cpu() > 0.5
            found |= dict(zip(rows, mass_inside(maps.read(rows), seen.numpy()), strict=True))
    if not found:
        raise ValueError(
            f"a box or mask for a photograph with a map is needed; none of {len(table)} rows has both. Check the "
            f"paths in the boxes, and ask explain for these rows."
        )
    pairs_of = [found.get(row, (np.nan, np.nan)) for row in table["row"]]
    return table.assign(inside=[p[0] for p in pairs_of], object_share=[p[1] for p in pairs_of])


def mass_inside(maps: NDArray, masks: NDArray) -> list[tuple[float, float]]:
    """For maps (n, r, s) and masks (n, h, w) bool: the share of positive mass inside, and of the area.

    A map without positive values, or an object that the model does not see, has NaN.
    """
    covered = F.adaptive_avg_pool2d(torch.as_tensor(masks)[:, None].float(), tuple(maps.shape[1:]))[:, 0].double()
    positive = torch.as_tensor(maps).double().relu()
    share = (positive * covered).sum((1, 2)) / positive.sum((1, 2))
    area = torch.as_tensor(masks).double().mean((1, 2))
    share[area == 0] = torch.nan
    return list(zip(share.tolist(), area.tolist(), strict=True))


def _drawer(where: Any) -> Any:
    """(row, path) -> the object in white on black at the photograph's own size, or None where it is not known."""
    if isinstance(where, np.ndarray) and where.ndim == 3:
        return lambda row, _: Image.fromarray(where[row].astype(np.uint8) * 255).convert("RGB")
    table = pd.read_csv(where) if isinstance(where, str | os.PathLike) else where
    needed = ["file", "xmin", "ymin", "xmax", "ymax"]
    if not isinstance(table, pd.DataFrame) or not set(needed) <= set(table.columns):
        raise ValueError(f"masks (n, h, w) or boxes with columns {', '.join(needed)} are needed; got others. Pass one.")
    boxes: dict[str, list[list[int]]] = {}
    for file, *box in table[needed].itertuples(index=False):
        boxes.setdefault("/".join(Path(file).parts[-2:]), []).append(box)

    def draw(_row: int, path: str) -> Image.Image | None:
        mine = boxes.get("/".join(Path(path).parts[-2:]))
        if mine is None:
            return None
        with Image.open(path) as photo:
            white = np.zeros((photo.height, photo.width, 3), np.uint8)
        for left, top, right, bottom in mine:
            white[top : bottom + 1, left : right + 1] = 255
        return Image.fromarray(white)

    return draw
