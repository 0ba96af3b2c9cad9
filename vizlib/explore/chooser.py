"""A small panel that narrows the published checkpoints down to those that keep to limits, and says how."""

from __future__ import annotations

from html import escape
from typing import Any

import ipywidgets as widgets
import pandas as pd

from vizlib.measure.choose import Chosen, choose
from vizlib.measure.costs import LARGER

NONE = "no limit"
QUESTIONS = {
    "device": "Where will it run?",
    "photographs": "How many labelled photographs of your own are there to fine-tune on?",
    "accuracy": "How often must it be right, at least? (top-1 on ImageNet-1k)",
    "gmacs": "How many multiply-accumulates may an image cost?",
    "params": "How many parameters may it have? (4 bytes each on disk)",
    "memory_mb": "How much memory may one forward take?",
    "resolution": "How large must the photograph be seen?",
    "latency_ms": "How long may one image take on this machine? (measured: half a minute)",
}
# The widgets know no None: 0 stands for no limit.
CHOICES: dict[str, list[tuple[str, Any]]] = {
    "device": [("here, or no matter", 0), ("on a phone or an edge board", "phone"), ("on a server", "server")],
    "photographs": [("no matter", 0), *((f"{v:,}", v) for v in (100, 1000, 10_000, 100_000, 1_000_000))],
    "accuracy": [(NONE, 0), *((f"{v} %", v / 100) for v in (70, 74, 78, 80, 82, 84, 86, 88, 90))],
    "gmacs": [*((f"{v:g} G", v) for v in (0.3, 0.5, 1, 2, 5, 10, 20, 50, 100)), (NONE, 0)],
    "params": [*((f"{v} M", v * 1e6) for v in (2, 5, 10, 20, 30, 50, 100, 200)), (NONE, 0)],
    "memory_mb": [*((f"{v} MB", v) for v in (25, 50, 100, 200, 400, 800)), (NONE, 0)],
    "resolution": [("as published", 0), *((f"{v} px", v) for v in LARGER)],
    "latency_ms": [*((f"{v} ms", v) for v in (5, 10, 20, 50, 100, 200, 500)), (NONE, 0)],
}
FIRST = {"the most accurate": "accuracy", "the fewest operations": "gmacs", "the fewest parameters": "params"}


class Chooser(widgets.VBox):
    """The panel: a question per limit, the order, and below them how many rows each limit leaves.

    Attributes:
        chosen: what the limits leave now, or None where they leave nothing.
    """

    def __init__(self, table: pd.DataFrame | None = None) -> None:
        self._table = table
        self.chosen: Chosen | None = None
        wide = {"description_width": "0"}
        self.limits = {
            name: widgets.SelectionSlider(
                options=options, value=0, continuous_update=False, style=wide, layout={"width": "340px"}
            )
            for name, options in CHOICES.items()
        }
        self.more_data = widgets.Checkbox(
            value=True, description="trained on more photographs is welcome", indent=False
        )
        self.first = widgets.ToggleButtons(options=FIRST, style={"button_width": "170px"})
        self.answer = widgets.HTML()
        rows = [
            widgets.HBox([widgets.Label(QUESTIONS[n], layout={"width": "470px"}), s]) for n, s in self.limits.items()
        ]
        super().__init__([*rows, self.more_data, widgets.HBox([widgets.Label("First:"), self.first]), self.answer])
        for control in (*self.limits.values(), self.more_data, self.first):
            control.observe(self._changed, "value")
        self._changed(None)

    def _changed(self, _change: Any) -> None:
        limits = {name: control.value or None for name, control in self.limits.items()}
        try:
            found = choose(
                **limits,
                more_data=self.more_data.value,
                first=self.first.value,
                table=self._table,
                tell=self._tell,
            )
        except ValueError as error:
            self.chosen = None
            self.answer.value = f'<div role="status">{escape(str(error))}</div>'
        else:
            self.chosen, self.answer.value = found, answer(found)

    def _tell(self, text: str) -> None:
        """What is being measured; the browser shows it while the kernel is busy."""
        self.answer.value = f'<div role="status">Measuring on this machine: {escape(text)} …</div>'


def chooser(table: pd.DataFrame | None = None) -> Chooser:
    """A panel that asks for limits and shows which classifiers keep to them, and how many each limit leaves.

    Args:
        table: rows to choose from, as in `choose`.
    """
    return Chooser(table)


def answer(chosen: Chosen) -> str:
    """What `choose` found, as HTML: a bar per step, the best row with the code that opens it, ten rows, advice."""
    whole = chosen.steps[0][1]
    bar = "display:inline-block;height:9px;border-radius:2px;background:#0072B2;width"
    steps = "".join(
        f'<tr><td style="text-align:right;padding:0 10px"><b>{left}</b></td>'
        f'<td style="width:220px"><span style="{bar}:{max(200 * left / whole, 2):.0f}px"></span></td>'
        f"<td>{escape(step)}</td></tr>"
        for step, left in chosen.steps
    )
    best = chosen.best
    code = f'vl.load("{best["model"]}")'
    formats = {"accuracy": "{:.2%}".format, "params": "{:,.0f}".format}
    rows = (
        chosen.rows[chosen.shown]
        .head(10)
        .to_html(index=False, border=0, formatters=formats, float_format="{:.4g}".format)
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in chosen.notes)
    advice = "".join(f"<li>{escape(line)}</li>" for line in chosen.advice)
    told = f"<p>Best: <b>{escape(best['model'])}</b> &nbsp; <code>{escape(code)}</code></p>"
    return f"<table>{steps}</table>{told}{rows}{notes}<p>The same case in articles:</p><ul>{advice}</ul>"
