"""What a classifier can be built with besides its defaults, and plain words for what it cannot."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_type_hints

from torch import nn


def options_of(builder: Callable[..., nn.Module]) -> tuple[str, ...]:
    """Names of all that has a default, in a builder's signature and, where it hands options on, in its result's class.

    Args:
        builder: says in its annotation what it returns.
    """
    made = get_type_hints(builder).get("return")
    makers: list[Any] = [builder]
    makers += [vars(kind)["__init__"] for kind in getattr(made, "__mro__", ()) if "__init__" in vars(kind)]
    names: dict[str, None] = {}
    for maker in makers:
        parameters = inspect.signature(maker).parameters.values()
        names |= {p.name: None for p in parameters if p.default is not p.empty}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return tuple(names)


def unknown_option(name: str, option: str, known: Iterable[str]) -> ValueError:
    """The error for an option that a classifier does not have."""
    takes = ", ".join(known) or "none"
    return ValueError(
        f"{name} needs options that it knows; got {option!r}. It takes: {takes}; and what help(vizlib.load) lists."
    )


@contextmanager
def understood(name: str, options: Mapping[str, Any], builder: Callable[..., nn.Module]) -> Iterator[None]:
    """Inside, a builder that does not know one of the options says which ones it knows.

    Raises:
        ValueError: instead of Python's TypeError.
    """
    try:
        yield
    except TypeError as error:
        wrong = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if wrong is None or wrong[1] not in options:
            raise
        raise unknown_option(name, wrong[1], options_of(builder)) from error
