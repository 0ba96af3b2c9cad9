"""Driving the hover widget in a browser, and reading its photographs back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vizlib.show import colour

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page


def opaque(page: Page | Locator, opacity: float = 1) -> None:
    page.locator("[data-setting=opacity]").fill(str(opacity))


def says(page: Page, panel: int = 0) -> str:
    return page.locator(".vh-text").nth(panel).text_content() or ""


def attends(page: Page, expected: np.ndarray) -> None:
    """The first photograph shows these weights, to within a shade or two of 256."""
    seen = pixels(page.locator(".vh-photo").first, expected.shape)  # type: ignore[arg-type]
    assert np.abs(seen - colours(expected, expected.max())).max() <= 12


def point_at(page: Page, photo: Locator, point: tuple[float, float], click: bool = False) -> None:
    box = photo.bounding_box()
    assert box
    at = box["x"] + point[1] * box["width"], box["y"] + point[0] * box["height"]
    (page.mouse.click if click else page.mouse.move)(*at)


def pixels(photo: Locator, grid: tuple[int, int]) -> np.ndarray:
    """The colour of each cell (r, s, 3), three tenths into it: away from frame and dot of the query."""
    found = photo.evaluate(
        """(canvas, [r, s]) => {
            const context = canvas.getContext('2d'), found = [];
            for (let i = 0; i < r; i++) for (let j = 0; j < s; j++) {
                const x = (j + .3) * canvas.width / s, y = (i + .3) * canvas.height / r;
                found.push(...context.getImageData(x, y, 1, 1).data.slice(0, 3));
            }
            return found;
        }""",
        list(grid),
    )
    return np.array(found).reshape(*grid, 3)


def colours(values: np.ndarray, top: float, name: str = "inferno") -> np.ndarray:
    table = np.frombuffer(colour.table(name), np.uint8).reshape(256, 3)
    return table[np.round(255 * np.clip(values / top, 0, 1)).astype(int)].astype(int)


def redraws(page: Page, moves: int = 300) -> list[float]:
    """Milliseconds of each redraw while the pointer moves over the first photograph."""
    found: list[float] = page.evaluate(
        """(moves) => {
            const canvas = document.querySelector('.vh-photo'), box = canvas.getBoundingClientRect(), spent = [];
            for (let i = 0; i < moves; i++) {
                const clientX = box.left + box.width * ((i * 37) % 100) / 100;
                const clientY = box.top + box.height * ((i * 61) % 100) / 100, start = performance.now();
                canvas.dispatchEvent(new PointerEvent('pointermove', { clientX, clientY }));
                spent.push(performance.now() - start);
            }
            return spent;
        }""",
        moves,
    )
    return found
