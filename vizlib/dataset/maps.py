"""Heatmaps of many photographs: half precision, compressed, in parts that can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from vizlib.dataset.jobs import Job
from vizlib.dataset.local import backend_named, run
from vizlib.dataset.results import ERROR, ROW, Results, results_of
from vizlib.dataset.sources import source_of
from vizlib.methods.table import METHODS, method_named
from vizlib.types import Classifier

About = Literal["prediction", "label"]


@dataclass(frozen=True, eq=False)
class Maps:
    """The heatmaps of one method about one class per photograph, on disk.

    Attributes:
        about: the class they speak about: that which the model named, or the photograph's label.
    """

    results: Results
    method: str
    about: About

    @property
    def unit(self) -> str:
        """What one unit of the values is."""
        return METHODS[self.method].unit

    @property
    def rows(self) -> NDArray[np.int64]:
        """(n,) the rows of the table that have a map, in rising order."""
        found = [b.filter(pa.compute.is_null(b[ERROR]))[ROW].to_numpy() for b in self.results.batches([ROW, ERROR])]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    @property
    def reasons(self) -> dict[int, str]:
        """Row -> why it has no map."""
        every = (line for b in self.results.batches([ROW, ERROR]) for line in b.to_pylist())
        return {line[ROW]: line[ERROR] for line in every if line[ERROR]}

    def read(self, rows: Sequence[int] | NDArray | None = None) -> NDArray[np.float32]:
        """The maps of some rows, or of all that have one, in their order: raw values (n, r, s).

        Raises:
            ValueError: a row has no map.
        """
        wanted = (self.rows if rows is None else np.asarray(rows, np.int64)).tolist()
        asked, found = pa.array(sorted(set(wanted)), pa.int64()), {}
        for batch in self.results.batches([ROW, "r", "s", "scale", "map"]):
            for line in batch.filter(pa.compute.is_in(batch[ROW], asked)).to_pylist():
                if line["map"] is not None:
                    half = np.frombuffer(line["map"], np.float16).reshape(line["r"], line["s"])
                    found[line[ROW]] = half.astype(np.float32) * np.float32(line["scale"])
        lacking = [row for row in wanted if row not in found]
        if lacking or not found:
            why = self.reasons.get(lacking[0], "it was not asked for") if lacking else "no row has one"
            raise ValueError(f"{self.method} maps of rows {lacking[:5]} are needed; {why}. Ask explain for these rows.")
        return np.stack([found[row] for row in wanted])


def explain(
    clf: Classifier,
    table: pd.DataFrame,
    methods: str | Sequence[str] = "gradcam",
    *,
    about: About = "prediction",
    data: Any = None,
    batch: int = 32,
    workers: int | None = None,
    backend: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> dict[str, Maps]:
    """Heatmaps for the rows of a table, beside its results on disk; rows that have theirs already are left out.

    Args:
        table: of `predict`, or the rows of it that are asked for: `table[~table.correct]`.
        methods: rows of METHODS.
        about: which class the maps speak about, the one that the model named or the photograph's label.
        data: where the photographs come from, if not from a folder or file (a torch Dataset, an HF split).
        batch: photographs at once; halved where memory does not suffice.
        workers, backend, address: where it runs, as for `predict`.

    Returns:
        Method -> its maps.

    Raises:
        ValueError: an unknown method or backend, no rows, or the table is of another model.
        RuntimeError: no row could be explained.
    """
    results, names = results_of(table), [methods] if isinstance(methods, str) else list(methods)
    for name in names:
        method_named(name)
    told = results.about
    if not len(table) or told["model"] != clf.name:
        found = f"one of {told['model']}" if len(table) else "an empty one"
        raise ValueError(f"a table of {clf.name} with rows in it is needed; got {found}. Pass its own table.")
    source = source_of((told["source"] or None) if data is None else data)
    wanted = np.zeros(told["photos"], bool)
    wanted[table[ROW].to_numpy()] = True
    classes = np.zeros(len(source.classes), np.int64)
    classes[source.labels[table[ROW].to_numpy()]] = table["label_index"].to_numpy()
    made: dict[str, Maps] = {}
    for name in names:
        place = map_place(results, name, about)
        left = np.flatnonzero(wanted & ~place.begin(about_maps(name, about, clf), len(wanted)))
        job = Job(clf, source, classes, predicts=False, methods=(name,), about=about)
        batches = [part.tolist() for part in np.split(left, range(batch, len(left), batch)) if len(part)]
        run(job, batches, {name: place}, backend_named(backend, address), workers, int(wanted.sum()))
        made[name] = Maps(place, name, about)
        if not len(made[name].rows):
            why = next(iter(made[name].reasons.values()))
            raise RuntimeError(f"{name} needs one photograph with a map; {why}. Take another method.")
    return made


def map_place(results: Results, method: str, about: About) -> Results:
    """Where the maps of a method go, below the folder of the predictions."""
    return Results(results.folder / "maps" / f"{method}-{about}")


def about_maps(method: str, about: About, clf: Classifier) -> dict[str, Any]:
    return {"method": method, "about": about, "model": clf.name}
