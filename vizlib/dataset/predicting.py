"""Predictions of many labelled photographs, in a table that any kill leaves resumable."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from vizlib.capture.pooled import pooled_features
from vizlib.dataset.jobs import PREDICTIONS, Job
from vizlib.dataset.labels import classes_of
from vizlib.dataset.local import backend_named, run
from vizlib.dataset.maps import about_maps, map_place
from vizlib.dataset.results import HEAVY, Results
from vizlib.dataset.sources import Source, source_of
from vizlib.methods.table import method_named
from vizlib.types import Classifier

MOST_CLASSES = 1000  # of which all probabilities are kept: 2 kB a photograph


def predict(
    clf: Classifier,
    data: Any,
    *,
    out: str | os.PathLike[str],
    labels: Mapping[str, str | int] | None = None,
    methods: str | Sequence[str] = (),
    batch: int = 64,
    workers: int | None = None,
    backend: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> pd.DataFrame:
    """What a classifier says about labelled photographs.

    Photographs are streamed; what is found is written every thousand of them or twenty seconds. The same call again
    goes on where a run was cut short. Where memory does not suffice, the batch is halved and stays so.

    Args:
        data: a folder of class folders (local or an fsspec address), a CSV or Parquet file or a DataFrame of path and
            label, a torch Dataset of (image, label), or an HF split.
        out: folder of the results.
        labels: name in the data -> label or class index of the model, for names that do not match.
        methods: heatmaps to make in the same run, as `explain` makes them afterwards.
        batch: photographs at once.
        workers: processes that read photographs, or with Ray the copies of the model; default: chosen from the cores.
        backend: "local", or "ray": spread over the machines of a Ray cluster (the extra `ray`).
        address: of the Ray cluster; default: RAY_ADDRESS, else one that is started here.

    Returns:
        A row per photograph that could be read: row, path, label, prediction, correct, confidence (the prediction's
        probability), margin (to the second), entropy in nats, loss (cross entropy), top5 with their confidences,
        model, and the class indices. `.attrs["unreadable"]` says which files could not be read and why; they are in
        OUT/unreadable.csv, too.

    Raises:
        ValueError: no photographs, labels that the model does not have, or a folder that cannot be written or holds
            the results of something else.
        RuntimeError: the disk is full, or one photograph does not fit into memory. What was done is kept.
    """
    if not isinstance(clf, Classifier) or clf.frames:
        found = "one of clips" if isinstance(clf, Classifier) else type(clf).__name__
        raise TypeError(f"a Classifier of photographs is needed; got {found}. Use vl.load(model).")
    if batch < 1:
        raise ValueError(f"a batch of at least 1 photograph is needed; got {batch}. Take 64.")
    source, chosen = source_of(data), (methods,) if isinstance(methods, str) else tuple(methods)
    for name in chosen:
        method_named(name)
    count, without = _probe(clf)
    classes = classes_of(clf, source, count, labels)
    keep = tuple(name for name in HEAVY if name not in without)
    job = Job(clf, source, classes, methods=chosen, keep=keep)
    results = Results(out)
    about = _about(clf, data, source, classes) | {"without": without, "methods": list(chosen)}
    done = results.begin(about, len(source))
    places = {name: map_place(results, name, "prediction") for name in chosen}
    for name, place in places.items():
        place.begin(about_maps(name, "prediction", clf), len(source))
    places[PREDICTIONS] = results  # last: its rows are what counts as done
    run(job, aligned(done, batch), places, backend_named(backend, address), workers, len(source))
    table = results.table()
    pd.Series(table.attrs["unreadable"], name="reason").to_csv(results.folder / "unreadable.csv", index_label="path")
    return table


def aligned(done: NDArray[np.bool_], batch: int) -> list[list[int]]:
    """The rows that are left, in the batches that an uninterrupted run makes: numbers depend on a batch's company."""
    starts = range(0, len(done), batch)
    left = ((start + np.flatnonzero(~done[start : start + batch])).tolist() for start in starts)
    return [rows for rows in left if rows]


def _probe(clf: Classifier) -> tuple[int, dict[str, str]]:
    """How many logits there are, and which arrays cannot be kept and why."""
    x = torch.zeros(1, *clf.input_size, device=clf.device, dtype=clf.dtype)
    count, without = clf(x).shape[1], {}
    if count > MOST_CLASSES:
        without["probabilities"] = f"they are kept for up to {MOST_CLASSES} classes, there are {count}"
    try:
        with pooled_features(clf, x):
            pass
    except RuntimeError as error:
        without["features"] = str(error)
    return count, without


def _about(clf: Classifier, data: Any, source: Source, classes: NDArray) -> dict[str, Any]:
    """What a run is the same run by."""
    place = os.path.abspath(os.fspath(data)) if isinstance(data, str | os.PathLike) and "://" not in str(data) else None
    photos = hashlib.sha256()
    for chunk in (*source.names.buffers(), source.labels.data, classes.data):
        photos.update(chunk or b"")
    return {
        "model": clf.name,
        "weights": _weights(clf),
        "labels": list(clf.labels or ()),
        "source": place or (data if isinstance(data, str) else ""),
        "photos": len(source),
        "names and labels": photos.hexdigest()[:16],
    }


def _weights(clf: Classifier) -> str:
    digest = hashlib.sha256()
    for name, tensor in clf.module.state_dict().items():
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor
        digest.update(name.encode())
        digest.update(raw.numpy().data)
    return digest.hexdigest()[:16]
