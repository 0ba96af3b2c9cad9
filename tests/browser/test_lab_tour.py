"""The tour in JupyterLab: every cell runs, and the panel at its end answers to all of its controls."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import vizlib as vl

if TYPE_CHECKING:
    from pathlib import Path

    from lab_session import Lab
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
# Milliseconds from a choice in a dropdown until the maps that were asked for are in the page.
CHANGE = """async ([name, label, heading]) => {
    const boxes = [...document.querySelectorAll('.widget-dropdown')];
    const select = boxes.find((box) => box.querySelector('label').textContent === name).querySelector('select');
    select.value = [...select.options].find((option) => option.text === label).value;
    const start = performance.now();
    select.dispatchEvent(new Event('change', { bubbles: true }));
    return await new Promise((resolve) => {
        const look = () => {
            const headings = [...document.querySelectorAll('.vl-root h2, .vl-root thead th')];
            if (headings.some((place) => place.textContent === heading)) resolve(performance.now() - start);
            else requestAnimationFrame(look);
        };
        look();
    });
}"""


def dropdown(page: Page, name: str) -> Locator:
    return page.locator(".widget-dropdown", has=page.get_by_text(name, exact=True)).locator("select")


@pytest.fixture
def tour(lab: Lab, capsys: Any) -> Lab:
    lab.open("00_tour.ipynb")
    spent = lab.run_all()
    with capsys.disabled():
        print(f"\nthe tour ran in {spent:.1f} s")
    assert lab.errors() == []
    lab.page.locator(".vl-root").scroll_into_view_if_needed()
    return lab


def test_the_tour(tour: Lab, pictures: Path, capsys: Any) -> None:
    page = tour.page
    page.screenshot(path=pictures / "tour.png")
    maps_are_those_of_the_library(page)
    typical = changes(tour, capsys)
    slider_and_buttons(page)
    upload(page)
    page.locator(".vl-root").scroll_into_view_if_needed()
    page.screenshot(path=pictures / "explorer.png")
    assert typical <= 500


def maps_are_those_of_the_library(page: Page) -> None:
    """The value under the pointer is that of the library's map, and one cursor stands in all maps."""
    stack = page.locator(".vl-stack[tabindex]").nth(1)
    box = stack.bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.4375 * box["width"], box["y"] + 0.5625 * box["height"])
    values = vl.explain(vl.load("zoo/vit"), vl.data.photo("coffee"), "gradcam").values[0]
    r, s = values.shape
    expected = float(values[int(0.5625 * r), int(0.4375 * s)])
    shown = page.locator(".vl-value").all_text_contents()
    assert float(shown[1].split()[0]) == pytest.approx(expected, rel=0.01)
    assert page.locator(".vl-cursor:visible").count() == 3


def changes(tour: Lab, capsys: Any) -> float:
    """Median of the milliseconds that a change takes.

    Conditions: three classifiers of the zoo, one photograph of 64 × 64 pixels, whatever else the machine does.
    """
    asked = [("method", "layercam", "layercam"), ("method", "rollout", "rollout"), ("method", "chefer", "chefer"),
             ("photo", "cat", "cat"), ("method", "gradcam", "gradcam")]  # fmt: skip
    page, clock = tour.page, "import time; print(time.process_time())"
    begun = tour.ask(clock)
    spent = {f"{name} {label}": page.evaluate(CHANGE, [name, label, heading]) for name, label, heading in asked}
    computed = 1e3 * (tour.ask(clock) - begun) / len(asked)
    again = page.evaluate(CHANGE, ["photo", "coffee", "coffee"])
    with capsys.disabled():
        told = ", ".join(f"{what} {ms:.0f}" for what, ms in spent.items())
        print(f"explorer, ms from a choice to the maps of three zoo models: {told}; back to what was seen {again:.0f}")
        load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        print(f"the kernel computed {computed:.0f} ms a change; {load}")
    return float(np.median(list(spent.values())))


def slider_and_buttons(page: Page) -> None:
    """Discarding changes the maps of rollout; a class the model does not predict changes those of Grad-CAM."""
    dropdown(page, "method").select_option("rollout")
    expect(page.locator(".vl-root thead th").last).to_have_text("rollout")
    before = page.locator(".vl-root canvas").first.evaluate("canvas => canvas.toDataURL()")
    handle = page.locator(".widget-slider", has=page.get_by_text("discard", exact=True)).locator(".noUi-handle")
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator(".widget-slider .widget-readout").first).to_have_text("0.3")
    page.wait_for_function(
        "before => document.querySelector('.vl-root canvas').toDataURL() !== before", arg=before, timeout=30_000
    )
    page.get_by_role("button", name="zoo/hybrid").click()
    expect(page.locator(".vl-model")).to_have_count(2)


def upload(page: Page) -> None:
    """A photograph from a file takes its place among the others; a file that is none is refused in plain words."""
    file = io.BytesIO()
    Image.radial_gradient("L").save(file, "PNG")
    for name, content in (("rings.png", file.getvalue()), ("broken.png", b"no image")):
        with page.expect_file_chooser() as waiting:
            page.locator(".widget-upload").click()
        waiting.value.set_files({"name": name, "mimeType": "image/png", "buffer": content})
        if content.startswith(b"no"):
            expect(page.get_by_role("status").filter(has_text="broken.png")).to_be_visible()
        else:
            expect(page.locator(".vl-root h2")).to_have_text(name)
