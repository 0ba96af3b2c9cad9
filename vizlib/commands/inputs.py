"""What a command line names: methods, models, photographs; checked before torch is imported and models are loaded."""

from __future__ import annotations

import argparse
import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from vizlib.commands.options import PUBLISHED, RANDOM, SOURCES
from vizlib.methods.names import AUTO, must_be_known

Ways = dict[str, Any]  # keyword arguments of vl.load


def methods(arguments: argparse.Namespace) -> list[str]:
    """The methods asked for, in order.

    Raises:
        ValueError: no such method.
    """
    for name in arguments.method:
        if name != AUTO:
            must_be_known(name)
    return list(arguments.method)


def asked(arguments: argparse.Namespace) -> tuple[list[str], dict[str, Any], Ways]:
    """The names of the models, the photographs by name, and how to load the models.

    Raises:
        ValueError: no model, no photograph, one that cannot be read, or weights that are not there.
    """
    from vizlib import data

    names = [name for name in arguments.what if name.startswith(SOURCES) or Path(name).is_dir()]
    paths = [name for name in arguments.what if name not in names]
    if not names or not paths:
        missing = "photograph" if names else f"model ({', '.join(f'{each}…' for each in SOURCES)})"
        raise ValueError(f"at least one {missing} is needed; got {' '.join(arguments.what)}. See --help.")
    ways = how(names, arguments)
    pictures = data.open_photos(paths)
    photos = dict(zip(data.distinct([data.photo_name(path) for path in paths]), pictures, strict=True))
    return list(dict.fromkeys(names)), photos, ways


def how(names: list[str], arguments: argparse.Namespace) -> Ways:
    """How the options of `options.loading` ask for models to be loaded.

    Raises:
        ValueError: a file of weights that is not there or is for several models; no such member of the zoo.
    """
    ways: Ways = {"device": arguments.device, "dtype": getattr(arguments, "dtype", None)}
    if arguments.input_size:
        ways["input_size"] = (3, *arguments.input_size)
    if arguments.weights == PUBLISHED:
        _must_be_trained(names)
    elif arguments.weights == RANDOM:
        ways["pretrained"] = False
    elif not Path(arguments.weights).expanduser().is_file():
        raise ValueError(f"--weights is {PUBLISHED}, {RANDOM} or a file; got {arguments.weights!r}, which is none.")
    elif len(names) > 1:
        raise ValueError(f"a file of weights belongs to one model; got {', '.join(names)}. Name one.")
    else:
        ways["weights"] = arguments.weights
    return ways


def loaded(names: list[str], ways: Ways) -> dict[str, Any]:
    """Classifiers by name; those with random weights say so in their own name.

    Raises:
        ValueError: no such classifier, or one that does not take the size asked for.
    """
    import torch

    from vizlib.models.load import load

    drawn = not ways.get("pretrained", True)
    if drawn:
        torch.manual_seed(0)  # the same weights every time
    named: dict[str, Ways] = {name: {"name": f"{name}, random weights"} if drawn else {} for name in names}
    classifiers = {name: load(name, **own, **ways) for name, own in named.items()}
    for name, clf in classifiers.items():
        if "input_size" in ways:
            _must_take(clf, name)
    return classifiers


def _must_take(clf: Any, name: str) -> None:
    """Models that are built for one size of image refuse others in words of their own, timm's by an assertion."""
    import torch

    try:
        clf(torch.zeros(1, *clf.input_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        size = " x ".join(map(str, clf.input_size[1:]))
        raise ValueError(f"{name} does not take images of {size} pixels: {error} Leave --input-size out.") from error


def labelled(place: str) -> str:
    """A folder, archive or table of labelled photographs.

    Raises:
        ValueError: it is not there.
    """
    if "://" not in place and not Path(place).expanduser().exists():
        raise ValueError(f"labelled photographs are needed; {place} is not there. Name a folder with one per class.")
    return place


def _must_be_trained(names: list[str]) -> None:
    """Members of the zoo are looked up where their weights lie, which needs no torch."""
    weights = resources.files("vizlib.models") / "weights"
    trained = sorted(f"zoo/{Path(file.name).stem}" for file in weights.iterdir() if file.name.endswith(".safetensors"))
    for name in names:
        if name.startswith("zoo/") and name not in trained:
            near = ", ".join(difflib.get_close_matches(name, trained, 3, 0.6) or trained)
            raise ValueError(f"a trained member of the zoo is needed; got {name!r}. Name one of: {near}.")
