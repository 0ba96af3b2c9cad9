"""JupyterLab for the browser tests: a server of its own, and a page in which one notebook is open."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, also out of sight
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
QUIET = [
    "--no-browser", "--allow-root", "--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True",
    "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]  # fmt: skip
PANEL = "const panel = jupyterapp.shell.currentWidget, session = panel.sessionContext.session;"
IDLE = "() => jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
OUTPUTS = f"""() => {{ {PANEL}
    return panel.content.widgets.filter((cell) => cell.model.type === 'code').map((cell) => (
        {{ count: cell.model.executionCount, outputs: cell.model.outputs.toJSON() }}));
}}"""
ASK = f"""async (code) => {{ {PANEL}
    const texts = [], asked = session.kernel.requestExecute({{ code, silent: false, store_history: false }});
    asked.onIOPub = ({{ content }}) => texts.push(content.text ?? content.evalue ?? '');
    await asked.done;
    return texts.join('');
}}"""


class Server:
    """A JupyterLab server on a free port, with settings and folders of its own."""

    def __init__(self, folder: Path, notebooks: Path) -> None:
        self.token = secrets.token_hex(16)
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{found.getsockname()[1]}"
        names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
        own = {f"JUPYTER_{name}": str(folder / name) for name in names}
        own |= {f"JUPYTERLAB_{name}": str(folder / name) for name in ("SETTINGS_DIR", "WORKSPACES_DIR")}
        for name, values in SETTINGS.items():
            file = folder / "SETTINGS_DIR" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))
        self.log = (folder / "log").open("w")
        port, root = self.address.rpartition(":")[2], f"--ServerApp.root_dir={notebooks}"
        command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.port={port}", root, *QUIET]
        command.append(f"--IdentityProvider.token={self.token}")
        self.process = subprocess.Popen(command, env=os.environ | own, stdout=self.log, stderr=self.log)

    def wait(self, seconds: float = 120) -> None:
        """Until it answers."""
        until = time.monotonic() + seconds
        while True:
            try:
                urllib.request.urlopen(f"{self.address}/api?token={self.token}").close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    told = Path(self.log.name).read_text()[-2000:]
                    raise RuntimeError(f"JupyterLab did not start:\n{told}") from None
                time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


class Lab:
    """A page with one notebook of a server."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page, self.server = page, server
        self.sent: list[Any] = []  # what went to the kernel
        page.on("websocket", lambda socket: socket.on("framesent", lambda sent: self.sent.append(sent)))

    def open(self, notebook: str) -> None:
        """Opens a notebook; its kernel is ready afterwards."""
        name = Path(notebook).stem
        self.page.goto(f"{self.server.address}/lab/workspaces/{name}/tree/{notebook}?token={self.server.token}&reset")
        self.page.wait_for_function("() => window.jupyterapp", timeout=60_000)
        self.page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook", timeout=60_000)
        self.page.evaluate(
            "async () => { const panel = jupyterapp.shell.currentWidget; jupyterapp.shell.collapseLeft();"
            "await panel.context.ready; }"
        )
        self.page.wait_for_function(IDLE, timeout=60_000)

    def run_all(self, seconds: float = 300) -> float:
        """Runs every cell; how many seconds that took."""
        start = time.monotonic()
        self.page.set_default_timeout(seconds * 1000)
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        self.page.wait_for_function(IDLE)
        self.page.set_default_timeout(30_000)
        return time.monotonic() - start

    def errors(self) -> list[str]:
        """Errors among the outputs of all cells, and cells that were not run."""
        found = []
        for cell in self.page.evaluate(OUTPUTS):
            found += [f"{out['ename']}: {out['evalue']}" for out in cell["outputs"] if out["output_type"] == "error"]
            found += ["a cell was not run"] if cell["count"] is None else []
        return found

    def ask(self, code: str) -> Any:
        """What code prints in the notebook's kernel, read as JSON."""
        return json.loads(self.page.evaluate(ASK, code))

    def close(self) -> None:
        """Ends the notebook's kernel."""
        self.page.evaluate("async () => { await jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
