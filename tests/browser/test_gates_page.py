"""The gates widget in a real browser: pixels of the strips, differences, order, maps, keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from vizlib.measure.gates import GateSurvey, survey_gates
from vizlib.models.load import load
from vizlib.show import colour
from vizlib.show.assets import asset, module, packed
from vizlib.show.gates import gates_state

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser
CHANNEL = torch.tensor([[0.1, 0.9, 0.4, 0.6], [0.3, 0.7, 0.4, 0.0], [0.8, 0.2, 0.5, 0.3]])
PLACES = torch.tensor([[[0.0, 1.0], [0.5, 0.25]]]).expand(3, 2, 2)
SURVEY = GateSurvey("net", ("cat", "cat", "tea"), ("cat", "tea", "tea"), torch.full((3, 3, 8, 8), 0.5),
                    {"one": CHANNEL, "two": torch.zeros(3, 2)}, {"map": PLACES})  # fmt: skip
MEANS = np.array([[0.2, 0.8, 0.4, 0.3], [0.8, 0.2, 0.5, 0.3]])
READ = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"


@pytest.fixture
def gates(page: Page, tmp_path: Path) -> Page:
    return opened(page, tmp_path, SURVEY)


def opened(page: Page, folder: Path, survey: GateSurvey) -> Page:
    file = folder / "gates.html"
    file.write_text(
        f"<!doctype html><meta charset=utf-8><style>{asset('hover.css')}{asset('gates.css')}</style><div id=root></div>"
        f"<script type='application/json' id=state>{packed(gates_state(survey))}</script>"
        f"<script type=module>{module('gates.js')}\nwindow.told = [];\n"
        "mountGates(document.getElementById('root'), JSON.parse(document.getElementById('state').textContent), "
        "(view) => told.push(view));</script>",
        "utf-8",
    )
    page.goto(file.as_uri())
    page.wait_for_selector(".vg-strips")
    return page


def read(canvas: Locator) -> np.ndarray:
    height, width = (int(canvas.get_attribute(name) or 0) for name in ("height", "width"))
    return np.array(canvas.evaluate(READ)).reshape(height, width, 4)[..., :3]


def shades(values: np.ndarray, name: str = "viridis") -> np.ndarray:
    table = np.frombuffer(colour.table(name), np.uint8).reshape(256, 3)
    return table[np.round(255 * values).astype(int)].astype(int)


def test_strips_are_the_class_means_in_the_order_asked_for(gates: Page) -> None:
    strips = gates.locator(".vg-strips")
    by_difference = np.argsort(MEANS[1] - MEANS[0], kind="stable")  # cat - tea, largest first
    assert np.abs(read(strips) - shades(MEANS[:, by_difference])).max() <= 3
    gates.locator("[data-setting=order]").select_option("channel")
    assert np.abs(read(strips) - shades(MEANS)).max() <= 3
    gates.locator("[data-setting=order]").select_option("this")
    assert np.abs(read(strips) - shades(MEANS[:, [1, 2, 3, 0]])).max() <= 3
    gates.locator("[data-setting=order]").select_option("spread")
    assert np.abs(read(strips) - shades(MEANS[:, [0, 1, 2, 3]])).max() <= 3
    assert gates.locator(".vg-limits span").all_text_contents() == ["+0.6", "0", "-0.6"]


def test_photographs_as_rows_and_the_layers_range(gates: Page) -> None:
    gates.locator("[data-setting=order]").select_option("channel")
    gates.locator("[data-setting=rows]").select_option("photographs")
    gates.locator("[data-setting=scale]").first.select_option("range")
    assert np.abs(read(gates.locator(".vg-strips")) - shades(CHANNEL.numpy() / 0.9)).max() <= 3
    assert gates.locator(".vg-bar").first.locator("span").all_text_contents() == ["0", "0.45", "0.9"]
    assert gates.locator(".vg-labels div").all_text_contents() == ["cat (2)", "tea (1)"]


def test_hovering_tells_nobody_and_the_keyboard_pins(gates: Page) -> None:
    gates.locator("[data-setting=order]").select_option("channel")
    gates.evaluate("() => { told.length = 0; }")
    box = gates.locator(".vg-strips").bounding_box()
    assert box
    gates.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.2 * box["height"])
    text = gates.locator(".vg-text").first
    assert text.text_content() == "channel 1: cat 0.8; cat 0.8, tea 0.2, difference 0.6."
    assert gates.evaluate("told.length") == 0
    gates.locator(".vg-stage").focus()
    gates.keyboard.press("ArrowRight")
    gates.keyboard.press("ArrowDown")
    gates.keyboard.press("Enter")
    assert text.text_content() == "pinned, channel 2: tea 0.5; cat 0.4, tea 0.5, difference -0.1."
    assert gates.evaluate("told.at(-1).pin") == [1, 2]
    gates.keyboard.press("Escape")
    assert "Point at a column" in (text.text_content() or "")


def test_maps_of_spatial_gates(gates: Page) -> None:
    canvas = gates.locator(".vg-stack canvas").nth(1)
    assert np.abs(read(canvas) - shades(PLACES[0].numpy(), colour.SEQUENTIAL)).max() <= 3
    assert gates.locator(".vg-maps figcaption").all_text_contents() == ["cat", "cat → tea", "tea"]
    box = canvas.bounding_box()
    assert box
    gates.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
    assert gates.locator(".vg-text").nth(1).text_content() == "photograph 2, cat: 1 at row 1, column 2 of 2 × 2."


def test_a_layer_is_chosen_by_its_strip(gates: Page) -> None:
    gates.locator(".vg-layers button").nth(1).click()
    assert read(gates.locator(".vg-strips")).shape == (2, 2, 3)
    assert gates.locator(".vg-layers button").nth(1).get_attribute("aria-selected") == "true"


def test_the_gates_of_the_zoo(page: Page, tmp_path: Path, pictures: Path) -> None:
    """The layer that differs most by class is shown first; its strongest difference stands in the first column."""
    photos = {"espresso": ["coffee"], "tabby_cat": ["cat"], "analog clock": ["clock"], "rocket": ["rocket"]}
    survey = survey_gates(load("zoo/seresnet"), photos)
    layer = survey.spread().idxmax()
    opened(page, tmp_path, survey)
    box = page.locator(".vg-strips").bounding_box()
    assert box
    page.mouse.move(box["x"] + 1, box["y"] + 5)
    top = survey.difference(layer, "espresso", "tabby_cat")
    assert f"channel {top.index[0]}: espresso" in (page.locator(".vg-text").text_content() or "")
    assert page.locator("button[aria-selected=true] b").text_content() == layer
    page.screenshot(path=pictures / "gates.png")
