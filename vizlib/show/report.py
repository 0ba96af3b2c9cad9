"""The comparison as HTML: one file that needs no network and no kernel, or the content of a widget."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from vizlib.show import assets, colour
from vizlib.show.assets import base64_of
from vizlib.show.caption import CLASS_BLIND, peak, subject, trust
from vizlib.types import Heatmap


@dataclass(frozen=True, eq=False)
class Row:
    """One model on one photograph.

    Attributes:
        image: (3, h, w) in [0, 1], what the model saw.
        background: (3, h', w') in [0, 1], the same part of the scene to lay the maps over.
        top: the likeliest classes with their probabilities.
        truth: what the photograph shows, where that is known; note: whether the likeliest class is right, in words.
        cells: a heatmap of one photograph per method, or the reason why there is none.
        box: which part of the photograph the model saw: left, top, right, bottom in [0, 1].
        attention: what `hover_state` made, the reason why there is none, or None: not asked for.
    """

    model: str
    facts: str
    image: Tensor
    background: Tensor
    top: tuple[tuple[str, float], ...]
    cells: tuple[Heatmap | str, ...] = ()
    note: str = ""
    truth: str = ""
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    attention: dict[str, Any] | str | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Sheet:
    """One photograph: a row per model, a column per method."""

    photo: str
    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


def fragment(sheets: Sequence[Sheet], *, controls: bool = True) -> tuple[str, dict[str, Any]]:
    """The sheets as HTML, and the state that maps.js draws into it.

    Returns:
        The HTML, every name in it escaped; and a JSON-ready state: the colour tables, the photographs as data
        URIs, the raw values of every map as base64 of little-endian float32, the attention of each sheet.
    """
    tables = {kind: base64_of(colour.table(name)) for kind, name in _TABLES.items()}
    state: dict[str, Any] = {"tables": tables, "images": [], "cells": [], "hover": []}
    body = "".join(_sheet(i, sheet, state) for i, sheet in enumerate(sheets))
    return (_CONTROLS if controls else "") + body + '<div class="vl-speak" aria-live="polite"></div>', state


def page(sheets: Sequence[Sheet], table: str, title: str) -> str:
    """One self-contained HTML file.

    Args:
        table: HTML of the table below the pictures, already escaped.
        title: text of the heading.
    """
    body, state = fragment(sheets, controls=False)
    return assets.page(
        title,
        about=assets.asset("report.html"),
        main=f'{_CONTROLS}\n{body}\n<section class="vl-sheet"><h2>All in numbers</h2>'
        f'<div class="vl-scroll">{table}</div></section>',
        styles=("maps.css", "hover.css"),
        script="report.js",
        mount="mountReport",
        state=state,
    )


_TABLES = {"sequential": colour.SEQUENTIAL, "diverging": colour.DIVERGING}
_CONTROLS = """
<div class="vl-controls" role="group" aria-label="How the maps are drawn">
<label>Opacity <input type="range" min="0" max="1" step="0.05" data-setting="opacity"></label>
<label><input type="checkbox" data-setting="smooth"> smooth</label>
<label><input type="checkbox" data-setting="zero"> colours start at zero</label>
<label><input type="checkbox" data-setting="shared"> one scale per method</label>
<label><input type="checkbox" data-setting="colour"> photograph in colour</label>
</div>
"""


def _sheet(number: int, sheet: Sheet, state: dict[str, Any]) -> str:
    heads = "".join(f'<th scope="col">{escape(method)}</th>' for method in sheet.methods)
    first = len(state["images"])
    rows = "".join(_row(number, sheet, row, state) for row in sheet.rows)
    note = f'<p class="vl-note">{escape(sheet.note)}</p>' if sheet.note else ""
    return (
        f'<section class="vl-sheet"><h2>{escape(sheet.photo)}</h2>{note}'
        f'<div class="vl-scroll"><table class="vl-grid"><thead><tr><th scope="col">model</th>'
        f'<th scope="col">its input</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_attention(sheet, state, first)}</section>"
    )


def _attention(sheet: Sheet, state: dict[str, Any], first: int) -> str:
    """What the tokens attend to, for the models that have attention; `first` is the image of the first row."""
    found = {first + i: row.attention for i, row in enumerate(sheet.rows) if isinstance(row.attention, dict)}
    number = len(state["hover"])
    state["hover"].append([panel | {"photo": image} for image, panel in found.items()])
    reasons = [(row.model, row.attention) for row in sheet.rows if isinstance(row.attention, str)]
    told = "".join(f'<p class="vl-soft">{escape(model)}: {escape(why)}</p>' for model, why in reasons)
    if not found:
        return told
    return (
        f'<details class="vl-attention" data-hover="{number}" {"" if number else "open"}>'
        f"<summary>What does the token under the pointer attend to?</summary><div></div>{told}</details>"
    )


def _row(number: int, sheet: Sheet, row: Row, state: dict[str, Any]) -> str:
    h, w = row.image.shape[-2:]
    state["images"].append(photograph(row.background))
    top = "".join(
        f'<li><span>{escape(label)}</span><span>{share:.0%}</span><i style="--share:{share:.1%}"></i></li>'
        for label, share in row.top
    )
    seen = (
        f'<figure><div class="vl-stack"><img src="{photograph(row.image)}" '
        f'alt="{escape(sheet.photo)}, as {escape(row.model)} saw it"></div>'
        f'<figcaption class="vl-soft">{h} × {w} pixels</figcaption></figure>'
    )
    cells = "".join(
        f"<td>{_cell(number, method, row, cell, state)}</td>"
        for method, cell in zip(sheet.methods, row.cells, strict=True)
    )
    tone = "vl-soft" if row.top and row.truth == row.top[0][0] else "vl-note"  # a right answer is no warning
    note = f'<div class="{tone}">{escape(row.note)}</div>' if row.note else ""
    return (
        f'<tr><th scope="row"><div class="vl-model">{escape(row.model)}</div>'
        f'<div class="vl-soft">{escape(row.facts)}</div>'
        f'{note}<ul class="vl-top" aria-label="likeliest classes">{top}</ul></th><td>{seen}</td>{cells}</tr>'
    )


def _cell(number: int, method: str, row: Row, cell: Heatmap | str, state: dict[str, Any]) -> str:
    if isinstance(cell, str):
        return f'<div class="vl-reason">{escape(cell)}</div>'
    values = cell.values.detach().float().cpu().reshape(-1, *cell.values.shape[-2:])[0]
    scale, hint = colour.scale_of(values), f"strongest at {peak(cell)}"
    index = len(state["cells"])
    state["cells"].append(
        {
            "sheet": number,
            "method": method,
            "name": f"{row.model}, {method}",
            "image": len(state["images"]) - 1,
            "box": row.box,
            "aspect": row.background.shape[-2] / row.background.shape[-1],
            "shape": list(values.shape),
            "values": base64_of(values.numpy().astype("<f4").tobytes()),
            "low": float(values.min()),
            "high": float(values.max()),
            "signed": scale.signed,
            "unit": cell.unit,
            "hint": hint,
        }
    )
    about = subject(cell)
    judgement = "".join(f'<div class="vl-trust">{escape(line)}</div>' for line in trust(cell).splitlines())
    style = "vl-blind" if about == CLASS_BLIND else ""
    spread = f"from {float(values.min()):.3g} to {float(values.max()):.3g}"
    label = escape(f"{row.model}, {method}, {about}: {hint}, {spread}")
    return (
        f'<figure data-cell="{index}"><div class="vl-stack" tabindex="0" role="img" aria-label="{label}">'
        '<img alt=""><canvas></canvas><div class="vl-cursor" hidden></div></div><div class="vl-bar"></div>'
        '<div class="vl-scale"><span></span><span></span><span></span></div>'
        f'<figcaption><span class="{style}">{escape(about)}</span>'
        f'<span class="vl-value">{hint}</span>{judgement}</figcaption></figure>'
    )


def photograph(image: Tensor, longest: int = 420) -> str:
    """An image (3, h, w) in [0, 1] as a data URI, JPEG."""
    pixels = (image.detach().float().cpu().permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)
    picture = Image.fromarray(pixels.repeat(3, -1) if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((longest, longest))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64_of(file.getvalue())}"
