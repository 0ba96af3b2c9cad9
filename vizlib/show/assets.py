"""The modules and style sheets that draw in the browser, each as one text without imports.

The parts of a module are files of `web/` that import each other, as a browser would load them. A widget and a saved
page can hold one text only: the parts are laid one after the other, each once, without `import` and `export`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const|function|class|let)", re.MULTILINE)


def asset(name: str) -> str:
    """A file of `web/` as it is."""
    return files("vizlib.show").joinpath("web", name).read_text("utf-8")


def module(name: str) -> str:
    """A JavaScript module with everything it imports, as one text; only its own exports are left."""
    parts: dict[str, str] = {}

    def add(part: str) -> None:
        text = asset(part)
        for needed in _IMPORT.findall(text):
            if needed not in parts:
                add(needed)
        parts[part] = _IMPORT.sub("", text)

    add(name)
    own = parts.pop(name)
    return "\n".join([*(_EXPORT.sub("", text) for text in parts.values()), own])


def page(title: str, *, about: str, main: str, styles: Sequence[str], script: str, mount: str, state: Any) -> str:
    """One HTML file that needs no network.

    Args:
        title: text; about, main: HTML below the heading, and the page itself.
        styles: files of `web/`.
        script: a module of `web/` that has the function `mount`, (root element, state).
    """
    return asset("page.html").format(
        title=escape(title),
        about=about,
        main=main,
        style="".join(asset(name) for name in styles),
        script=module(script),
        mount=mount,
        state=packed(state),
    )


def packed(state: Any) -> str:
    """A state as JSON that may stand inside a script element: bytes as base64, no "<"."""
    return json.dumps(state, default=base64_of).replace("<", "\\u003c")


def base64_of(raw: bytes) -> str:
    return b64encode(raw).decode("ascii")
