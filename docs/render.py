"""Executed notebooks as a folder of web pages that need no kernel and no network.

Widgets stay alive where their drawing asks the kernel for nothing: the module that drew them in Jupyter draws them in
the page, from the state that was stored with the notebook. Controls, which would ask it, are shown as they stood.

    python docs/render.py out/notebooks out/docs
"""

from __future__ import annotations

import argparse
import json
import shutil
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown import markdown2html

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
FROM_NETWORK = ("require_js_url", "jquery_url", "mathjax_url", "mermaid_js_url", "mermaid_layout_elk_js_url")
HERE = Path(__file__).parent


class Widgets:
    """The widgets of one executed notebook, by the number of their model."""

    def __init__(self, notebook: nbformat.NotebookNode) -> None:
        self.models = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
        self.modules: dict[str, str] = {}  # source of a module -> its name in the page

    def html(self, number: str) -> str:
        """A widget with everything in it."""
        model = self.models[number]
        state = model["state"]
        if "_esm" in state:
            return self._live(model)
        if "children" in state:
            parts = "".join(self.html(child.removeprefix("IPY_MODEL_")) for child in state["children"])
            return f'<div class="vz-{"row" if "HBox" in model["model_name"] else "column"}">{parts}</div>'
        if "outputs" in state:
            return "".join(_output(out) for out in state["outputs"])
        if model["model_name"].startswith(("HTML", "Label")):
            return f"<div>{state['value']}</div>"
        return _control(state)

    def _live(self, model: dict[str, Any]) -> str:
        """A widget drawn by its own module."""
        traits = {name: value for name, value in model["state"].items() if not name.startswith("_")}
        for buffer in model.get("buffers", []):
            *path, last = buffer["path"]
            place = traits
            for step in path:
                place = place[step]
            place[last] = {"base64": buffer["data"]}
        source = model["state"]["_esm"]
        name = self.modules.setdefault(source, f"vz-module-{len(self.modules)}")
        packed = json.dumps(traits).replace("<", "\\u003c")  # no text in it can end the script element
        return (
            f"<style>{model['state'].get('_css', '')}</style>"
            f'<div class="vz-live" data-module="{name}"><script type="application/json">{packed}</script></div>'
        )

    def scripts(self) -> str:
        """The modules, each once, and what starts them."""
        if not self.modules:
            return ""
        kept = {name: source for source, name in self.modules.items()}
        packed = json.dumps(kept).replace("<", "\\u003c")
        return (
            f'<script type="application/json" id="vz-modules">{packed}</script>\n'
            f'<script type="module">\n{(HERE / "live.js").read_text("utf-8")}</script>\n'
        )


def _control(state: dict[str, Any]) -> str:
    """A control as it stood: its name and its value."""
    value = state.get("value")
    if "_options_labels" in state:
        value = state["_options_labels"][state["index"]] if state["index"] is not None else ""
    if isinstance(value, bool):
        value = "on" if value else "off"
    shown = "" if value is None or value == [] else f" <b>{escape(str(value))}</b>"
    return f'<span class="vz-control">{escape(state.get("description", ""))}{shown}</span>'


def _output(out: dict[str, Any]) -> str:
    data = out.get("data", {})
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{data["image/png"]}">'
    text = data.get("text/html") or f"<pre>{escape(data.get('text/plain', out.get('text', '')))}</pre>"
    return f"<div>{text}</div>"


def render(notebook: nbformat.NotebookNode) -> str:
    """The page of one executed notebook."""
    widgets = Widgets(notebook)
    for cell in notebook.cells:
        for out in cell.get("outputs", []):
            if VIEW in out.get("data", {}):
                out.data = {"text/html": widgets.html(out.data[VIEW]["model_id"])}
    notebook.metadata.pop("widgets", None)  # or the page would load the widget manager from the network
    page, _ = HTMLExporter(template_name="lab", **dict.fromkeys(FROM_NETWORK, "")).from_notebook_node(notebook)
    style = f"<style>{(HERE / 'page.css').read_text('utf-8')}</style>"
    return page.replace("</head>", f"{style}</head>", 1).replace("</body>", f"{widgets.scripts()}</body>", 1)


def index(readme: str) -> str:
    """The page that says which notebook answers which question."""
    text = markdown2html(readme.replace(".ipynb)", ".html)"))
    style = (HERE / "page.css").read_text("utf-8")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>vizlib</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f'<body class="vz-index">{text}</body></html>'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, help="folder of executed notebooks")
    parser.add_argument("out", type=Path, help="folder for the pages")
    given = parser.parse_args()
    found = sorted(given.notebooks.glob("*.ipynb"))
    if not found:
        parser.error(f"executed notebooks are needed; {given.notebooks} holds none. Run make notebooks first.")
    given.out.mkdir(parents=True, exist_ok=True)
    for path in found:
        (given.out / f"{path.stem}.html").write_text(render(nbformat.read(path, 4)), "utf-8")
    source = HERE.parent / "notebooks"
    for picture in (*source.glob("*.jpg"), *source.glob("*.png")):
        shutil.copy(picture, given.out)
    (given.out / "index.html").write_text(index((source / "README.md").read_text("utf-8")), "utf-8")
    print(f"{len(found)} notebooks; open {given.out / 'index.html'}")


if __name__ == "__main__":
    main()
