"""Hovering in a real browser: pixels against attention rows, keyboard, pins, layers, time of a redraw."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny
import torch
from hover_pixels import attends, colours, opaque, pixels, point_at, redraws, says
from PIL import Image

from vizlib.capture.trace import trace
from vizlib.show.assets import module
from vizlib.show.hover import drawable, hover_html, hover_state
from vizlib.types import Classifier, Trace

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
GREY = torch.full((3, 64, 64), 128 / 255)
WIDTH = 320

MODELS = {
    "vit": lambda: tiny.classifier(tiny.vit()),
    "windows, not square": lambda: tiny.classifier(tiny.swin((32, 64)), (32, 64)),
    "pooled keys": lambda: tiny.classifier(tiny.pvt()),
}


def traced(clf: Classifier) -> Trace:
    return trace(clf, tiny.images(1, clf.input_size[1:]))


def open_page(page: Page, folder: Path, states: list[dict[str, Any]]) -> None:
    file = folder / "hover.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><title>hover</title>{hover_html(states)}", "utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".vh-photo")
    page.wait_for_function("() => document.querySelector('.vh-numbers').textContent")


@pytest.mark.parametrize("name", MODELS)
def test_pixels_are_the_attention_row(page: Page, tmp_path: Path, name: str) -> None:
    clf = MODELS[name]()
    found = traced(clf)
    grey = torch.full((3, *clf.input_size[1:]), 128 / 255)
    open_page(page, tmp_path, [hover_state(found, background=grey)])
    opaque(page)
    photo, point = page.locator(".vh-photo"), (0.61, 0.33)
    for number, attention in enumerate(drawable(found)):
        page.get_by_label("layer of").select_option(str(number))
        for head in (-1, 1):
            page.get_by_label("head of").select_option(str(head))
            point_at(page, photo, (0.1, 0.1))
            point_at(page, photo, point)
            expected = attention.heatmap(point, None if head < 0 else head).values[0].numpy()
            seen = pixels(photo, expected.shape)  # type: ignore[arg-type]
            keyed = (seen != 128).any(-1)  # cells outside the query's window show the photograph
            assert (expected[~keyed] == 0).all()
            close = np.abs(seen - colours(expected, expected.max())).max(-1) <= 12  # a shade or two of 256
            assert close[keyed].all()
            numbers = page.locator(".vh-numbers span").all_text_contents()
            assert float(numbers[2]) == pytest.approx(expected.max(), rel=0.01)
            windowed = attention.groups > 1
            assert windowed == (not keyed.all())


def test_own_and_shared_scale(page: Page, tmp_path: Path) -> None:
    found = traced(tiny.classifier(tiny.vit()))
    open_page(page, tmp_path, [hover_state(found, background=GREY)])
    opaque(page)
    photo, attention = page.locator(".vh-photo"), drawable(found)[-1]
    page.get_by_label("head of").select_option("0")
    page.locator("[data-setting=scale]").select_option("layer")
    page.locator("[data-setting=colours]").select_option("viridis")
    point_at(page, photo, (0.6, 0.6))
    expected = attention.heatmap((0.6, 0.6), 0).values[0].numpy()
    top = float(attention.weights()[..., 1:].max())  # the class token's column does not count
    assert top > 1.05 * expected.max()
    assert np.abs(pixels(photo, (4, 4)) - colours(expected, top, "viridis")).max() <= 12
    assert float(page.locator(".vh-numbers span").all_text_contents()[2]) == pytest.approx(top, rel=0.01)


def test_class_token_row(page: Page, tmp_path: Path) -> None:
    found = traced(tiny.classifier(tiny.vit()))
    open_page(page, tmp_path, [hover_state(found, background=GREY)])
    opaque(page)
    page.locator("[data-setting=query]").select_option("0")
    expected = drawable(found)[-1].heatmap(0).values[0].numpy()
    attends(page, expected)
    assert "class token attends most to" in says(page)


def test_models_that_see_different_parts_share_the_cursor(page: Page, tmp_path: Path) -> None:
    """The second model sees the right half: the photograph's (0.6, 0.7) is its own (0.6, 0.4)."""
    found = traced(tiny.classifier(tiny.vit()))
    boxes = [(0.0, 0.0, 1.0, 1.0), (0.5, 0.0, 1.0, 1.0)]
    open_page(page, tmp_path, [hover_state(found, background=GREY, box=box) for box in boxes])
    point_at(page, page.locator(".vh-photo").first, (0.6, 0.7))
    assert says(page, 0).startswith("row 3, column 3")
    assert says(page, 1).startswith("row 3, column 2")
    point_at(page, page.locator(".vh-photo").first, (0.6, 0.3))
    assert says(page, 1) == "This model does not see that point."
    point_at(page, page.locator(".vh-photo").nth(1), (0.1, 0.1), click=True)
    assert says(page, 0).startswith("pinned, row 1, column 3")
    page.locator(".vh-photo").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert says(page, 1).startswith("pinned, row 1, column 2")


def test_one_scale_for_all_models(page: Page, tmp_path: Path) -> None:
    traces = [traced(tiny.classifier(m)) for m in (tiny.vit(), tiny.pvt())]
    open_page(page, tmp_path, [hover_state(t, background=GREY) for t in traces])
    page.locator("[data-setting=scale]").select_option("models")
    point_at(page, page.locator(".vh-photo").first, (0.6, 0.3))
    last = [drawable(t)[-1] for t in traces]
    top = max(float(a.weights()[..., a.keys.prefix :].max()) for a in last)
    numbers = page.locator(".vh-numbers").all_text_contents()
    assert numbers[0] == numbers[1]
    assert float(page.locator(".vh-numbers span").all_text_contents()[2]) == pytest.approx(top, rel=0.01)


def test_keyboard_pins_and_the_shared_cursor(page: Page, tmp_path: Path) -> None:
    models = (tiny.vit(), tiny.pvt())
    states = [hover_state(traced(tiny.classifier(m)), background=GREY) for m in models]
    open_page(page, tmp_path, states)
    first, second = page.locator(".vh-photo").all()
    point_at(page, first, (0.6, 0.3))  # row 3, column 2 of 4 × 4 in both
    assert says(page, 0).startswith("row 3, column 2")
    assert says(page, 1).startswith("row 3, column 2")
    first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    assert says(page, 0).startswith("row 2, column 3")
    page.keyboard.press("Enter")
    before = pixels(second, (4, 4))
    point_at(page, second, (0.9, 0.9))
    assert says(page, 1).startswith("pinned, row 2, column 3")
    assert (pixels(second, (4, 4)) == before).all()
    spoken = page.locator("[aria-live]", has_text="pinned, row 2, column 3")
    spoken.wait_for(state="attached")
    point_at(page, second, (0.1, 0.9), click=True)
    assert says(page, 0).startswith("pinned, row 1, column 4")
    page.keyboard.press("ArrowDown")
    assert says(page, 0).startswith("pinned, row 2, column 4")
    page.keyboard.press("Escape")
    assert says(page, 0).startswith("class token")
    assert says(page, 1) == "Point at the photograph."


def test_the_edge_of_the_photograph_stops_the_arrows(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, [hover_state(traced(tiny.classifier(tiny.vit())))])
    page.locator(".vh-photo").focus()
    for key in ["ArrowLeft"] * 6 + ["ArrowDown"] * 6:
        page.keyboard.press(key)
    assert says(page).startswith("row 4, column 1")


def test_thumbnails_stay_while_hovering_and_choose_layer_and_head(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, [hover_state(traced(tiny.classifier(tiny.vit())))])
    thumbs, photo = page.locator(".vh-thumbs"), page.locator(".vh-photo")
    drawn = "canvas => canvas.toDataURL()"
    before = thumbs.evaluate(drawn)
    page.evaluate("() => { CanvasRenderingContext2D.prototype.strokeRect = () => {}; }")
    thumbs.evaluate("canvas => { canvas.mark = 1; canvas.getContext('2d').fillRect(0, 0, 3, 3); }")
    marked = thumbs.evaluate(drawn)
    assert marked != before
    for column in (0.1, 0.4, 0.9):
        point_at(page, photo, (0.5, column))
    assert thumbs.evaluate(drawn) == marked  # not drawn again
    point_at(page, photo, (0.5, 0.9), click=True)
    assert thumbs.evaluate(drawn) != marked  # now they show the pinned point
    thumbs.click(position={"x": 2 * 40 + 5, "y": 5})  # first layer, third head
    assert page.get_by_label("layer of").input_value() == "0"
    assert page.get_by_label("head of").input_value() == "2"


def test_thumbnails_of_a_layer_on_one_scale(page: Page, tmp_path: Path) -> None:
    """The head whose strongest patch is weaker gets darker; the strongest of the layer stays as it was."""
    found = traced(tiny.classifier(tiny.vit()))
    open_page(page, tmp_path, [hover_state(found)])
    peak = """(canvas, head) => Math.max(...Array.from({ length: 38 * 38 }, (_, i) => {
        const [x, y] = [40 * head + (i % 38), Math.floor(i / 38)];
        return canvas.getContext('2d').getImageData(x, y, 1, 1).data[0];
    }))"""
    tops = [float(drawable(found)[0].heatmap(0, head).values.max()) for head in range(3)]
    weakest, strongest = int(np.argmin(tops)), int(np.argmax(tops))
    thumbs = page.locator(".vh-thumbs")
    own = thumbs.evaluate(peak, weakest), thumbs.evaluate(peak, strongest)
    page.locator("[data-setting=scale]").select_option("layer")
    assert thumbs.evaluate(peak, weakest) < own[0]
    assert thumbs.evaluate(peak, strongest) == own[1]


def test_a_layer_that_is_not_in_the_page_says_so(page: Page, tmp_path: Path) -> None:
    found = traced(tiny.classifier(tiny.vit()))
    size = found.attentions["blocks.1.attn"].weights().numel()
    open_page(page, tmp_path, [hover_state(found, limit=size)])
    page.get_by_label("layer of").select_option("0")
    assert says(page) == "The weights of this layer are not in this page."


def test_save_png(page: Page, tmp_path: Path) -> None:
    models = [tiny.classifier(tiny.vit(), name="a/b"), tiny.classifier(tiny.pvt(), name="c")]
    open_page(page, tmp_path, [hover_state(traced(clf)) for clf in models])
    point_at(page, page.locator(".vh-photo").first, (0.4, 0.4), click=True)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="save PNG").click()
    assert waiting.value.suggested_filename == "a_b-c.png"
    saved = np.array(Image.open(waiting.value.path()).convert("RGB"))
    assert saved.shape[1] == 2 * (WIDTH + 12) + 12
    assert saved.std() > 20  # two photographs, and not an empty sheet


def test_redraw_within_five_milliseconds(page: Page, tmp_path: Path, capsys: Any) -> None:
    """A ViT-S/16 at 224 px: 12 layers, 6 heads, 197 tokens, about 2.8 MB of weights."""
    module = tiny.vit(img_size=224, patch_size=16, embed_dim=48, depth=12, num_heads=6)
    open_page(page, tmp_path, [hover_state(traced(tiny.classifier(module, 224)))])
    median, p90 = np.percentile(redraws(page), [50, 90])
    with capsys.disabled():
        print(f"\nhover redraw, 12 layers of ViT-S/16's size: median {median:.2f} ms, p90 {p90:.2f} ms")
    assert median <= 5


def in_base64(state: dict[str, Any]) -> str:
    return json.dumps(state, default=lambda raw: base64.b64encode(raw).decode("ascii"))


MODEL = """
const sent = [], saved = [], handlers = {};
window.sent = sent; window.saved = saved; window.handlers = handlers;
const given = { state: JSON.parse(document.getElementById('state').textContent), view: {} };
const model = {
  get: (name) => given[name], set: (name, value) => { given[name] = value; handlers['change:' + name]?.(); },
  save_changes: () => saved.push(given.view), send: (message) => sent.push(message),
  on: (name, f) => { handlers[name] = f; }, off: (name) => { delete handlers[name]; },
};
window.model = model;
const module = await import('data:text/javascript;base64,SCRIPT');
window.leave = module.default.render({ model, el: document.getElementById('root') });
"""


def test_the_widget_end_of_the_module(page: Page, tmp_path: Path) -> None:
    """Hovering sends nothing to the kernel; a choice updates `view`; a missing layer is fetched and drawn."""
    found = traced(tiny.classifier(tiny.vit()))
    state = in_base64({"panels": [hover_state(found, limit=0)]})
    script = MODEL.replace("SCRIPT", base64.b64encode(module("hover_widget.js").encode()).decode())
    file = tmp_path / "widget.html"
    file.write_text(
        f"<!doctype html><meta charset=utf-8><div id=root></div>"
        f"<script type='application/json' id=state>{state}</script><script type=module>{script}</script>",
        "utf-8",
    )
    page.goto(file.as_uri())
    page.wait_for_selector(".vh-photo")
    assert page.evaluate("sent") == [{"fetch": {"panel": 0, "layer": 1}}]
    assert says(page) == "Loading this layer …"
    got = json.loads(in_base64(hover_state(found)["layers"][1]))
    answer = [got["rows"], got["scale"], got["prefixMass"]]
    page.evaluate("answer => handlers['msg:custom']({ panel: 0, layer: 1 }, answer)", answer)
    opaque(page)
    page.evaluate("() => { sent.length = saved.length = 0; }")
    photo = page.locator(".vh-photo")
    for column in (0.1, 0.4, 0.6):
        point_at(page, photo, (0.6, column))
    assert (page.evaluate("sent"), page.evaluate("saved")) == ([], [])
    attends(page, drawable(found)[1].heatmap((0.6, 0.6)).values[0].numpy())
    point_at(page, photo, (0.6, 0.6), click=True)
    assert page.evaluate("saved.at(-1).pin") == pytest.approx([0.6, 0.6], abs=0.01)
    page.evaluate("() => model.set('view', {...model.get('view'), pin: [0.1, 0.1], heads: [2]})")
    assert says(page).startswith("pinned, row 1, column 1")
    assert page.get_by_label("head of").input_value() == "2"
    page.evaluate("leave()")
    assert page.locator(".vizlib-hover").count() == 0
