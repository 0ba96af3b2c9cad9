"""The saved report of mistakes in a real browser without a network: matrix, gallery, photograph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rendered import classifier

import vizlib as vl

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_from_the_matrix_to_one_photograph(page: Page, tmp_path: Path) -> None:
    photos = vl.data.shortcuts(40, size=32, mark="chance").save(tmp_path / "photos")
    models = {"a": classifier("a", 1), "<i>b": classifier("b", 2)}
    found = vl.debug(models, photos, out=tmp_path / "out")
    page.goto(f"file://{found.save(tmp_path / 'report.html')}")
    cell = page.locator(".vl-matrix button.vl-wrong").first
    count = int(cell.inner_text())
    cell.click()
    tiles = page.locator(".vl-tile")
    assert tiles.count() == min(count, 24)
    page.wait_for_function("[...document.querySelectorAll('.vl-tile img')].every(i => i.naturalWidth > 0)")
    tiles.first.click()
    page.wait_for_selector(".vl-detail canvas")
    assert page.locator(".vl-detail .vl-model").all_inner_texts() == ["a", "<i>b"]
    page.wait_for_function("[...document.querySelectorAll('.vl-near img')].every(i => i.naturalWidth > 0)")
    assert page.locator(".vl-near img").count() == 6
    page.locator("select").select_option("1")
    shown = sum(map(int, page.locator(".vl-matrix td button").all_inner_texts()))
    assert shown == 40
    page.get_by_role("button", name="Sure and wrong").click()
    wrong = len(set(found.found.confident["path"]))
    assert f"of {wrong}" in page.locator(".vl-gallery p").inner_text()
    if wrong > 24:
        page.get_by_role("button", name="next").click()
        assert tiles.count() == min(24, wrong - 24)
