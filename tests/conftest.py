"""What holds for every test: nothing process-wide is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

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
