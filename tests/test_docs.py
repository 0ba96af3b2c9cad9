"""Rendered notebooks: widgets alive, controls as they stood, nothing from the network."""

from __future__ import annotations

import re

import ipywidgets as widgets
import nbformat
import pytest
import tiny
from ipywidgets.embed import dependency_state
from render import STATE, VIEW, index, render

from vizlib.capture.trace import trace
from vizlib.explore.hover import hover


def executed(widget):
    """A notebook whose last cell showed a widget, as nbclient leaves it."""
    view = {VIEW: {"model_id": widget.model_id, "version_major": 2}, "text/plain": "Widget()"}
    output = nbformat.v4.new_output("execute_result", view, execution_count=1)
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("widget", outputs=[output])]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["widgets"] = {STATE: {"state": dependency_state(widget, drop_defaults=False)}}
    return notebook


@pytest.fixture(scope="module")
def text():
    looked = hover(trace(tiny.classifier(tiny.vit(), name="</script><b>net"), tiny.images(1)), 0)
    row = widgets.HBox([
        widgets.Dropdown(options=["cat", "<dog>"], value="<dog>", description="photo"),
        widgets.FloatSlider(value=0.3, description="discard"),
        widgets.Button(description="cancel"),
    ])  # fmt: skip
    return render(executed(widgets.VBox([row, widgets.HTML("<i>told</i>"), looked, looked])))


def test_controls_show_their_values(text):
    told = re.findall(r'<span class="vz-control">(.*?)</span>', text)
    assert told == ["photo <b>&lt;dog&gt;</b>", "discard <b>0.3</b>", "cancel"]
    assert "<i>told</i>" in text


def test_live_widgets_have_their_state_and_their_module_once(text):
    assert text.count('class="vz-live"') == 2
    assert text.count("class Hover {") == 1
    assert "</script><b>net" not in text


def test_nothing_comes_from_the_network(text):
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', text)
    assert "cdnjs" not in text
    assert "unpkg" not in text


def test_the_index_leads_to_the_pages():
    page = index("# Which\n\n| question | notebook |\n|---|---|\n| Why? | [00_tour](00_tour.ipynb) |\n")
    assert '<a href="00_tour.html">00_tour</a>' in page
