"""Mistakes for the browser: what debug.js clicks through, and one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from vizlib.dataset.finding import Mistakes
from vizlib.show.assets import asset, module, packed

MOST_LABELS = 40  # rows of a confusion matrix
LISTS = {
    "confident": ("Sure and wrong", "wrong answers, the surest first"),
    "disagreements": ("One right, another wrong", "photographs on which the models disagree"),
    "wrong_reason": ("Right, looking elsewhere", "right answers with less of the map on the object than by chance"),
    "elsewhere": ("Wrong, looking elsewhere", "wrong answers with less of the map on the object than by chance"),
    "label_errors": ("Suspect labels", "labels that the models' probabilities speak against"),
}
_TABLES = {
    "pairs": ("Confused pairs", "What was taken for what, the most photographs first."),
    "classes": ("Recall", "Classes with the lowest recall first; low and high hold it 95 times in 100."),
    "calibration": ("Calibration", "Answers by class: mean confidence less accuracy, the furthest apart first."),
    "groups": ("Groups of mistakes", "Close together in the model's own features; named by their most common pair."),
}
_ROWS = 15  # of each table in a report
_SHARES = ("accuracy", "low", "high", "confidence", "ece", "share", "recall", "precision", "gap")


def debug_state(found: Mistakes, names: Mapping[str, str]) -> dict[str, Any]:
    """What the browser needs of all photographs, as JSON can hold it; photographs are numbered as in the first table.

    Args:
        names: path -> what a photograph is called.
    """
    models = list(found.tables)
    first = found.tables[models[0]]
    aligned = [found.tables[name].set_index("path").loc[first["path"]] for name in models]
    answers = [list(zip(t["prediction"], t["confidence"].round(4).tolist(), strict=True)) for t in aligned]
    photos = [
        {"name": names[path], "label": label, "answers": [own[i] for own in answers]}
        for i, (path, label) in enumerate(zip(first["path"], first["label"], strict=True))
    ]
    number = {path: i for i, path in enumerate(first["path"])}
    lists = [
        {"title": title, "text": text, "items": list(dict.fromkeys(number[p] for p in getattr(found, name)["path"]))}
        for name, (title, text) in LISTS.items()
    ]
    by_row = {name: dict(zip(t["row"], t["path"], strict=True)) for name, t in found.tables.items()}
    for group in found.groups.head(12).to_dict("records"):
        items = [number[by_row[group["model"]][row]] for row in group["rows"]]
        title = f"Group: {group['name']}"
        lists.append({"title": title, "text": f"alike to {group['model']}", "items": items})
    confusion = [_matrix(found, name) for name in models]
    return {"models": models, "photos": photos, "lists": lists, "confusion": confusion, "within": None}


def _matrix(found: Mistakes, model: str) -> dict[str, Any]:
    """A confusion matrix, of the labels with the most mistakes where there are too many to see."""
    counts = found.confusion(model)
    wrong = counts.sum(axis=1) - pd.Series({name: counts.at[name, name] for name in counts.index})
    rows = sorted(wrong.nlargest(MOST_LABELS).index)
    columns = [name for name in counts.columns if name in rows or counts.loc[rows, name].any()][: 2 * MOST_LABELS]
    return {"rows": rows, "columns": columns, "cells": counts.loc[rows, columns].to_numpy().tolist()}


def debug_page(found: Mistakes, state: Mapping[str, Any], title: str, about: str) -> str:
    """One self-contained HTML file.

    Args:
        state: of `debug_state`, with `thumbs` and `details` of the photographs `within` the file.
        about: a paragraph of text.
    """
    return asset("debug.html").format(
        title=escape(title),
        about=escape(about),
        style=asset("maps.css") + asset("debug.css"),
        script=module("debug_report.js"),
        table=_html(found.summary),
        findings="".join(_finding(found, name) for name in _TABLES),
        state=packed(state),
    )


def _finding(found: Mistakes, name: str) -> str:
    title, text = _TABLES[name]
    table = getattr(found, name)
    if table.empty:
        return f'<h2>{title}</h2><p class="vl-soft">None: {escape(found.notes.get(name, "nothing was found"))}.</p>'
    shown = table.head(_ROWS).drop(columns=["rows", "path"], errors="ignore")
    return f'<h2>{title}</h2><p class="vl-soft">{text}</p><div class="vl-scroll">{_html(shown)}</div>'


def _html(table: pd.DataFrame) -> str:
    formats = {name: "{:.1%}".format for name in _SHARES if name in table}
    return str(table.to_html(index=False, border=0, classes="vl-table", formatters=formats, escape=True))
