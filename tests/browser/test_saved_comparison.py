"""A comparison of the zoo, saved and opened without a network: hovering shows what each token attends to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hover_pixels import colours, opaque, pixels, point_at, says

import vizlib as vl
from vizlib.explore.window import window
from vizlib.show.hover import drawable

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
MODELS = ("zoo/seresnet", "zoo/vit", "zoo/hybrid")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    both = vl.compare(list(MODELS), ["coffee", "cat"], methods=["gradcam", "rollout"])
    return both.save(tmp_path_factory.mktemp("saved") / "compare.html")


def test_hovering_shows_the_attention_rows(page: Page, saved: Path, pictures: Path) -> None:
    page.goto(saved.as_uri())
    section = page.locator("[data-hover]").first
    assert section.locator(".vh-photo").count() == 2  # the CNN has no attention, and the page says so
    assert "zoo/seresnet: hovering needs attention" in section.inner_text()
    opaque(section)
    point = (0.4, 0.55)
    section.locator(".vh-photo").first.scroll_into_view_if_needed()
    for panel, name in enumerate(MODELS[1:]):
        clf, photo = vl.load(name), vl.data.photo("coffee")
        last = drawable(vl.trace(clf, photo))[-1]
        for head in (-1, 1):
            section.get_by_label(f"head of {name}").select_option(str(head))
            point_at(page, section.locator(".vh-photo").first, point)
            expected = last.heatmap(point, None if head < 0 else head).values[0].numpy()
            seen = pixels(section.locator(".vh-photo").nth(panel), expected.shape)  # type: ignore[arg-type]
            assert np.abs(seen - colours(expected, expected.max())).max() <= 12
        assert window(clf, photo.size) is not None
    assert says(page, 0)[:15] == says(page, 1)[:15] == "row 4, column 5"
    opaque(section, 0.7)
    page.screenshot(path=pictures / "compare_hover.png")


def test_other_photographs_open_when_asked(page: Page, saved: Path) -> None:
    page.goto(saved.as_uri())
    page.locator(".vh-photo").first.wait_for()
    second = page.locator("[data-hover]").nth(1)
    assert second.locator(".vh-photo").count() == 0
    second.locator("summary").click()
    second.locator(".vh-photo").first.wait_for()
    assert second.locator(".vh-photo").count() == 2


def test_the_file_is_small(saved: Path) -> None:
    assert saved.stat().st_size < 2e6  # 6 pictures of models, 24 layers of 4 heads of 64 × 64 weights
