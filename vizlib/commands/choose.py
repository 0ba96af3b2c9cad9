"""The most accurate classifiers within limits.

examples:
  vizlib choose --gmacs 5 --params 30M
  vizlib choose --accuracy 0.82 --first params
  vizlib choose --device phone --photographs 3000
  vizlib choose --gmacs 2 --latency-ms 100
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

SIZES = {"k": 1e3, "M": 1e6, "G": 1e9}


def counted(text: str) -> float:
    """A count that may end in k, M or G: 25M, 25e6."""
    size = SIZES.get(text[-1:], 1)
    try:
        return float(text if size == 1 else text[:-1]) * size
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is needed, like 25M or 25e6; got {text!r}") from None


def measured(unit: str) -> Callable[[str], float]:
    """A number in a unit that the name does not tell."""

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"a number in {unit} is needed; got {text!r}") from None

    return number


LIMITS = {
    "photographs": (counted, "labelled photographs of your own to fine-tune on, e.g. 3000 or 50k"),
    "accuracy": (measured("[0, 1]"), "least top-1 accuracy, in [0, 1]"),
    "gmacs": (measured("10⁹ multiply-accumulates"), "most multiply-accumulates of one image, in 10⁹"),
    "params": (counted, "most parameters, e.g. 25M or 25e6"),
    "memory-mb": (measured("10⁶ bytes"), "most memory of one forward, in 10⁶ bytes"),
    "latency-ms": (
        measured("milliseconds"),
        "most milliseconds for one image, measured on this machine in half a minute",
    ),
    "resolution": (measured("pixels"), "least side in pixels at which the photograph must be seen"),
}


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="where it will run, if not here: phone or server")
    for name, (kind, text) in LIMITS.items():
        parser.add_argument(f"--{name}", type=kind, metavar="NUMBER", help=text)
    parser.add_argument("--alone", action="store_true", help="only those trained on ImageNet-1k alone")
    parser.add_argument("--first", help="order: accuracy, gmacs, params, memory-mb or latency-ms")


def run(arguments: argparse.Namespace) -> int:
    from vizlib.measure.choose import choose

    limits = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in LIMITS}
    first = arguments.first and arguments.first.replace("-", "_")
    print(choose(**limits, device=arguments.device, more_data=not arguments.alone, first=first))
    return 0
