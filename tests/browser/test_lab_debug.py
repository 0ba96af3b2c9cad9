"""The panel of mistakes in JupyterLab: matrix, gallery, one photograph, brought by the kernel as they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nbformat
import numpy as np
import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from lab_session import Lab

pytestmark = pytest.mark.browser
START = """import vizlib as vl
photos = vl.data.shortcuts(40, mark="chance").save("shapes")
labels = {"disc": "orange", "square": "pizza", "triangle": "teapot", "star": "ladybug"}
options = {"labels": labels, "near": vl.data.shortcuts(20, seed=1).save("others"), "out": "found"}
panel = vl.debug(["zoo/seresnet", "zoo/vit"], photos, **options)"""
DRAWN = "[...document.querySelectorAll('{} img')].every((image) => image.naturalWidth > 0)"


@pytest.fixture
def shapes(lab: Lab, notebooks: Path) -> Lab:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (START, "panel")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, notebooks / "debug.ipynb")
    lab.open("debug.ipynb")
    lab.run_all()
    assert lab.errors() == []
    return lab


def test_from_the_matrix_to_the_maps_of_one_photograph(shapes: Lab, pictures: Path) -> None:
    page = shapes.page
    page.set_viewport_size({"width": 1280, "height": 2000})
    cells = page.locator(".vl-matrix td button")
    assert sum(map(int, cells.all_inner_texts())) == 40
    cell = page.locator(".vl-matrix .vl-wrong").first
    label, prediction = cell.get_attribute("title").split(" photographs of ")[1].split(" called ")
    cell.click()
    tiles = page.locator(".vl-tile")
    expect(tiles).to_have_count(min(int(cell.inner_text()), 24))
    page.wait_for_function(DRAWN.format(".vl-tile"))
    name = tiles.first.get_attribute("title").splitlines()[0]
    tiles.first.click()
    expect(page.locator(".vl-detail h2").first).to_have_text(name)
    assert page.locator(".vl-detail .vl-model").all_inner_texts() == ["zoo/seresnet", "zoo/vit"]
    expect(page.locator(".vl-detail .vl-note").first).to_have_text(f"label: {label}")
    page.wait_for_function(DRAWN.format(".vl-near"))
    assert page.locator(".vl-near img").count() == 6
    shown_as_computed(shapes, name, label, prediction)
    grid = page.locator(".vl-detail .vl-scroll")
    assert grid.evaluate("element => element.scrollWidth <= element.clientWidth")  # nothing is cut off
    page.locator(".vl-root").screenshot(path=pictures / "debug_panel.png")


def shown_as_computed(lab: Lab, name: str, label: str, prediction: str) -> None:
    """The first model's three maps have the values of the library, under the pointer."""
    made = (
        f"import json; path = panel.table.path[panel.table.path.str.endswith({name!r})].iloc[0]\n"
        f"clf = panel.classifiers['zoo/seresnet']\n"
        f"maps = [vl.explain(clf, path, target=t).values[0] for t in ({prediction!r}, {label!r})]\n"
        f"print(json.dumps([m.tolist() for m in (*maps, maps[0] - maps[1])]))"
    )
    expected = np.array(lab.ask(made))
    rows, columns = expected.shape[1:]
    figures = lab.page.locator(".vl-detail [data-cell]")
    box = figures.first.locator(".vl-stack").bounding_box()
    assert box
    row, column = rows // 3, columns // 2
    across, down = (column + 0.5) / columns, (row + 0.5) / rows
    lab.page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    for map_, shown in zip(expected, figures.locator(".vl-value").all_text_contents(), strict=False):
        assert float(shown.split()[0].replace("−", "-")) == pytest.approx(map_[row, column], rel=0.02, abs=1e-4)
