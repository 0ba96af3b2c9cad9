"""What is done with a batch of photographs, on this machine or on another: rows of predictions, rows of heatmaps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vizlib import data
from vizlib.capture.pooled import pooled_features
from vizlib.dataset.results import ERROR, ROW
from vizlib.dataset.sources import Source
from vizlib.methods.kinds import MAKERS, Question
from vizlib.methods.table import METHODS
from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier

PREDICTIONS = "predictions"
TOP = 5
_TEXT = pa.string()
SCHEMA = pa.schema(
    [(ROW, pa.int64()), ("path", _TEXT), ("label", _TEXT), ("prediction", _TEXT), ("correct", pa.bool_()),
     ("confidence", pa.float32()), ("margin", pa.float32()), ("entropy", pa.float32()), ("loss", pa.float32()),
     ("top5", pa.list_(_TEXT)), ("top5_confidence", pa.list_(pa.float32())), ("model", _TEXT),
     ("label_index", pa.int32()), ("prediction_index", pa.int32()),
     ("probabilities", pa.binary()), ("features", pa.binary()), (ERROR, _TEXT)]
)  # fmt: skip
MAP_SCHEMA = pa.schema(
    [(ROW, pa.int64()), ("target", pa.int32()), ("r", pa.int32()), ("s", pa.int32()), ("scale", pa.float32()),
     ("map", pa.binary()), (ERROR, _TEXT)]
)  # fmt: skip


@dataclass(eq=False)
class Job:
    """Predictions of photographs, heatmaps, or both from one run of the model.

    Attributes:
        classes: the model's class for each class of the source.
        predicts: make rows of predictions.
        methods: make rows of heatmaps, by these methods.
        about: "prediction" or "label", the class that the heatmaps speak about.
        keep: which arrays to keep with the predictions, "probabilities" and "features".
        most: photographs at once; falls where memory does not suffice. 0 is no limit.
    """

    clf: Classifier
    source: Source
    classes: NDArray[np.int64]
    predicts: bool = True
    methods: tuple[str, ...] = ()
    about: str = "prediction"
    keep: tuple[str, ...] = ()
    most: int = 0

    def load(self, row: int) -> Tensor | str:
        """A photograph as the model's input (c, h, w), or why it cannot be read."""
        try:
            photo = self.source.read(row)
            if isinstance(photo, Tensor) and photo.is_floating_point():
                return self.clf.prepare(photo[None])[0].cpu() if photo.ndim == 3 else _not_an_image(photo)
            return self.clf.transform(data.open_photo(photo))
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            return why.removeprefix(f"{self.source.name(row)}: ")

    def without_model(self) -> Job:
        """For where photographs are only read."""
        return replace(self, clf=replace(self.clf, module=nn.Identity()))

    def __call__(self, rows: Sequence[int], inputs: Sequence[Tensor | str]) -> dict[str, pa.Table]:
        """Rows of each kind, the unreadable photographs among them with their reason.

        Args:
            inputs: (c, h, w) each, or why it could not be read.
        """
        tables: dict[str, list[pa.Table]] = {name: [] for name in self.kinds}
        whole = [i for i, x in enumerate(inputs) if isinstance(x, Tensor)]
        for like in _of_one_shape(inputs, whole):
            x = torch.stack([inputs[i] for i in like]).to(self.clf.device, self.clf.dtype)  # type: ignore[misc]
            for name, made in self._fitting(x, np.array([rows[i] for i in like])):
                tables[name].append(made)
        failed = {rows[i]: x for i, x in enumerate(inputs) if isinstance(x, str)}
        for name in tables if failed else ():
            tables[name].append(self._failed(name, failed))
        return {name: pa.concat_tables(parts).sort_by(ROW) for name, parts in tables.items()}

    @property
    def kinds(self) -> tuple[str, ...]:
        return (*([PREDICTIONS] if self.predicts else []), *self.methods)

    def _fitting(self, x: Tensor, rows: NDArray) -> list[tuple[str, pa.Table]]:
        """In as many pieces as memory asks for."""
        found: list[tuple[str, pa.Table]] = []
        start = 0
        while start < len(x):
            most = min(self.most or len(x), len(x) - start)
            try:
                found += self._run(x[start : start + most], rows[start : start + most]).items()
                start += most
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if most == 1:
                    raise RuntimeError(
                        f"memory for one photograph of {tuple(x.shape[1:])} is needed on {x.device}; {self.clf.name} "
                        f"takes more. Free some, or take a smaller model or image."
                    ) from error
                self.most = most // 2
                if x.is_cuda:
                    torch.cuda.empty_cache()
        return found

    def _run(self, x: Tensor, rows: NDArray) -> dict[str, pa.Table]:
        label = torch.as_tensor(self.classes[self.source.labels[rows]], device=x.device)
        tables, logits = {}, None
        with ExitStack() as stack:
            seen = stack.enter_context(pooled_features(self.clf, x)) if "features" in self.keep else []
            for name in self.methods:
                target = label if self.about == "label" else None
                made = MAKERS[METHODS[name].kind](Question(self.clf, METHODS[name], x, target, None, {}))[0]
                logits = made.logits if logits is None else logits
                tables[name] = _map_rows(rows, made.values[:, 0].detach(), label, made.logits, self.about)
            if logits is None:
                with unchanged(self.clf.module), torch.no_grad():
                    logits = logits_of(self.clf.module(x))
        if self.predicts:
            tables[PREDICTIONS] = self._prediction_rows(rows, logits.detach().float(), label, seen)
        return tables

    def _prediction_rows(self, rows: NDArray, logits: Tensor, label: Tensor, seen: list[Tensor]) -> pa.Table:
        log = logits.log_softmax(1)
        top, best = log.exp().topk(min(TOP, log.shape[1]), dim=1)
        loss = -log.gather(1, label[:, None])[:, 0]
        margin = top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]
        best, label = best.cpu(), label.cpu()
        names = [[self.clf.label(k) for k in line] for line in best.tolist()]
        arrays = {"probabilities": log.exp()} if "probabilities" in self.keep else {}
        if seen:
            arrays["features"] = torch.nn.functional.normalize(seen[0].float(), dim=1)
        finite = logits.isfinite().all(1).cpu().numpy()
        columns: dict[str, Any] = {
            ROW: rows,
            "path": self.source.names.take(pa.array(rows)),
            "label": [self.clf.label(k) for k in label.tolist()],
            "prediction": [line[0] for line in names],
            "correct": (best[:, 0] == label).numpy(),
            "confidence": top[:, 0].cpu().numpy(),
            "margin": margin.cpu().numpy(),
            "entropy": torch.special.entr(log.exp()).sum(1).cpu().numpy(),
            "loss": loss.cpu().numpy(),
            "top5": names,
            "top5_confidence": top.cpu().tolist(),
            "model": [self.clf.name] * len(rows),
            "label_index": label.numpy().astype(np.int32),
            "prediction_index": best[:, 0].numpy().astype(np.int32),
            ERROR: _reason("the model gave logits that are not finite", finite),
        }
        columns |= {name: list(map(bytes, value.half().cpu().numpy())) for name, value in arrays.items()}
        return pa.table([pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(len(rows), f.type)
                         for f in SCHEMA], schema=SCHEMA)  # fmt: skip

    def _failed(self, name: str, reasons: dict[int, str]) -> pa.Table:
        schema = SCHEMA if name == PREDICTIONS else MAP_SCHEMA
        columns = {ROW: pa.array(reasons, pa.int64()), ERROR: pa.array(reasons.values(), _TEXT)}
        if name == PREDICTIONS:
            columns["path"] = self.source.names.take(columns[ROW])
        return pa.table([columns.get(f.name, pa.nulls(len(reasons), f.type)) for f in schema], schema=schema)


def _map_rows(rows: NDArray, maps: Tensor, label: Tensor, logits: Tensor, about: str) -> pa.Table:
    """Maps (b, r, s) as rows: each divided by its largest absolute value, so that half precision holds small ones."""
    scale = maps.abs().amax((1, 2)).float()
    flat = (maps.amax((1, 2)) - maps.amin((1, 2))).float() <= 1e-6 * scale
    good = (~flat & scale.isfinite()).cpu().numpy()
    half = (maps / scale[:, None, None]).half().cpu().numpy()
    b, r, s = maps.shape
    target = label if about == "label" else logits.argmax(1)
    columns = {
        ROW: rows,
        "target": target.cpu().numpy().astype(np.int32),
        "r": np.full(b, r, np.int32),
        "s": np.full(b, s, np.int32),
        "scale": scale.cpu().numpy(),
        "map": [m.tobytes() if ok else None for m, ok in zip(half, good, strict=True)],
        ERROR: _reason("its map is the same everywhere, or not finite", good),
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in MAP_SCHEMA], schema=MAP_SCHEMA)


def _reason(why: str, fine: NDArray[np.bool_]) -> pa.Array:
    """A reason for each row that is not fine."""
    return pa.array(np.full(len(fine), why, object), _TEXT, mask=fine)


def _of_one_shape(inputs: Sequence[Tensor | str], whole: list[int]) -> list[list[int]]:
    """Inputs that can be stacked; those of a data set of tensors may differ in size."""
    groups: dict[Any, list[int]] = {}
    for i in whole:
        groups.setdefault(inputs[i].shape, []).append(i)  # type: ignore[union-attr]
    return list(groups.values())


def _out_of_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text


def _not_an_image(photo: Tensor) -> str:
    return f"a preprocessed photograph of shape (c, h, w) is needed; got {tuple(photo.shape)}"
