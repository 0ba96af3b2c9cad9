"""Where and why classifiers are wrong: their tables ranked, compared and grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from vizlib.dataset.grouping import groups_of, label_errors_of
from vizlib.models.accuracy import expected_calibration_error, wilson

FEW = 5  # photographs of a class, below which a share says nothing
_SHOWN = ["model", "row", "path", "label", "prediction", "confidence"]


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What several classifiers get wrong in the same photographs, each table with the most telling row first.

    Attributes:
        tables: model -> its table of `predict`.
        summary: a row per model: photos, accuracy with its 95 % interval, mean confidence, calibration error.
        confident: wrong answers, the surest first.
        pairs: label and prediction that were taken for each other: photos, share of the label's photographs.
        disagreements: photographs that one model gets right and another wrong.
        classes: recall of each label with its 95 % interval (Wilson), precision; the lowest recall first.
        calibration: per predicted class mean confidence less accuracy; the furthest apart first.
        label_errors: labels that the models' probabilities speak against (cleanlab).
        groups: mistakes that lie close together in the model's own features, named by their most common pair.
        wrong_reason: right answers whose map has less of its mass on the object than a map without preference.
        elsewhere: wrong answers with such a map.
        notes: name of a table -> why it is empty.
    """

    tables: dict[str, pd.DataFrame]
    summary: pd.DataFrame
    confident: pd.DataFrame
    pairs: pd.DataFrame
    disagreements: pd.DataFrame
    classes: pd.DataFrame
    calibration: pd.DataFrame
    label_errors: pd.DataFrame
    groups: pd.DataFrame
    wrong_reason: pd.DataFrame
    elsewhere: pd.DataFrame
    notes: dict[str, str] = field(default_factory=dict)

    def confusion(self, model: str) -> pd.DataFrame:
        """Photographs of a label (row) that the model called each class (column); labels of the data, then others."""
        table = self.tables[model]
        labels = sorted(table["label"].unique())
        others = sorted(set(table["prediction"]) - set(labels))
        counts = pd.crosstab(table["label"], table["prediction"])
        return counts.reindex(index=labels, columns=labels + others, fill_value=0)

    def __str__(self) -> str:
        parts = [self.summary.round(3).to_string(index=False)]
        for name in ("confident", "pairs", "disagreements", "classes", "calibration", "label_errors", "groups",
                     "wrong_reason", "elsewhere"):  # fmt: skip
            found: pd.DataFrame = getattr(self, name)
            head = found.head(3).drop(columns=["path", "rows"], errors="ignore").round(3).to_string(index=False)
            parts.append(f"{name} ({len(found)})\n{self.notes.get(name, '') if found.empty else head}")
        return "\n\n".join(parts)


def mistakes(tables: pd.DataFrame | Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame]) -> Mistakes:
    """Rank what one or several classifiers got wrong.

    Args:
        tables: of `predict` on the same photographs, one per model; a mapping gives the models' names. With the column
            `inside` that `locate` adds, also what was right for the wrong reason.

    Raises:
        ValueError: no rows, or the models were not given the same photographs with the same labels.
    """
    named = _named(tables)
    every = pd.concat([table.assign(model=name) for name, table in named.items()], ignore_index=True)
    wrong = every[~every["correct"]]
    label_errors, no_labels = label_errors_of(named)
    groups, no_groups = groups_of(named)
    notes = {"label_errors": no_labels, "groups": no_groups}
    if len(named) < 2:
        notes["disagreements"] = "two models are needed"
    if "inside" not in every:
        notes["wrong_reason"] = notes["elsewhere"] = "vl.dataset.locate says where the object is"
    return Mistakes(
        tables=named,
        summary=pd.DataFrame([_summary(name, table) for name, table in named.items()]),
        confident=wrong.sort_values("confidence", ascending=False)[_SHOWN],
        pairs=_pairs(every),
        disagreements=_disagreements(named),
        classes=_classes(every),
        calibration=_calibration(every),
        label_errors=label_errors,
        groups=groups,
        wrong_reason=_off_object(every, right=True),
        elsewhere=_off_object(every, right=False),
        notes={name: why for name, why in notes.items() if why},
    )


def _named(tables: pd.DataFrame | Sequence[pd.DataFrame] | Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables by model, on the same photographs."""
    given = [tables] if isinstance(tables, pd.DataFrame) else tables
    if not isinstance(given, Mapping):
        given = {str(table["model"].iloc[0]) if len(table) else f"table {i}": table for i, table in enumerate(given)}
    if not given or any(table.empty for table in given.values()):
        raise ValueError("a table of predict with rows in it is needed for each model; one has none. Run predict.")
    if not isinstance(tables, Mapping | pd.DataFrame) and len(given) < len(tables):
        raise ValueError("a name for each model is needed; two tables have the same. Pass {name: table, …}.")
    first, *others = given
    labels = given[first].set_index("path")["label"]
    for name in others:
        own = given[name].set_index("path")["label"]
        shared = labels.index.intersection(own.index)
        if len(shared) != len(labels) or len(shared) != len(own):
            raise ValueError(
                f"the same photographs are needed for every model; {first} has {len(labels)}, {name} {len(own)}, and "
                f"{len(shared)} are in both. Run predict on the same data."
            )
        different = shared[(labels[shared] != own[shared]).to_numpy()]
        if len(different):
            raise ValueError(
                f"the same labels are needed for every model; {different[0]} is {labels[different[0]]!r} to {first} "
                f"and {own[different[0]]!r} to {name}. Load the models with the same labels=[…]."
            )
    return dict(given)


def _summary(name: str, table: pd.DataFrame) -> dict[str, object]:
    right = table["correct"].to_numpy()
    low, high = wilson(int(right.sum()), len(right))
    confidence = torch.from_numpy(table["confidence"].to_numpy(copy=True))
    return {
        "model": name,
        "photos": len(table),
        "accuracy": right.mean(),
        "low": low,
        "high": high,
        "confidence": table["confidence"].mean(),
        "ece": expected_calibration_error(confidence, torch.from_numpy(right.copy())),
    }


def _pairs(every: pd.DataFrame) -> pd.DataFrame:
    photos = every.groupby(["model", "label"]).size().rename("of")
    wrong = every[~every["correct"]].groupby(["model", "label", "prediction"])
    found = wrong.agg(photos=("row", "size"), confidence=("confidence", "mean")).reset_index()
    found = found.merge(photos.reset_index(), on=["model", "label"])
    found["share"] = found["photos"] / found.pop("of")
    return found.sort_values(["photos", "share"], ascending=False, ignore_index=True)


def _disagreements(named: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per photograph that not all models get right or wrong: which do, and how sure the wrong ones are."""
    columns = ["path", "label", "right", "wrong", "predictions", "confidence"]
    if len(named) < 2:
        return pd.DataFrame(columns=columns)
    aligned = {name: table.set_index("path") for name, table in named.items()}
    paths = next(iter(aligned.values())).index
    right = np.stack([table.loc[paths, "correct"].to_numpy() for table in aligned.values()])
    sure = np.stack([table.loc[paths, "confidence"].to_numpy() for table in aligned.values()])
    models, lines = np.array(list(named)), []
    for i in np.flatnonzero(right.any(0) & ~right.all(0)):
        wrong = models[~right[:, i]]
        lines.append(
            {
                "path": paths[i],
                "label": aligned[models[0]]["label"].iloc[i],
                "right": ", ".join(models[right[:, i]]),
                "wrong": ", ".join(wrong),
                "predictions": ", ".join(aligned[name].loc[paths[i], "prediction"] for name in wrong),
                "confidence": sure[~right[:, i], i].max(),
            }
        )
    return pd.DataFrame(lines, columns=columns).sort_values("confidence", ascending=False, ignore_index=True)


def _classes(every: pd.DataFrame) -> pd.DataFrame:
    found = every.groupby(["model", "label"]).agg(photos=("row", "size"), right=("correct", "sum")).reset_index()
    called = every.groupby(["model", "prediction"])["correct"].mean().rename("precision")
    found["recall"] = found["right"] / found["photos"]
    limits = [wilson(int(k), int(n)) for k, n in zip(found.pop("right"), found["photos"], strict=True)]
    found[["low", "high"]] = pd.DataFrame(limits, index=found.index)
    called = called.reset_index().rename(columns={"prediction": "label"})
    return found.merge(called, how="left").sort_values("recall", ignore_index=True)


def _calibration(every: pd.DataFrame) -> pd.DataFrame:
    grouped = every.groupby(["model", "prediction"])
    found = grouped.agg(photos=("row", "size"), confidence=("confidence", "mean"), accuracy=("correct", "mean"))
    found = found[found["photos"] >= FEW].reset_index()
    found["gap"] = found["confidence"] - found["accuracy"]
    return found.sort_values("gap", key=abs, ascending=False, ignore_index=True)


def _off_object(every: pd.DataFrame, *, right: bool) -> pd.DataFrame:
    columns = [*_SHOWN, "inside", "object_share"]
    if "inside" not in every:
        return pd.DataFrame(columns=columns)
    chosen = every[(every["correct"] == right) & (every["inside"] < every["object_share"])]
    return chosen.sort_values("inside", ignore_index=True)[columns]
