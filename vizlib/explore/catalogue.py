"""Every architecture of the course run once: does it load, and what can be seen in it, at what cost.

`data/architectures.csv` lists them; `data/architecture_exceptions.csv` says where a cell does not apply to a family,
and why. What else does not work is a failure, and so is an exception that turns out to work.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor, nn

from vizlib.capture.summary import probe
from vizlib.capture.trace import record
from vizlib.measure.cost import params_of
from vizlib.measure.flops import count
from vizlib.methods.table import explain
from vizlib.models.load import load
from vizlib.models.zero_shot import ZeroShot
from vizlib.running import logits_of, unchanged
from vizlib.types import Classifier, Heatmap, Trace

BEGIN, END = "<!-- architectures: vizlib summary --all --out FILE -->", "<!-- end of architectures -->"


@dataclass(frozen=True)
class Entry:
    """A row of `data/architectures.csv`: where the model comes from, and the side in pixels it is run at here.

    `model` is a name of `vl.load`, or "transformers/CLASS": that class at its default configuration.
    """

    family: str
    name: str
    model: str
    size: int  # 0: its own
    note: str = ""  # what its cells do not say


@dataclass(frozen=True)
class Row:
    """What was found of an entry: a few words per cell; and what failed, cell -> why."""

    entry: Entry
    cells: dict[str, str]
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Seen:
    """A classifier with drawn weights, noise to look at, and a trace of it."""

    clf: Classifier
    x: Tensor
    run: Trace


def _read(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((resources.files("vizlib.tables") / name).read_text("utf-8").splitlines()))


def entries(only: Sequence[str] = ()) -> list[Entry]:
    """All architectures, or those of some models, names or families.

    Raises:
        ValueError: there is none of that name.
    """
    listed = _read("architectures.csv")
    found = [Entry(r["family"], r["name"], r["model"], int(r["size"] or 0), r["note"]) for r in listed]
    known = {word for e in found for word in (e.family, e.name, e.model)}
    for word in only:
        if word not in known:
            families = ", ".join(dict.fromkeys(e.family for e in found))
            raise ValueError(f"a model, name or family of the list is needed; got {word!r}. Families: {families}.")
    return [e for e in found if not only or {e.family, e.name, e.model} & set(only)]


@cache
def exceptions() -> dict[tuple[str, str], str]:
    """(family, cell) -> why the cell does not apply."""
    return {(r["family"], r["cell"]): r["reason"] for r in _read("architecture_exceptions.csv")}


def look(entry: Entry) -> Row:
    """Builds one architecture with random weights and fills its row."""
    cells, failures = {}, {}
    try:
        seen = _seen(entry)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        return Row(entry, dict.fromkeys(CELLS, "failed"), {"loads": _one_line(error)})
    for cell, find in CELLS.items():
        reason = exceptions().get((entry.family, cell), "")
        try:
            words = find(entry, seen)
        except (RuntimeError, ValueError, TypeError) as error:
            cells[cell] = f"– {_mark(reason)}" if reason else "failed"
            if not reason:
                failures[cell] = _one_line(error)
        else:
            cells[cell] = words
            if reason:
                failures[cell] = f"it works ({words}), though it is listed as an exception: {reason}"
    return Row(entry, cells, failures)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _mark(reason: str) -> str:
    """The number under which a reason stands below the table."""
    return f"({list(dict.fromkeys(exceptions().values())).index(reason) + 1})"


# ---- building


def _seen(entry: Entry) -> Seen:
    clf = build(entry, entry.size)
    x = probe(clf)
    x = torch.cat([x, x.flip(-1)])
    enliven(clf.module, x)
    return Seen(clf, x, record(clf, x, start=True))


def build(entry: Entry, size: int = 0) -> Classifier:
    """An architecture with random weights, for square images of `size` pixels or its own."""
    source, _, name = entry.model.partition("/")
    own: dict[str, Any] = {"input_size": (3, size, size)} if size else {}
    if source == "transformers":
        return _from_configuration(name, size)
    if ".mae" in name:  # published without a head
        own["num_classes"] = 1000
    return load(entry.model, pretrained=False, device=str(torch.get_default_device()), **own)


def _from_configuration(name: str, size: int) -> Classifier:
    """A model of transformers at the default configuration of its class; two towers tell five drawn texts apart."""
    import transformers

    kind = getattr(transformers, name)
    config = kind.config_class(num_labels=1000)
    seen = getattr(config, "vision_config", config)
    side = size or getattr(seen, "image_size", 224)
    seen.image_size = side
    module: nn.Module = kind(config).eval()
    if hasattr(config, "text_config"):
        module = ZeroShot(module, torch.randn(5, config.projection_dim))
    return load(module, input_size=(3, side, side), name=name)


@torch.no_grad()
def enliven(module: nn.Module, x: Tensor) -> None:
    """Draws what is constant at initialisation (heads, LayerScale, bias tables) and fits BatchNorm to the input.

    Untrained, a head of zeros says nothing of what stands before it, and a deep network without statistics of its own
    fades or explodes.
    """
    draw = torch.Generator().manual_seed(0)
    for p in module.parameters():
        if bool((p == p.flatten()[0]).all()) and p.is_floating_point():
            noise = torch.randn(p.shape, generator=draw).to(p)
            p.copy_(noise / p[0].numel() ** 0.5 if p.ndim > 1 else p + 0.1 * noise)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.training, m.momentum = True, 1.0
    if norms:
        module(x)
    for m, momentum in zip(norms, momenta, strict=True):
        m.training, m.momentum = False, momentum


# ---- the cells: each returns a few words, or raises with the reason why there are none


def _loads(entry: Entry, seen: Seen) -> str:
    with torch.no_grad(), unchanged(seen.clf.module):
        logits = logits_of(seen.clf.module(seen.x))
    if not bool(logits.isfinite().all()) or not torch.equal(logits.argmax(1), seen.run.logits.argmax(1)):
        raise RuntimeError("finite logits, the same with a trace as without, are needed; these are not.")
    return f"yes, {seen.x.shape[-1]} px"


def _attention(entry: Entry, seen: Seen) -> str:
    found = seen.run.attentions.values()
    placed = [op for op in found if op.keys.grid is not None]
    if not placed:
        raise RuntimeError("attention needs operations with keys in the image; there are none.")
    for op in placed:
        sums = op.weights(slice(0, 64)).float().sum(-1)
        if not op.signed and float((sums - 1).abs().max()) > 1e-3:
            raise RuntimeError(f"rows of {op.name} need to sum to 1; one sums to {float(sums.min()):.4f}.")
    return _counted(op.kind for op in found)


def _counted(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(kinds).items())


def _rollout(entry: Entry, seen: Seen) -> str:
    return _grid(explain(seen.clf, seen.x, "rollout"))


def _gates(entry: Entry, seen: Seen) -> str:
    if not seen.run.gates:
        raise RuntimeError("a gate is needed; there is none.")
    return _counted(gate.kind for gate in seen.run.gates.values())


def _gradcam(entry: Entry, seen: Seen) -> str:
    heat = explain(seen.clf, seen.x, "gradcam")
    return f"{_grid(heat)} at {heat.layer}"  # type: ignore[union-attr]


def _grid(heat: Heatmap | list[Heatmap]) -> str:
    r, s = heat.values.shape[-2:]  # type: ignore[union-attr]
    return f"{r} × {s}"


def _cost(entry: Entry, seen: Seen) -> str:
    """Counted from shapes, at the architecture's own size."""
    with torch.device("meta"):
        clf = build(entry)
    return f"{params_of(clf.module) / 1e6:.1f} M, {count(clf).total / 2e9:.3g} GMACs at {clf.input_size[-1]} px"


CELLS: dict[str, Callable[[Entry, Seen], str]] = {
    "loads": _loads, "attention": _attention, "rollout": _rollout, "gates": _gates, "Grad-CAM": _gradcam, "cost": _cost,
}  # fmt: skip

HEADS = {
    "loads": "loads, runs on noise at", "rollout": "rollout, at that size", "Grad-CAM": "Grad-CAM, at that size",
    "cost": "cost, at its own size",
}  # fmt: skip


# ---- the table


def check(only: Sequence[str] = (), out: Path | None = None) -> int:
    """Looks at all architectures, or some, one after the other; prints a line each and, on stderr, what failed.

    Args:
        only: models, names or families.
        out: a file of Markdown whose table is brought up to date after every row, so that a run can be cut short.

    Returns:
        How many cells failed.

    Raises:
        ValueError: no architecture of that name, or the file has no place for the table.
    """
    chosen = entries(only)
    if out is not None:
        written(out.read_text("utf-8"), [])
    failures = 0
    for entry in chosen:
        row = look(entry)
        print(line(row), flush=True)
        for cell, why in row.failures.items():
            print(f"{entry.name}, {cell}: {why}", file=sys.stderr)
        failures += len(row.failures)
        if out is not None:
            out.write_text(written(out.read_text("utf-8"), [row]), "utf-8")
    return failures


def line(row: Row) -> str:
    """The row as a line of Markdown."""
    letter = {note: f" ({letter})" for letter, note in _notes()}.get(row.entry.note, "")
    return "| " + " | ".join([row.entry.name, f"`{row.entry.model}`{letter}", *row.cells.values()]) + " |"


def _notes() -> list[tuple[str, str]]:
    """The notes of the list, each with the letter under which it stands below the table."""
    return list(zip(ascii_lowercase, dict.fromkeys(e.note for e in entries() if e.note), strict=False))


def table(lines: Sequence[str]) -> str:
    """Lines as a table of Markdown, with the notes, and the reasons for what does not apply, below it."""
    head = ["architecture", "model", *(HEADS.get(cell, cell) for cell in CELLS)]
    reasons = enumerate(dict.fromkeys(exceptions().values()), 1)
    notes = [f"({mark}) {words}" for mark, words in [*_notes(), *reasons]]
    rule = "|" + "---|" * len(head)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *lines, "", "  \n".join(notes)])


def written(text: str, rows: Sequence[Row]) -> str:
    """A text of Markdown with its table between the two marks brought up to date: these rows, the others as they were.

    Raises:
        ValueError: the text has no place for the table.
    """
    before, begin, rest = text.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"a place for the table is needed; none was found. Put these two lines there: {BEGIN} {END}")
    lines = {name: each for each in old.splitlines() if (name := _named(each))}
    lines |= {row.entry.name: line(row) for row in rows}
    ordered = [lines[e.name] for e in entries() if e.name in lines]
    return f"{before}{BEGIN}\n\n{table(ordered)}\n\n{END}{after}"


def _named(text: str) -> str:
    found = re.match(r"\| (.+?) \| `", text)
    return found[1] if found else ""
