"""What a run has found, on disk: Parquet parts that are whole or not there, so that any kill can be resumed.

A part holds the rows of some batches. It is written beside its place, flushed to the disk and renamed. Which rows are
done is read from the parts themselves, so there is no second record that could disagree.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vizlib.models.cards import write_whole

ROW, ERROR = "row", "error"
HEAVY = ("probabilities", "features")  # columns of arrays, read only when they are asked for


class Results:
    """A folder of parts and `run.json`, which says what they are the results of."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).expanduser()

    @property
    def about(self) -> dict[str, Any]:
        """What the run was about.

        Raises:
            ValueError: the folder holds no run.
        """
        try:
            found: dict[str, Any] = json.loads((self.folder / "run.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.folder}: a folder that predict has written is needed; run.json: {error}. Run predict first."
            ) from error
        return found

    def begin(self, about: Mapping[str, Any], rows: int) -> NDArray[np.bool_]:
        """Open the folder for a new run, or for the rest of the same one. Returns which of the rows are done.

        Raises:
            ValueError: the folder cannot be written, or holds the results of something else.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for rest in self.folder.glob("*.part"):  # of a write that was cut short
                rest.unlink()
            if (self.folder / "run.json").exists():
                self._must_match(about)
            else:
                write_whole(self.folder / "run.json", json.dumps(about, indent=1, ensure_ascii=False).encode())
        except OSError as error:
            raise ValueError(
                f"{self.folder}: a folder that can be written is needed; {error.strerror}. Name another as out."
            ) from error
        done = np.zeros(rows, bool)
        for part in self.parts():
            done[pq.read_table(part, columns=[ROW])[ROW].to_numpy()] = True
        return done

    def _must_match(self, about: Mapping[str, Any]) -> None:
        before = self.about
        different = [key for key in about if before.get(key) != json.loads(json.dumps(about[key]))]
        if different:
            key = different[0]
            raise ValueError(
                f"{self.folder}: the results of the same run are needed to go on; {key} was {_short(before.get(key))} "
                f"and is {_short(about[key])}. Name another folder as out, or remove this one."
            )

    def add(self, rows: pa.Table) -> None:
        """Write rows as one part.

        Raises:
            RuntimeError: the disk is full or the folder gone; the parts before it stay.
        """
        name = f"rows-{rows[ROW][0].as_py():09d}-{rows[ROW][-1].as_py():09d}.parquet"
        file = io.BytesIO()
        pq.write_table(rows, file, compression="zstd")
        try:
            write_whole(self.folder / name, file.getvalue())
        except OSError as error:
            self._drop(name)
            raise RuntimeError(
                f"{self.folder}: space for {len(file.getvalue()) / 2**20:.1f} MiB of results is needed; "
                f"{error.strerror}. All rows before are kept: make room and run the same again."
            ) from error

    def _drop(self, name: str) -> None:
        try:
            (self.folder / f"{name}.part").unlink(missing_ok=True)
        except OSError:
            return  # the folder itself is gone or read-only; what failed is told by the caller

    def parts(self) -> list[Path]:
        return sorted(self.folder.glob("rows-*.parquet"))

    def table(self) -> pd.DataFrame:
        """All rows in order, without the arrays; unreadable files are in `.attrs["unreadable"]`, path -> reason.

        Raises:
            ValueError: there is no row yet.
        """
        light = [_light(part) for part in self.parts()]
        if not light:
            raise ValueError(f"{self.folder}: results are needed; there is no row yet. Run predict.")
        whole = pa.concat_tables(light).sort_by(ROW)
        bad = whole.filter(pa.compute.is_valid(whole[ERROR])).select(["path", ERROR]).to_pydict()
        good = whole.filter(pa.compute.is_null(whole[ERROR])).drop_columns([ERROR])
        if not len(good):
            raise ValueError(
                f"{self.folder}: a photograph with a prediction is needed; there is no photograph that has one: "
                f"{bad[ERROR][0]}. Look at the files and the model."
            )
        table = good.to_pandas()
        table.attrs = {"out": str(self.folder), "unreadable": dict(zip(bad["path"], bad[ERROR], strict=True))}
        return table

    def arrays(self, column: str, rows: Sequence[int] | NDArray | None = None) -> NDArray[np.float32]:
        """One of the array columns for some rows, in their order: (n, …) float32.

        Raises:
            ValueError: the run has kept no such column, or not for a row.
        """
        wanted = None if rows is None else np.asarray(rows, np.int64)
        found: dict[int, NDArray] = {}
        for batch in self.batches([ROW, column]):
            numbers = batch[ROW].to_numpy()
            if wanted is not None and not np.isin(numbers, wanted).any():
                continue
            for row, value in zip(numbers.tolist(), batch[column].to_pylist(), strict=True):
                if value is not None and (wanted is None or row in wanted):
                    found[row] = np.frombuffer(value, np.float16)
        order = sorted(found) if wanted is None else wanted.tolist()
        lacking = [row for row in order if row not in found]
        if lacking or not order:
            why = self.about.get("without", {}).get(column, f"row {lacking[0]} has none" if lacking else "no rows")
            raise ValueError(f"{self.folder}: {column} of the photographs are needed; {why}. Run predict with them.")
        return np.stack([found[row] for row in order]).astype(np.float32)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        for part in self.parts():
            yield pq.read_table(part, columns=list(columns))


def read(out: str | os.PathLike[str]) -> pd.DataFrame:
    """The table of a run of `predict` from its folder, also of one that was cut short.

    Raises:
        ValueError: the folder holds no results.
    """
    results = Results(out)
    results.about  # noqa: B018 - says what is wrong with the folder
    return results.table()


def results_of(table: pd.DataFrame) -> Results:
    """Where a table of `predict` lies.

    Raises:
        ValueError: the table did not come from predict, or lost where it came from.
    """
    if "out" not in table.attrs:
        raise ValueError(
            "a table from vl.dataset.predict is needed; this one does not say where its results lie. Read it with "
            "vl.dataset.read(folder)."
        )
    return Results(table.attrs["out"])


def _light(part: Path) -> pa.Table:
    names = [name for name in pq.read_schema(part).names if name not in HEAVY]
    return pq.read_table(part, columns=names)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else f"{text[:57]}…"
