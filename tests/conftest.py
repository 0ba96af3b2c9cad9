"""What holds for every test: nothing process-wide is left behind; and what tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

PATCHED = (
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
    "scaled_dot_product_attention",
)
ORIGINALS = {name: getattr(F, name) for name in PATCHED}


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _nothing_process_wide_is_left() -> Iterator[None]:
    yield
    assert {name: getattr(F, name) for name in PATCHED} == ORIGINALS
    assert torch._C._len_torch_function_stack() == 0
    assert torch._C._len_torch_dispatch_stack() == 0
    assert torch.is_grad_enabled()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that a glance tells apart: reddish and bluish noise."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4)):
        for channel, label in ((2, "blue"), (0, "red")):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (64, 64, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")
    return root


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
