"""Which module is running, by hooks that are gone afterwards, also after an exception in the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn


class ModulePath:
    """The stack of running modules, and a call to `finished(path, inputs, output)` whenever one returns.

    What `finished` returns takes the place of the output; None leaves it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.stack: list[str] = []
        self.finished: Callable[[str, Any, Any], Any] = lambda path, inputs, output: None

    @contextmanager
    def follow(self) -> Iterator[ModulePath]:
        handles = []
        try:
            for path, module in self.module.named_modules():
                handles.append(module.register_forward_pre_hook(lambda m, a, path=path: self.stack.append(path)))
                leave = partial(self._leave, path)
                handles.append(module.register_forward_hook(leave, always_call=True))
            yield self
        finally:
            for handle in handles:
                handle.remove()
            self.stack.clear()

    def _leave(self, path: str, _module: nn.Module, inputs: Any, output: Any) -> Any:
        while self.stack and self.stack.pop() != path:
            pass
        return None if output is None else self.finished(path, inputs, output)  # None after an exception

    @property
    def here(self) -> str:
        return self.stack[-1] if self.stack else ""
