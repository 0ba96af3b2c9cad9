"""Transformers and torch without what they tell about our own way of loading; errors and Python's warnings stay."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from unittest.mock import patch


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, transformers logs errors alone and shows no progress bar but those of downloads.

    Left out are the table of weights that are not used or missing (missing ones are an error of ours), the remark that
    the number of classes differs from that of the published labels, and what torch logs about other packages that
    transformers imports. Whoever has asked transformers for more than warnings gets it.
    """
    imports = logging.getLogger("torch.utils._pytree")
    imports.addFilter(_is_error)  # a level would be set back when torch's compiler is imported
    try:
        if find_spec("transformers") is None:
            yield
            return
        with _of_transformers():
            yield
    finally:
        imports.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def _of_transformers() -> Iterator[None]:
    from transformers.utils import logging as told

    before = told.get_verbosity()
    if before == logging.WARNING:
        told.set_verbosity_error()
    try:
        with patch.object(told, "_tqdm_active", False):  # disable_progress_bar() would hide the hub's downloads, too
            yield
    finally:
        told.set_verbosity(before)
