"""Several models, several methods, one picture grid."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from vizlib.explore.rows import about, attention_of, cell_of, named_photos, row_of
from vizlib.measure.trust import METRICS, judge
from vizlib.methods.table import explain, shared_out
from vizlib.models.load import load_all
from vizlib.show import caption, plot
from vizlib.show.caption import peak
from vizlib.show.files import save
from vizlib.show.report import Row, Sheet, page
from vizlib.types import Heatmap, Target

Key = tuple[str, str, str]
_FORMATS = {"parameters": "{:,}".format, "GMACs": "{:.3f}".format, "confidence": "{:.1%}".format}
_PRINTED: dict[str, Any] = {"formatters": _FORMATS, "float_format": "{:.2f}".format, "na_rep": ""}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What several models look at in several photographs.

    Attributes:
        table: a row per photograph and model: family, parameters, GMACs, prediction, confidence, what the
            photograph shows and whether the prediction is right (of samples that it is known of), and where each
            method's map is strongest, (row, column) in [0, 1]. With `trust`, of each method's map: deletion,
            insertion, p beside random maps, and whether it beats the centre Gaussian.
        sheets: the pictures, one sheet per photograph.
    """

    table: pd.DataFrame
    sheets: tuple[Sheet, ...]

    @property
    def heatmaps(self) -> dict[Key, Heatmap]:
        """(photograph, model, method) -> the heatmap of that photograph."""
        return {key: cell for key, cell in self._cells() if isinstance(cell, Heatmap)}

    @property
    def reasons(self) -> dict[Key, str]:
        """(photograph, model, method) -> why there is no heatmap."""
        return {key: cell for key, cell in self._cells() if isinstance(cell, str)}

    def figure(self, photo: str | None = None, **options: Any) -> Figure:
        """The pictures of one photograph, or of all of them one below the other.

        Args:
            options: as in `plot.grid`.

        Raises:
            ValueError: no photograph has this name.
        """
        sheets = [sheet for sheet in self.sheets if photo in (None, sheet.photo)]
        if not sheets:
            known = ", ".join(sheet.photo for sheet in self.sheets)
            raise ValueError(f"a photograph of the comparison is needed; got {photo!r}. There are: {known}.")
        rows = [len(sheet.rows) for sheet in sheets]
        columns = len(sheets[0].methods) + 1
        tall = 2.5 + 0.5 * any("p" in heat.notes for heat in self.heatmaps.values())  # room for what judges them
        inches = (columns * 2.9, sum(rows) * tall + len(rows) * 0.7)
        figure = Figure(figsize=inches, layout="constrained")
        parts = figure.subfigures(len(sheets), 1, squeeze=False, height_ratios=rows)
        for part, sheet in zip(parts[:, 0], sheets, strict=True):
            part.suptitle("\n".join(filter(None, (sheet.photo, sheet.note))), weight="bold")
            _draw(sheet, part.subplots(len(sheet.rows), columns, squeeze=False), options)
        return figure

    def show(self, photo: str | None = None, **options: Any) -> None:
        """Display the pictures in a notebook; arguments as in `figure`. In a script, use `save`."""
        from IPython.display import Image, display

        file = io.BytesIO()
        self.figure(photo, **options).savefig(file, format="png", dpi=80)
        display(Image(file.getvalue()))

    def save(self, path: str | Path) -> Path:
        """Write everything to one file.

        Args:
            path: ends in .html (interactive, needs no network), .png, .pdf, .svg or .csv (the table alone).

        Raises:
            ValueError: another ending.
        """
        title = "What these classifiers look at"
        return save(
            path,
            figure=self.figure,
            table=self.table,
            page=lambda: page(self.sheets, self._html_table(), title),
        )

    def _cells(self) -> Iterator[tuple[Key, Heatmap | str]]:
        for sheet in self.sheets:
            for row in sheet.rows:
                for method, cell in zip(sheet.methods, row.cells, strict=True):
                    yield (sheet.photo, row.model, method), cell

    def _html_table(self) -> str:
        return str(self.table.to_html(index=False, border=0, classes="vl-table", **_PRINTED))

    def __repr__(self) -> str:
        return str(self.table.to_string(index=False, **_PRINTED))

    def _repr_html_(self) -> str:
        return self._html_table()


def compare(
    models: Any,
    photos: Any,
    methods: str | Sequence[str] = ("gradcam", "rollout"),
    *,
    target: Target | None = None,
    hover_mb: float = 12.0,
    trust: bool = False,
    **options: Any,
) -> Comparison:
    """Explain every photograph by every model with every method.

    A map that cannot be made leaves its reason in the grid; the other maps are not affected.

    Args:
        models: names as in `load`, classifiers or modules: one, a list, or a dict of names of your own.
        photos: paths, names of sample photographs, images, arrays: one, a list, or a dict of names of your
            own; a float tensor (b, c, h, w) is taken as already preprocessed.
        methods: rows of METHODS, or "auto" as in `explain`.
        target: a class, as in `explain`; by default each model's prediction.
        hover_mb: megabytes of attention weights that the saved page may hold for hovering, in all; 0 for none.
            What does not fit is left out, the first layers first.
        trust: judge every map by insertion − deletion beside 19 random maps and a centre Gaussian, and print that
            under its picture. Images through the model: about 20 a map, and 360 for each photograph, model and
            size of map.
        options: of the methods (head, fusion, discard …), given to those that have them.

    Raises:
        ValueError: a method is not in METHODS, none has an option, a photograph cannot be read, or no map at all
            could be made.
    """
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    own = shared_out(methods, options)
    classifiers, pictures = load_all(models), named_photos(photos)
    facts = {model: about(clf) for model, clf in classifiers.items()}
    rows: dict[str, list[Row]] = {photo: [] for photo in pictures}
    lines = []
    pairs = list(product(pictures, classifiers))
    limit = int(1e6 * hover_mb / len(pairs))
    for photo, model in tqdm(pairs, desc="compare", disable=None, delay=1, leave=False):
        clf, picture = classifiers[model], pictures[photo]
        x = clf.prepare(picture)
        made = row_of(model, clf, facts[model], picture, x)
        makers: list[Any] = [partial(explain, clf, method=method, target=target, **own[method]) for method in methods]
        judged = judge(clf, x) if trust else None
        cells = tuple(cell_of(make, x, judged) for make in makers)
        made = replace(made, cells=cells, attention=attention_of(clf, x, made, limit) if limit else None)
        rows[photo].append(made)
        lines.append({"photo": photo, "model": model} | facts[model] | _line(made, methods))
    note = "; ".join(f"{method}: {_words(chosen)}" for method, chosen in own.items() if chosen)
    sheets = tuple(Sheet(photo, methods, tuple(of_photo), note) for photo, of_photo in rows.items())
    comparison = Comparison(pd.DataFrame(lines), sheets)
    if not comparison.heatmaps:
        reasons = dict.fromkeys(f"{model}, {m}: {why}" for (_, model, m), why in comparison.reasons.items())
        raise ValueError(f"compare needs at least one map; none could be made. {'; '.join(reasons)}")
    return comparison


def _words(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _line(row: Row, methods: Sequence[str]) -> dict[str, Any]:
    """The columns of the table that depend on the photograph."""
    label, confidence = row.top[0]
    peaks = {
        f"{method} peak": "" if isinstance(cell, str) else peak(cell)
        for method, cell in zip(methods, row.cells, strict=True)
    }
    right = {"": "", label: "yes"}.get(row.truth, "no")
    told = {"prediction": label, "confidence": confidence, "right": right, "truth": row.truth} | peaks
    for method, cell in zip(methods, row.cells, strict=True):
        notes = {} if isinstance(cell, str) else cell.notes
        if "p" in notes:
            told |= {f"{method} {name}": float(notes[name]) for name in (*METRICS, "p")}
            told[f"{method} beats centre"] = "yes" if bool(notes["beats centre"]) else "no"
    return told


def _draw(sheet: Sheet, axes: NDArray, options: dict[str, Any]) -> None:
    plot.grid(
        [row.cells for row in sheet.rows],
        axes=axes,
        rows=[row.model for row in sheet.rows],
        columns=sheet.methods,
        backgrounds=[row.background for row in sheet.rows],
        **options,
    )
    for line, row in zip(axes, sheet.rows, strict=True):
        label, share = row.top[0]
        title = "\n".join(filter(None, (f"{label} {share:.0%}", row.note)))
        line[0].set_title(title, fontsize=8, y=1.0, color="darkred" if row.note.startswith("wrong") else "black")
        for ax, cell in zip(line[1:], row.cells, strict=True):
            if isinstance(cell, Heatmap):
                ax.set_xlabel(caption.trust(cell), fontsize=7)
