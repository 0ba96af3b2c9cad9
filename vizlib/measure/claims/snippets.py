"""The code of data/claimed_code.md, by name, as it was read."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_SECTION = re.compile(r"^## (\w+)\n\n(.*?)\n\n```python\n(.*?)```$", re.MULTILINE | re.DOTALL)


@cache
def claimed() -> dict[str, str]:
    """Name -> source. None of it is used by the library: run it to see it fail or mislead."""
    return {name: code for name, _, code in _sections()}


@cache
def faults() -> dict[str, str]:
    """Name -> what goes wrong, in a sentence or two."""
    return {name: " ".join(fault.split()) for name, fault, _ in _sections()}


def _sections() -> list[tuple[str, str, str]]:
    return _SECTION.findall(files("vizlib.tables").joinpath("claimed_code.md").read_text("utf-8"))
