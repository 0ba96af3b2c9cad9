"""Accuracy against cost: a picture, a page, or a widget whose marks open in the explorer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from vizlib.explore.explorer import REFUSALS, explorer
from vizlib.measure.checkpoints import COSTS, front, measured, published, trained_zoo
from vizlib.measure.own_table import completed
from vizlib.show.assets import asset, base64_of, module
from vizlib.show.files import save
from vizlib.show.scatter import figure
from vizlib.show.tradeoff import html_table, tradeoff_page, tradeoff_state
from vizlib.types import Classifier


@dataclass(frozen=True, eq=False)
class Tradeoff:
    """Classifiers with their accuracies and costs.

    Attributes:
        table: a row per classifier: model, family, dataset, accuracy in [0, 1], params, gmacs, memory_mb, latency_ms
            (NaN where it was not measured), the source of the accuracy; see `measure.checkpoints.published`.
        cost: the column that is drawn against.
    """

    table: pd.DataFrame
    cost: str = "gmacs"

    @property
    def front(self) -> pd.DataFrame:
        """The rows that no other row of the same data set beats in both accuracy and cost, the cheapest first."""
        parts = [front(group, self.cost) for _, group in self.table.groupby("dataset", sort=False)]
        return pd.concat(parts, ignore_index=True)

    def figure(self, cost: str | None = None) -> Figure:
        """A picture for each data set: the accuracy against a cost on a logarithmic axis."""
        return figure(self.table, _known_cost(cost or self.cost))

    def show(self) -> widgets.VBox:
        """A widget: hover for numbers, click a mark for details and to open the model in the explorer."""
        return _Panel(self.table, self.cost)

    def save(self, path: str | Path) -> Path:
        """Write everything to one file.

        Args:
            path: ends in .html (interactive, needs no network), .png, .pdf, .svg or .csv (the table alone).

        Raises:
            ValueError: another ending.
        """
        return save(
            path,
            figure=self.figure,
            table=self.table,
            page=lambda: tradeoff_page(self.table, self.cost),
            dpi=150,
        )

    def _repr_html_(self) -> str:
        """The picture, and the table folded under it."""
        file = io.BytesIO()
        self.figure().savefig(file, format="png", dpi=100)
        picture = f'<img style="max-width:100%" alt="accuracy against {self.cost}" src="data:image/png;base64,'
        table = f"<details><summary>all numbers</summary>{html_table(self.table)}</details>"
        return f'{picture}{base64_of(file.getvalue())}">{table}'


def tradeoff(
    models: str | pd.DataFrame | Sequence[str | Classifier] | None = None,
    *,
    cost: str = "gmacs",
    latency: bool = False,
) -> Tradeoff:
    """Accuracy against cost: published checkpoints, the zoo, models of yours, or a table.

    Costs are measured here, never copied. Accuracies on different data sets are drawn on axes of their own. The
    zoo's latencies are always measured, which takes seconds; those of the published checkpoints would take long, so
    that name those that you want timed.

    Args:
        models: None for the published checkpoints and the zoo; "published" or "zoo" for one of them; names or
            classifiers, which are measured now; or a table with the columns of `Tradeoff.table`, of which it needs
            model, accuracy and a cost.
        cost: "gmacs", "params", "memory_mb" or "latency_ms".
        latency: run the models that are named too, in turns. Drawing against "latency_ms" does.

    Raises:
        ValueError: an unknown cost, no model, none whose accuracy is known, or a latency that is not measured.
    """
    latency = latency or _known_cost(cost) == "latency_ms"
    table = completed(models) if isinstance(models, pd.DataFrame) else _measured(models, latency)
    if table.empty or table["accuracy"].isna().all():
        raise ValueError(
            "a trade-off needs models whose accuracy is known: members of the zoo, checkpoints of "
            "tradeoff('published').table, or a table of yours with a column accuracy; got none of these."
        )
    if table[cost].isna().all():
        raise ValueError(
            f"a trade-off against {cost} needs that column; the table has no value there. Measure some models: "
            f"tradeoff(['zoo/vit', 'timm/resnet50.a1_in1k'], cost='latency_ms')."
        )
    return Tradeoff(table, cost)


class Scatter(anywidget.AnyWidget):
    """The plots in a notebook, drawn by the browser."""

    _esm = module("tradeoff_widget.js")
    _css = asset("maps.css") + asset("tradeoff.css")
    state = traitlets.Dict().tag(sync=True)


class _Panel(widgets.VBox):
    """The plots, and below them the explorer with the model that was opened last."""

    def __init__(self, table: pd.DataFrame, cost: str) -> None:
        hint = "Click a mark for its numbers, and to open the model in the explorer."
        self.plots, self.opened = Scatter(state=tradeoff_state(table, cost, hint)), widgets.VBox()
        super().__init__([self.plots, self.opened])
        self.plots.on_msg(lambda _widget, message, _buffers: self.show_model(message["open"]))

    def show_model(self, model: str) -> None:
        """Shows a model in the explorer, or why that cannot be."""
        self.opened.children = [widgets.HTML(f"Opening {model} …")]
        try:
            self.opened.children = [explorer([model])]
        except REFUSALS as error:
            self.opened.children = [widgets.HTML(f'<div role="status">{model} could not be opened: {error}</div>')]


def _known_cost(cost: str) -> str:
    if cost not in COSTS:
        raise ValueError(f"a cost is needed; got {cost!r}. Name one of: {', '.join(COSTS)}.")
    return cost


def _measured(models: Any, latency: bool) -> pd.DataFrame:
    if isinstance(models, str) and models == "published" and latency:
        raise ValueError(
            "latencies of named models or of the zoo can be measured; got 'published', whose 123 would take long. "
            "Name some: tradeoff(['timm/resnet50.a1_in1k', 'timm/vit_small_patch16_224.augreg_in1k'], latency=True)."
        )
    if models is None or (isinstance(models, str) and models in ("published", "zoo")):
        parts = [] if models == "zoo" else [published().query("image_px == accuracy_px")]
        parts += [] if models == "published" else [trained_zoo(latency=True)]
        return pd.concat(parts, ignore_index=True)
    several = list(models) if isinstance(models, list | tuple) else [models]
    return measured(several, latency=latency)
