"""What a command line names: methods, models and photographs, checked before anything slow begins."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vizlib.commands.options import PUBLISHED, RANDOM, SOURCES
from vizlib.methods.names import AUTO, must_be_known


def methods(arguments: argparse.Namespace) -> list[str]:
    """The methods asked for, in order.

    Raises:
        ValueError: no such method.
    """
    for name in arguments.method:
        if name != AUTO:
            must_be_known(name)
    return list(arguments.method)


def told_apart(what: list[str]) -> tuple[list[str], list[str]]:
    """Names of models, and photographs.

    Raises:
        ValueError: one of the two is missing.
    """
    models = [name for name in what if name.startswith(SOURCES) or Path(name).is_dir()]
    photos = [name for name in what if name not in models]
    if not models or not photos:
        missing = "photograph" if models else f"model ({', '.join(f'{each}…' for each in SOURCES)})"
        raise ValueError(f"at least one {missing} is needed; got {' '.join(what)}. See --help.")
    return models, photos


def opened(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The models and the photographs of `arguments.what`, by name; the photographs are read first, which is quicker."""
    from vizlib import data

    names, paths = told_apart(arguments.what)
    pictures = data.open_photos(paths)
    from vizlib.explore.rows import distinct, photo_name

    photos = dict(zip(distinct([photo_name(path) for path in paths]), pictures, strict=True))
    return loaded(names, arguments), photos


def loaded(names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Classifiers by name, as the options of `options.loading` ask.

    Raises:
        ValueError: no such classifier, or a file of weights for several.
    """
    options = _weights(names, arguments.weights) | {"device": arguments.device}
    options["dtype"] = getattr(arguments, "dtype", None)
    if arguments.input_size:
        options["input_size"] = (3, *arguments.input_size)
    import torch

    from vizlib.models.load import load

    if arguments.weights != RANDOM:
        return {name: load(name, **options) for name in dict.fromkeys(names)}
    torch.manual_seed(0)  # the same weights every time
    return {name: load(name, name=f"{name}, random weights", **options) for name in dict.fromkeys(names)}


def _weights(names: list[str], weights: str) -> dict[str, Any]:
    if weights == PUBLISHED:
        return {}
    if weights == RANDOM:
        return {"pretrained": False}
    if not Path(weights).expanduser().is_file():
        raise ValueError(f"--weights is {PUBLISHED}, {RANDOM} or a file; got {weights!r}, which is none.")
    if len(names) > 1:
        raise ValueError(f"a file of weights belongs to one model; got {', '.join(names)}. Name one.")
    return {"weights": weights}


def labelled(place: str) -> str:
    """A folder, archive or table of labelled photographs.

    Raises:
        ValueError: it is not there.
    """
    if "://" not in place and not Path(place).expanduser().exists():
        raise ValueError(f"labelled photographs are needed; {place} is not there. Name a folder with one per class.")
    return place
