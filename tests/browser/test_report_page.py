"""The saved comparison in a real browser without a network: pixels, hover, keyboard, controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import pytest
import torch

from vizlib.show.report import Row, Sheet
from vizlib.show.report import page as page_of
from vizlib.types import Heatmap

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PLAIN = torch.tensor([[[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]]])
SIGNED = torch.tensor([[[-1.0, 0.0], [0.5, 2.0]]])
READ = """(canvas, [r, s]) => Array.from(
    canvas.getContext('2d').getImageData((s + .5) * canvas.width / 3, (r + .5) * canvas.height / 2, 1, 1).data)"""


def opened(page: Page, folder: Path, rows: list[dict[str, torch.Tensor]]) -> Page:
    """A report with a row per model of its maps by method."""
    image = torch.full((3, 20, 30), 0.5)
    cells = [tuple(Heatmap(v, image[None], name, "tiny", unit="logits") for name, v in row.items()) for row in rows]
    lines = tuple(Row("tiny", "CNN", image, image, (("cat", 0.9),), maps) for maps in cells)
    file = folder / "x.html"
    file.write_text(page_of([Sheet("grey", tuple(rows[0]), lines)], "", "Report"), "utf-8")
    page.goto(file.as_uri())
    page.wait_for_function("() => document.querySelector('.vl-scale span').textContent")
    return page


@pytest.fixture
def report(page: Page, tmp_path: Path) -> Page:
    return opened(page, tmp_path, [{"plain": PLAIN, "signed": SIGNED}])


def shade(name: str, at: float) -> list[float]:
    return [255 * part for part in matplotlib.colormaps[name](round(255 * at))[:3]]


def test_cells_have_the_colours_of_their_values(report: Page) -> None:
    report.locator("[data-setting=smooth]").uncheck()
    canvas = report.locator("canvas").first
    for r in range(2):
        for s in range(3):
            expected = shade("inferno", float(PLAIN[0, r, s]) / 8)
            assert canvas.evaluate(READ, [r, s])[:3] == pytest.approx(expected, abs=1)
    assert report.locator(".vl-scale").nth(0).locator("span").all_text_contents() == ["0", "4", "8"]
    assert report.locator(".vl-scale").nth(1).locator("span").all_text_contents() == ["-2", "0", "2"]


def test_maps_of_a_method_are_coloured_alike(page: Page, tmp_path: Path) -> None:
    report = opened(page, tmp_path, [{"gradcam": SIGNED, "rollout": PLAIN}, {"gradcam": PLAIN, "rollout": PLAIN}])
    scales = [report.locator(".vl-scale").nth(i).locator("span").all_text_contents() for i in range(4)]
    assert scales == [["-2", "0", "2"], ["0", "4", "8"], ["-8", "0", "8"], ["0", "4", "8"]]


def test_one_cursor_for_all_maps_of_a_photograph(report: Page) -> None:
    box = report.locator(".vl-stack[tabindex]").first.bounding_box()
    assert box
    report.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"])
    assert report.locator(".vl-value").all_text_contents() == ["8 logits", "2 logits"]
    assert report.locator(".vl-cursor:visible").count() == 2
    report.mouse.move(2, 2)
    assert report.locator(".vl-cursor:visible").count() == 0


def test_keyboard_moves_by_cells_speaks_and_escape_clears(report: Page) -> None:
    report.locator(".vl-stack[tabindex]").first.focus()
    report.keyboard.press("ArrowRight")
    report.keyboard.press("ArrowDown")
    assert report.locator(".vl-value").first.text_content() == "8 logits"
    assert "8 logits at row 0.75, column 0.83" in (report.locator(".vl-speak").text_content() or "")
    report.keyboard.press("Escape")
    assert report.locator(".vl-cursor:visible").count() == 0


def test_opacity_and_theme(report: Page) -> None:
    report.locator("[data-setting=opacity]").fill("0.2")
    assert report.locator("canvas").first.evaluate("c => getComputedStyle(c).opacity") == "0.2"
    ground = "p => getComputedStyle(p).backgroundColor"
    before = report.locator(".vl-page").evaluate(ground)
    report.locator("[data-theme-switch]").click()
    assert report.locator(".vl-page").evaluate(ground) != before
