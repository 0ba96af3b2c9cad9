"""A rendered notebook in a real browser without a network: its widgets still answer to the pointer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tiny
from hover_pixels import attends, opaque, point_at
from render import render
from test_docs import executed

from vizlib.capture.trace import trace
from vizlib.explore.hover import hover
from vizlib.show.hover import drawable

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_hovering_in_a_rendered_notebook(page: Page, tmp_path: Path) -> None:
    found = trace(tiny.classifier(tiny.vit()), tiny.images(1))
    file = tmp_path / "page.html"
    file.write_text(render(executed(hover(found, 0))), "utf-8")
    page.goto(file.as_uri())
    page.wait_for_selector(".vh-photo")
    opaque(page)
    point_at(page, page.locator(".vh-photo"), (0.6, 0.3))
    attends(page, drawable(found)[-1].heatmap((0.6, 0.3)).values[0].numpy())
