"""The hover widget in JupyterLab: the notebook about attention matrices, and two models side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import pytest
from hover_pixels import colours, opaque, pixels, point_at, redraws, says

if TYPE_CHECKING:
    from pathlib import Path

    from lab_session import Lab

pytestmark = pytest.mark.browser
POINT = (0.4375, 0.5625)  # the centre of row 4, column 5 of 8 × 8
START = "import vizlib as vl\nvit, hybrid = vl.load('zoo/vit'), vl.load('zoo/hybrid')\nphoto = vl.data.photo('coffee')"
# Milliseconds from the end of a cell until the photograph of a widget is drawn (0: it was there before).
FIRST_PICTURE = """async (index) => {
    const panel = jupyterapp.shell.currentWidget, { kernel } = panel.sessionContext.session;
    const ended = new Promise((resolve) => kernel.iopubMessage.connect((_, { content, parent_header }) => {
        const cell = parent_header.msg_type === 'execute_request';
        if (cell && content.execution_state === 'idle') resolve(performance.now());
    }));
    const drawn = new Promise((resolve) => {
        const look = () => {
            const canvas = document.querySelector('.vh-photo');
            const inked = canvas?.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[3];
            if (inked) resolve(performance.now());
            else requestAnimationFrame(look);
        };
        look();
    });
    panel.content.activeCellIndex = index;
    jupyterapp.commands.execute('notebook:run-cell');
    const [end, picture] = await Promise.all([ended, drawn]);
    return Math.max(0, picture - end);
}"""


def row_in_kernel(lab: Lab, model: str, head: str = "None") -> np.ndarray:
    code = f"import json; print(json.dumps(list(vl.trace({model}, photo).attentions.values())[-1]"
    return np.array(lab.ask(f"{code}.heatmap({POINT}, {head}).values[0].tolist()))"))


def shows(lab: Lab, panel: int, expected: np.ndarray) -> None:
    seen = pixels(lab.page.locator(".vh-photo").nth(panel), expected.shape)  # type: ignore[arg-type]
    assert np.abs(seen - colours(expected, expected.max())).max() <= 12  # a shade or two of 256


@pytest.fixture
def small(lab: Lab, notebooks: Path) -> Lab:
    cells = [START, "widget = vl.hover([vit, hybrid], photo)\nwidget", "vl.hover(vit, photo, limit=0)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, notebooks / "small.ipynb")
    lab.open("small.ipynb")
    lab.ask(START + "\nprint(1)")
    return lab


def test_two_models_in_jupyterlab(small: Lab, pictures: Path, capsys: Any) -> None:
    page = small.page
    waited = page.evaluate(FIRST_PICTURE, 1)
    page.locator(".vizlib-hover").scroll_into_view_if_needed()
    opaque(page)
    small.sent.clear()
    spent = redraws(page)
    point_at(page, page.locator(".vh-photo").first, POINT)
    page.wait_for_timeout(400)  # also what is spoken when the pointer rests is no message
    assert small.sent == []
    for panel, model in enumerate(("vit", "hybrid")):
        shows(small, panel, row_in_kernel(small, model))
    median, p90 = np.percentile(spent, [50, 90])
    with capsys.disabled():
        print(f"\nhover in JupyterLab: first picture {waited:.0f} ms after the cell, redraw of two zoo models median "
              f"{median:.2f} ms, p90 {p90:.2f} ms, 0 messages to the kernel")  # fmt: skip
    assert median <= 5
    assert waited <= 500
    pin_and_keyboard(small)
    opaque(page, 0.7)
    page.screenshot(path=pictures / "hover.png")


def pin_and_keyboard(lab: Lab) -> None:
    page, first = lab.page, lab.page.locator(".vh-photo").first
    point_at(page, first, POINT, click=True)
    assert says(page, 1).startswith("pinned, row 4, column 5")
    pin = lab.ask("import json; print(json.dumps(widget.view['pin']))")
    assert says(page, 0).startswith("pinned")
    first.focus()
    page.keyboard.press("ArrowDown")
    assert says(page, 1).startswith("pinned, row 5, column 5")
    assert lab.ask("import json; print(json.dumps(widget.view['pin']))")[0] > pin[0]
    page.get_by_label("head of zoo/vit").select_option("2")
    page.keyboard.press("Escape")
    assert lab.ask("import json; print(json.dumps(widget.view['heads']))") == [2, -1]
    first.focus()
    page.keyboard.press("Escape")
    assert says(page, 1) == "Point at the photograph."
    lab.ask(f"widget.view = widget.view | {{'pin': {list(POINT)}}}\nprint(1)")
    page.wait_for_function("() => document.querySelector('.vh-text').textContent.startsWith('pinned')")


def test_a_layer_that_was_not_sent_is_fetched_when_it_is_chosen(small: Lab) -> None:
    page = small.page
    page.evaluate(FIRST_PICTURE, 2)
    page.wait_for_function("() => document.querySelector('.vh-text').textContent.startsWith('class token')")
    opaque(page)
    point_at(page, page.locator(".vh-photo"), POINT)
    shows(small, 0, row_in_kernel(small, "vit"))
    page.get_by_label("layer of").select_option("0")
    page.wait_for_function("() => !document.querySelector('.vh-text').textContent.startsWith('Loading')")
    first = "import json; print(json.dumps(next(iter(vl.trace(vit, photo).attentions.values()))"
    shows(small, 0, np.array(small.ask(f"{first}.heatmap({POINT}).values[0].tolist()))")))


def test_the_notebook_about_attention_matrices(lab: Lab, pictures: Path) -> None:
    lab.open("02_attention_matrices.ipynb")
    lab.run_all()
    assert lab.errors() == []
    page = lab.page
    page.locator(".vizlib-hover").scroll_into_view_if_needed()
    page.get_by_label("layer of").select_option("blocks.2.attn")
    opaque(page)
    point_at(page, page.locator(".vh-photo").first, (0.5, 0.5))
    assert "attends most to" in says(page)
    opaque(page, 0.7)
    page.screenshot(path=pictures / "notebook_02.png")
