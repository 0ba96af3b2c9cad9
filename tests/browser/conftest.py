"""A browser for the tests that need one: Chromium on the path, or named by VIZLIB_CHROMIUM."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_session import Lab, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-default-apps", "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("VIZLIB_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(
            "the browser tests need Chromium; none is on the path. Install it: apt-get install -y "
            "--no-install-recommends chromium fonts-dejavu-core fonts-liberation; or set VIZLIB_CHROMIUM."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, headless=True, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without a network; an error on its console fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    local = ("file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(local) else errors.append(r.url))
    yield page
    context.close()
    assert not errors


@pytest.fixture(scope="session")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks, which running may change."""
    folder = tmp_path_factory.mktemp("notebooks")
    for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, notebooks: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("jupyter"), notebooks)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture
def lab(browser: Browser, server: Server) -> Iterator[Lab]:
    """JupyterLab in a page that reaches its server and nothing else; an error on its console fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page, errors = context.new_page(), []
    local = (server.address, server.address.replace("http", "ws"), "data:", "blob:")
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(local) else errors.append(r.url))
    page.route(lambda url: not url.startswith(local), lambda route: route.abort())
    lab = Lab(page, server)
    yield lab
    lab.close()
    context.close()
    assert not errors


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots are left to be looked at."""
    folder = Path(os.environ.get("OUT", "out")) / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
