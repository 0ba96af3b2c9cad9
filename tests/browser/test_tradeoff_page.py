"""The saved trade-off in a real browser without a network: marks, names, pointer, keys, choices, details, copying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from vizlib.measure.checkpoints import front, published
from vizlib.show.assets import asset, module, packed
from vizlib.show.tradeoff import tradeoff_page, tradeoff_state

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
# What a name covers: its width, and from the baseline up and down what letters of 11 pixels take.
BOX = """(text) => { const x = +text.getAttribute('x'), y = +text.getAttribute('y');
    return [x, y - 9, x + text.getComputedTextLength(), y + 2]; }"""
TABLE = published().query("image_px == accuracy_px")


@pytest.fixture
def plot(page: Page, tmp_path: Path) -> Page:
    file = tmp_path / "x.html"
    file.write_text(tradeoff_page(TABLE, "gmacs"), "utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".vl-mark")
    return page


def test_every_checkpoint_has_a_mark_and_names_do_not_overlap(plot: Page) -> None:
    assert plot.locator(".vl-mark").count() == len(TABLE)
    boxes = [name.evaluate(BOX) for name in plot.locator(".vl-name").all()]
    assert len(boxes) > 30
    for i, (left, top, right, bottom) in enumerate(boxes):
        for x0, y0, x1, y1 in boxes[i + 1 :]:
            assert right <= x0 + 1 or x1 <= left + 1 or bottom <= y0 + 1 or y1 <= top + 1


def test_the_front_has_its_corners(plot: Page) -> None:
    path = plot.locator(".vl-front.vl-all").get_attribute("d") or ""
    assert path.count("H") + 1 == len(front(TABLE))


def test_pointer_and_click_tell_about_a_mark(plot: Page) -> None:
    mark = plot.locator('[data-model^="timm/eva02_large"] path')
    box = mark.bounding_box()
    plot.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = plot.locator(".vl-tip:visible").text_content()
    assert "90.06 %" in tip
    assert "305 M parameters" in tip
    plot.mouse.down()
    plot.mouse.up()
    details = plot.locator(".vl-details")
    assert "timm repository, results table" in details.text_content()
    assert 'vl.explorer("timm/eva02_large_patch14_448' in details.locator("code").text_content()
    details.locator("button").click()
    plot.wait_for_function("() => document.querySelector('.vl-details button').textContent === 'copied'")


def test_details_stay_in_view_beside_either_plot(page: Page, tmp_path: Path) -> None:
    """At the size of a laptop's window, and on a phone."""
    second = TABLE.head(9).assign(dataset="another", latency_ms=2.0)
    file = tmp_path / "two.html"
    file.write_text(tradeoff_page(pd.concat([TABLE, second], ignore_index=True), "gmacs"), "utf-8")
    page.goto(file.as_uri())
    for width, height in ((1400, 900), (390, 800)):
        page.set_viewport_size({"width": width, "height": height})
        for number in (0, 1):
            mark = page.locator(".vl-plot").nth(number).locator(".vl-mark path").last
            mark.evaluate("mark => mark.scrollIntoView({ block: 'start' }) || scrollBy(0, -60)")
            mark.dispatch_event(
                "pointermove",
                mark.evaluate(
                    "mark => { const b = mark.getBoundingClientRect(); return "
                    "{ clientX: b.x + b.width / 2, clientY: b.y + b.height / 2, bubbles: true }; }"
                ),
            )
            mark.dispatch_event("click")
            model = page.locator(".vl-plot").nth(number).locator(".vl-mark").last.get_attribute("data-model")
            assert page.locator(".vl-details h3").text_content() == model
            box = page.locator(".vl-details").bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= height
    page.get_by_role("combobox").select_option("latency_ms")
    assert "not measured" in page.locator(".vl-plot").first.text_content()
    assert page.locator(".vl-plot").first.bounding_box()["height"] < 120


def test_names_are_unique_and_no_front_strikes_through_them(plot: Page) -> None:
    names = plot.locator(".vl-name").all_text_contents()
    assert len(set(names)) == len(names)
    struck = plot.evaluate("""() => [...document.querySelectorAll('.vl-front')].flatMap((line) => {
        const at = (v) => line.getPointAtLength(v), end = line.getTotalLength(), steps = Math.ceil(end / 2);
        const points = Array.from({ length: steps }, (_, i) => at((i * end) / steps));
        return [...document.querySelectorAll('.vl-name')].filter((text) => {
            const x = +text.getAttribute('x'), y = +text.getAttribute('y'), right = x + text.getComputedTextLength();
            return points.some((p) => p.x > x + 1 && p.x < right - 1 && p.y > y - 8 && p.y < y + 1);
        }).map((text) => text.textContent); })""")
    assert struck == []


def test_the_pointer_names_all_marks_that_lie_on_one_another(plot: Page) -> None:
    mark = plot.locator('[data-model="timm/convnext_base.fb_in1k"] path')
    box = mark.bounding_box()
    plot.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tip = plot.locator(".vl-tip:visible").text_content()
    assert "timm/swin_base_patch4_window7_224.ms_in1k" in tip
    assert "timm/convnext_base.fb_in1k" in tip


def test_keys_walk_from_the_cheapest(plot: Page) -> None:
    plot.locator(".vl-plot svg").focus()
    plot.keyboard.press("ArrowRight")
    cheapest = TABLE.loc[TABLE["gmacs"].idxmin(), "model"]
    assert cheapest in plot.locator(".vl-speak").text_content()
    plot.keyboard.press("Enter")
    assert plot.locator(".vl-details h3").text_content() == cheapest
    plot.keyboard.press("Escape")
    assert plot.locator(".vl-tip:visible").count() == 0


def test_choices_redraw(plot: Page) -> None:
    plot.get_by_label("only those trained on the data set alone").check()
    assert plot.locator(".vl-mark").count() == int((~TABLE["more_data"]).sum())
    plot.get_by_label("CNN").uncheck()
    kept = TABLE[~TABLE["more_data"] & (TABLE["family"] != "CNN")]
    assert plot.locator(".vl-mark").count() == len(kept)
    plot.get_by_role("combobox").select_option("params")
    assert plot.locator(".vl-title").text_content() == "parameters"
    assert "25.6" not in (plot.locator(".vl-tip").text_content() or "")


def test_it_fits_a_phone(plot: Page) -> None:
    plot.set_viewport_size({"width": 390, "height": 800})
    plot.wait_for_function("() => document.querySelector('.vl-plot svg').viewBox.baseVal.width < 380")
    right = max(m.bounding_box()["x"] for m in plot.locator(".vl-mark").all()[::10])
    assert right < 390


def test_the_widget_asks_the_kernel_to_open_a_model(page: Page, tmp_path: Path) -> None:
    """Its front end as anywidget loads it, with a model that notes what it is sent."""
    state = tradeoff_state(TABLE, "gmacs", "hint")
    script = f"""{module("tradeoff_widget.js").replace("export default", "const widget =")}
    window.sent = [];
    const model = {{ get: () => ({packed(state)}), send: (message) => window.sent.push(message) }};
    widget.render({{ model, el: document.body }});"""
    style = asset("maps.css") + asset("tradeoff.css")
    file = tmp_path / "widget.html"
    file.write_text(
        f'<meta charset="utf-8"><style>{style}</style><body><script type="module">{script}</script>', "utf-8"
    )
    page.goto(file.as_uri())
    page.wait_for_selector(".vl-mark")
    page.locator(".vl-plot svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator(".vl-open").click()
    assert page.evaluate("window.sent") == [{"open": TABLE.loc[TABLE["gmacs"].idxmin(), "model"]}]
