"""The most accurate classifiers within limits.

examples:
  vizlib choose --gmacs 5 --params 30e6
  vizlib choose --accuracy 0.82 --first params
  vizlib choose --gmacs 2 --latency-ms 100
"""

from __future__ import annotations

import argparse

LIMITS = {
    "accuracy": "least top-1 accuracy, in [0, 1]",
    "gmacs": "most multiply-accumulates of one image, in 10⁹",
    "params": "most parameters, e.g. 25e6",
    "memory-mb": "most memory of one forward, in 10⁶ bytes",
    "latency-ms": "most milliseconds for one image, measured on this machine",
    "resolution": "least side in pixels at which the photograph must be seen",
}


def add(parser: argparse.ArgumentParser) -> None:
    for name, text in LIMITS.items():
        parser.add_argument(f"--{name}", type=float, help=text)
    parser.add_argument("--alone", action="store_true", help="only those trained on ImageNet-1k alone")
    parser.add_argument("--first", help="order: accuracy, gmacs, params, memory-mb or latency-ms")


def run(arguments: argparse.Namespace) -> int:
    from vizlib.measure.choose import choose

    limits = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in LIMITS}
    first = arguments.first and arguments.first.replace("-", "_")
    print(choose(**limits, more_data=not arguments.alone, first=first))
    return 0
