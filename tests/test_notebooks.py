"""Every notebook runs from top to bottom; errors that a widget swallowed count as failures."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FAILED = "That did not work"  # how a panel of vizlib begins to tell of an error


def run(notebook, folder):
    """The notebook with its outputs and the state of its widgets."""
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}})
    return client.execute()


def troubles(notebook):
    """Errors among all outputs: those of the cells, and those that only a widget shows."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {})
    states = [model["state"] for model in widgets.get("state", {}).values()]
    outputs += [out for state in states for out in state.get("outputs", [])]
    found = [f"{out['ename']}: {out['evalue']}" for out in outputs if out["output_type"] == "error"]
    found += [state["value"] for state in states if FAILED in str(state.get("value", ""))]
    return found + [out["text"] for out in outputs if "Traceback (most recent call last)" in out.get("text", "")]


@pytest.fixture(scope="session")
def executed():
    """Where notebooks are left as they ran, for `make docs` and for eyes."""
    folder = Path(os.environ.get("OUT", "out")) / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch, executed):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run(nbformat.read(path, 4), tmp_path)
    nbformat.write(done, executed / path.name)
    assert troubles(done) == []
    assert any("image/png" in out.get("data", {}) for cell in done.cells for out in cell.get("outputs", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_without_outputs(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    assert "widgets" not in notebook.metadata


def test_the_readme_lists_every_notebook():
    text = (FOLDER / "README.md").read_text()
    assert [path.name for path in NOTEBOOKS if f"({path.name})" not in text] == []


@pytest.mark.parametrize(
    "lines",
    [
        "from ipywidgets import Output\nout = Output()\nwith out:\n    1 / 0\nout",
        f"from ipywidgets import HTML\nHTML('{FAILED}: of course')",
        "import sys\nprint('Traceback (most recent call last)', file=sys.stderr)",
    ],
)
def test_swallowed_errors_are_found(lines, tmp_path):
    assert troubles(run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(lines)]), tmp_path))


def test_open_errors_are_raised(tmp_path):
    with pytest.raises(CellExecutionError):
        run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), tmp_path)
