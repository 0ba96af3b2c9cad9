"""The table of families: a row for each that was looked at, printed at the end of the run and written to out/."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from families.families import Member

CELLS = ("cam", "places", "attention", "rollout", "gates")
Rows = dict[Member, dict[str, str]]
ROWS: pytest.StashKey[Rows] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


@pytest.fixture
def rows(pytestconfig: pytest.Config) -> Rows:
    """Where a test writes what it found: member -> cell -> words."""
    return pytestconfig.stash[ROWS]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    rows = config.stash[ROWS]
    if "families" not in config.option.markexpr.replace("not families", ""):
        return
    file = Path(os.environ.get("OUT", "out")) / "families.md"
    file.parent.mkdir(exist_ok=True)
    file.write_text(_table(rows))
    terminalreporter.section("families")
    terminalreporter.write_line(_table(rows))
    terminalreporter.write_line(f"written to {file}")


def _table(rows: Rows) -> str:
    head = ["family", "model", *CELLS]
    lines = [head, ["---"] * len(head)]
    lines += [[m.family, m.name, *(found[cell] for cell in CELLS)] for m, found in rows.items()]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{_counts(rows)}\n"


def _counts(rows: Rows) -> str:
    """'99 families: cam 98, …': of how many that have the thing each cell was reached."""
    each = []
    for cell in CELLS:
        kinds = Counter(_kind(found[cell]) for found in rows.values())
        have = sum(kinds.values()) - kinds["nothing"]
        each.append(f"{cell} {kinds['reached']} of {have} ({kinds['exception']} exceptions, {kinds['miss']} misses)")
    return f"{len(rows)} families: {'; '.join(each)}"


def _kind(words: str) -> str:
    first = words.partition(":")[0]
    return "nothing" if words == "–" else first if first in ("exception", "miss") else "reached"
