"""The files of facts about published checkpoints, which are not part of the repository."""

import importlib.util
import os
import re
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def facts() -> Path:
    """Folder with NAME.txt, golden.py and golden/NAME.npz."""
    folder = Path(os.environ.get("VIZLIB_FACTS", "missing"))
    if not (folder / "golden.py").is_file():
        pytest.skip("VIZLIB_FACTS names no folder with the facts about published checkpoints")
    return folder


@pytest.fixture(scope="session")
def golden(facts: Path):
    """The module golden.py: draw, fill, batch, check."""
    spec = importlib.util.spec_from_file_location("golden", facts / "golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def published_shapes(facts: Path):
    """Name of a variant -> {state-dict name: shape} of the authors' checkpoint."""

    def read(name: str) -> dict[str, tuple[int, ...]]:
        rows = re.findall(r"^([^#\s]\S*) (\S+)$", (facts / f"{name}.txt").read_text(), re.MULTILINE)
        return {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in rows}

    return read
