"""Mistakes for the browser: what debug.js clicks through, and one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from vizlib.dataset.finding import Mistakes
from vizlib.show.assets import asset, page

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
_NOT_READ = ("Not read", "Files that are no photographs; they count nowhere.")
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
        alike = f"Alike to {group['model']}" if len(models) > 1 else "Alike"
        title = f"{alike}: {group['name']} …"
        lists.append({"title": title, "text": f"{group['share']:.0%} of them this pair", "items": items})
    confusion = [_matrix(found, name) for name in models]
    return {"models": models, "photos": photos, "lists": lists, "confusion": confusion, "within": None}


def _matrix(found: Mistakes, model: str) -> dict[str, Any]:
    """A confusion matrix, of the labels with the most mistakes where there are too many to see."""
    counts = found.confusion(model)
    wrong = counts.sum(axis=1) - pd.Series({name: counts.at[name, name] for name in counts.index})
    rows = sorted(wrong.nlargest(MOST_LABELS).index)
    columns = [name for name in counts.columns if name in rows or counts.loc[rows, name].any()][: 2 * MOST_LABELS]
    return {"rows": rows, "columns": columns, "cells": counts.loc[rows, columns].to_numpy().tolist()}


def pictures_once(details: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """The `details` of several photographs, with numbers in place of pictures and one list of the `pictures`.

    Models that see the same part of a photograph are given the same picture.
    """
    pictures: dict[str, int] = {}
    numbered, tables = {}, None
    for photo, detail in details.items():
        own = [pictures.setdefault(image, len(pictures)) for image in detail["state"]["images"]]
        tables = detail["state"]["tables"]
        numbered[photo] = detail | {"state": detail["state"] | {"images": own, "tables": None}}
    return {"details": numbered, "pictures": list(pictures), "tables": tables}


_MAIN = """\
<p class="vl-soft">low and high hold the accuracy 95 times in 100; ece: expected calibration error.</p>
<div class="vl-scroll">{table}</div>
<div data-debug></div>
<div class="vl-findings">{findings}</div>"""


def debug_page(found: Mistakes, state: Mapping[str, Any], title: str, about: str) -> str:
    """One self-contained HTML file.

    Args:
        state: of `debug_state`, with `thumbs` and what `pictures_once` made of the photographs `within` the file.
        about: a paragraph of text.
    """
    unreadable = next(iter(found.tables.values())).attrs.get("unreadable", {})
    not_read = pd.DataFrame({"path": unreadable.keys(), "reason": unreadable.values()})
    findings = "".join(_finding(*_TABLES[name], getattr(found, name), found.notes.get(name, "")) for name in _TABLES)
    findings += _finding(*_NOT_READ, not_read, kind="vl-wide") if unreadable else ""
    return page(
        title,
        about=asset("debug.html").format(about=escape(about)),
        main=_MAIN.format(table=_html(found.summary), findings=findings),
        styles=("maps.css", "debug.css"),
        script="debug_report.js",
        mount="mountDebugReport",
        state=state,
    )


def _finding(title: str, text: str, table: pd.DataFrame, why: str = "", kind: str = "") -> str:
    if table.empty:
        body = f'<p class="vl-soft">None: {escape(why or "nothing was found")}.</p>'
    else:
        shown = table.head(_ROWS).drop(columns="rows", errors="ignore")
        left = f'<p class="vl-soft">{len(table) - _ROWS} more.</p>' if len(table) > _ROWS else ""
        body = f'<p class="vl-soft">{text}</p><div class="vl-scroll">{_html(shown)}</div>{left}'
    return f'<section class="{kind}"><h2>{title}</h2>{body}</section>'


def _html(table: pd.DataFrame) -> str:
    """A table with numbers to the right, every name escaped."""
    kinds = {name: ' class="vl-number"' if pd.api.types.is_numeric_dtype(table[name]) else "" for name in table}
    heads = "".join(f'<th scope="col"{kind}>{escape(str(name))}</th>' for name, kind in kinds.items())
    rows = (
        "".join(f"<td{kinds[name]}>{_text(name, value)}</td>" for name, value in line.items())
        for line in table.to_dict("records")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<table class="vl-table"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _text(column: str, value: Any) -> str:
    if pd.api.types.is_float(value) and pd.isna(value):
        return "–"
    return escape(f"{value:.1%}" if column in _SHARES else str(value)).replace("-", "−" if column == "gap" else "-")
