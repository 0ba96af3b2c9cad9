"""Where results are written: endings, and places that take no file."""

import os
import subprocess
import sys

import pandas as pd
import pytest
from matplotlib.figure import Figure

from vizlib.show.files import SHEETS, save, writable


def test_a_place_that_may_be_new_is_taken_as_it_is(tmp_path):
    assert writable(tmp_path / "a/b/x.csv", SHEETS) == tmp_path / "a/b/x.csv"
    assert writable(tmp_path / "a/b.c") == tmp_path / "a/b.c"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "endings", "message"),
    [
        ("x.gif", SHEETS, r"ends in \.html, \.png, \.pdf, \.svg or \.csv is needed; got 'x\.gif'"),
        ("x", (".html",), r"ends in \.html is needed; got 'x'"),
        ("folder.png", SHEETS, "got a folder"),
        ("file/x.png", SHEETS, "file is no folder. Name another"),
        ("file/deep/x.png", SHEETS, "file is no folder"),
        ("file", (), "file is no folder"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path, name, endings, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=message):
        writable(tmp_path / name, endings)


def test_forbidden_places_by_what_the_system_says(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="may not be written"):
        writable(tmp_path / "new/x.png", SHEETS)


def test_the_ending_says_what_is_written(tmp_path):
    figure = Figure(figsize=(2, 1))
    parts = {"page": lambda: "<p>page", "figure": lambda: figure, "table": pd.DataFrame({"a": [1]})}
    written = {ending: save(tmp_path / f"new/x{ending}", dpi=50, **parts).read_bytes() for ending in SHEETS}
    assert written[".html"] == b"<p>page"
    assert written[".csv"] == b"a\n1\n"
    assert int.from_bytes(written[".png"][16:20]) == 100  # pixels wide
    assert written[".pdf"].startswith(b"%PDF")
    assert b"<svg" in written[".svg"]


def test_no_torch_is_needed():
    code = "import sys, vizlib.show.files; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pandas", "matplotlib"} & set(loaded)
