"""Options that several commands share, each defined once."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from vizlib.methods.names import AUTO, NAMES

SOURCES = ("zoo/", "timm/", "torchvision/", "hf/", "arch/")
PUBLISHED, RANDOM = "published", "random"
DTYPES = ("float32", "float64", "bfloat16", "float16")
METHOD_OPTIONS = ("head", "query", "fusion", "discard")


def models_and_photos(options: argparse.ArgumentParser) -> None:
    """What is looked at, and by which models."""
    options.add_argument("what", nargs="+", metavar="MODEL… PHOTO…", help="models, then photographs")


def models(options: argparse.ArgumentParser, count: str = "+") -> None:
    """Models alone."""
    options.add_argument("models", nargs=count, metavar="MODEL", help="zoo/…, timm/…, torchvision/…, hf/… or arch/…")


def loading(options: argparse.ArgumentParser, *, dtype: bool = True) -> None:
    """How the models are loaded."""
    group = options.add_argument_group("how models are loaded")
    group.add_argument(
        "--weights", default=PUBLISHED, metavar=f"{PUBLISHED}|{RANDOM}|FILE", help="default: %(default)s"
    )
    group.add_argument(
        "--random", dest="weights", action="store_const", const=RANDOM, help="the same as --weights random; no download"
    )
    group.add_argument(
        "--input-size", type=size, metavar="PIXELS", help="e.g. 256, or 256x192 for rows x columns; default: its own"
    )
    device(group)
    if dtype:
        group.add_argument("--dtype", choices=DTYPES, metavar="TYPE", help=f"{', '.join(DTYPES)}; default: float32")


def device(options: Any) -> None:
    """Where models run."""
    options.add_argument("--device", help="cuda, mps or cpu; by default the best there is")


def question(options: argparse.ArgumentParser, methods: tuple[str, ...]) -> None:
    """What is asked of the models: methods, their options and the class."""
    group = options.add_argument_group("what is asked")
    listed: dict[str, Any] = {"nargs": "+", "action": Listed, "metavar": "NAME"}
    group.add_argument(
        "--method", default=methods, help=f"{', '.join([*NAMES, AUTO])}; default: {' '.join(methods)}", **listed
    )
    group.add_argument("--target", type=index_or_text, metavar="CLASS", help="label or index; default: the predicted")
    group.add_argument("--head", type=int, help="of raw attention: one head; default: their mean")
    group.add_argument(
        "--query", type=query, help="of raw attention: class, mean, or a point ROW,COLUMN in [0, 1], e.g. 0.4,0.6"
    )
    group.add_argument("--fusion", choices=("mean", "max", "min"), help="of rollout: how heads are joined")
    group.add_argument("--discard", type=float, metavar="SHARE", help="of rollout: weakest weights that are dropped")
    group.add_argument(
        "--option", type=named_value, action="append", default=[], metavar="NAME=VALUE", help="any other of the methods"
    )


def method_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of methods that were given, by their names."""
    given = {name: getattr(arguments, name) for name in METHOD_OPTIONS}
    return {name: value for name, value in given.items() if value is not None} | dict(arguments.option)


def out(options: argparse.ArgumentParser, default: str, what: str) -> None:
    """Where results are written."""
    options.add_argument("--out", type=Path, default=Path(default), help=f"{what}; default: %(default)s")


class Listed(argparse.Action):
    """Words apart by spaces or commas, also where the option is given again, as one tuple."""

    def __call__(self, parser: Any, arguments: Any, values: Any, option: str | None = None) -> None:
        before = getattr(arguments, self.dest)
        words = [word for value in values for word in value.split(",") if word]
        models = [word for word in words if word.startswith(SOURCES)]
        if models:
            parser.error(f"{option} takes all words behind it; name {models[0]} and the photographs before it")
        kept = () if before is self.default else before
        setattr(arguments, self.dest, tuple(dict.fromkeys([*kept, *words])))


def size(text: str) -> tuple[int, ...]:
    """ "256" or "256x192", rows before columns."""
    sides = [int(side) for side in text.split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise ValueError(text)
    return (sides[0], sides[-1])


def query(text: str) -> tuple[float, float] | int | str:
    """A point of the image, "class" or the number of a prefix token, or "mean"."""
    if text in ("class", "mean"):
        return 0 if text == "class" else text
    if "," not in text:
        return int(text)
    row, column = (float(part) for part in text.split(","))
    return row, column


def index_or_text(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def named_value(text: str) -> tuple[str, Any]:
    """ "steps=50" as a name and a Python value, or a text where it is none."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(text)
    try:
        return name.replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.replace("-", "_"), value
