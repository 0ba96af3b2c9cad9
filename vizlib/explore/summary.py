"""What a classifier is made of and which methods apply to it, as a table to read."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd
from torch import Tensor

from vizlib.capture.anatomy import Site, study
from vizlib.capture.summary import family, obstacles, probe
from vizlib.capture.target import cam_layer
from vizlib.capture.trace import dense_head
from vizlib.classifier import must_be_classifier
from vizlib.measure.cost import params_of
from vizlib.methods.table import METHODS, explain
from vizlib.types import Classifier


@dataclass(frozen=True, eq=False)
class Summary:
    """What a classifier is made of; `print` shows it as a text.

    Attributes:
        family: "CNN", "Transformer", "hybrid" or "MLP", by what the model contains.
        layer: the layer of class activation maps, "" if there is none.
        dense: the head that scores the classes at every patch, "" if there is none.
        attentions: a row per attention operation, in execution order.
        gates: a row per gate.
        methods: method -> why it does not apply, "" where it does.
    """

    name: str
    family: str
    parameters: int
    input_size: tuple[int, int, int]
    classes: int
    layer: str
    attentions: pd.DataFrame
    gates: pd.DataFrame
    methods: dict[str, str]
    dense: str = ""

    def __str__(self) -> str:
        c, h, w = self.input_size
        size = f"{self.parameters:,} parameters · {self.classes} classes · input {c} × {h} × {w}"
        parts = [f"{self.name} · {self.family} · {size}"]
        if self.layer:
            parts.append(f"layer of class activation maps: {self.layer}")
        if self.dense:
            parts.append(f"scores of the classes at every patch: {self.dense}, drawn by vl.trace(…).class_map()")
        parts += [_text("attention", self.attentions), _text("gates", self.gates), self._methods()]
        return "\n\n".join(part for part in parts if part)

    def _methods(self) -> str:
        apply = [name for name, reason in self.methods.items() if not reason]
        lines = [f"methods that apply: {', '.join(apply)}"]
        for reason in dict.fromkeys(reason for reason in self.methods.values() if reason):
            names = [name for name, why in self.methods.items() if why == reason]
            lines.append(f"not {', '.join(names)}: {reason}")
        return "\n".join(textwrap.fill(line, 110, subsequent_indent="  ") for line in lines)

    def __repr__(self) -> str:
        return str(self)


def summary(clf: Classifier) -> Summary:
    """What a classifier is made of and which methods apply to it, found by running it on noise.

    Raises:
        RuntimeError: the model cannot be run at its own input size.
    """
    must_be_classifier(clf, "summary")
    x = probe(clf)
    anatomy = study(clf, x)
    reasons = obstacles(clf, x)
    return Summary(
        name=clf.name,
        family=family(clf),
        parameters=params_of(clf.module),
        input_size=clf.input_size,
        classes=anatomy.classes,
        layer="" if reasons["cam"] else cam_layer(clf, x),
        attentions=pd.DataFrame([_attention(site) for site in anatomy.sites.values()]),
        gates=pd.DataFrame([{"name": gate.name, "kind": gate.kind} for gate in anatomy.gates.values()]),
        methods={name: _why_not(clf, x, name, reasons) for name in METHODS},
        dense=dense_head(anatomy) or "",
    )


def _attention(site: Site) -> dict[str, Any]:
    groups, slots = site.keys.index.shape[-2:]
    return {
        "name": site.name,
        "kind": site.kind,
        "heads": site.arrangement.heads,
        "query grid": _grid(site.queries.grid),
        "key grid": _grid(site.keys.grid),
        "windows": f"{groups} of {slots} keys" if groups > 1 else "",
        "prefix tokens": site.keys.prefix,
    }


def _grid(grid: tuple[int, int] | None) -> str:
    return f"{grid[0]} × {grid[1]}" if grid else "no places"


def _why_not(clf: Classifier, x: Tensor, name: str, reasons: dict[str, str]) -> str:
    method = METHODS[name]
    reason = reasons.get({"perturbation": "cam"}.get(method.kind, method.kind), "")
    if reason or method.extra is None:
        return reason
    try:  # what else the method needs is found by asking for it
        explain(clf, x, name)
    except (ValueError, RuntimeError) as error:
        return str(error)
    return ""


def _text(title: str, table: pd.DataFrame) -> str:
    """A table in which neighbours that differ in the name alone share a line."""
    if table.empty:
        return ""
    lines = []
    records = table.to_dict("records")
    for facts, same in groupby(records, lambda row: [v for k, v in row.items() if k != "name"]):
        names = [row["name"] for row in same]
        name = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)})"
        lines.append([name, *facts])
    return f"{title}\n{pd.DataFrame(lines, columns=table.columns).to_string(index=False)}"
