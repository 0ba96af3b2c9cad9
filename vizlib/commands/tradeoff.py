"""Accuracy against cost: one interactive HTML file or a picture.

examples:
  vizlib tradeoff --out tradeoff.html
  vizlib tradeoff zoo --out zoo.png
  vizlib tradeoff zoo/vit zoo/seresnet zoo/hybrid --cost latency_ms --out latency.png
"""

from __future__ import annotations

import argparse

from vizlib.commands import options
from vizlib.show.files import SHEETS, writable


def add(parser: argparse.ArgumentParser) -> None:
    models = "published, zoo, or names to measure now; default: published and zoo"
    parser.add_argument("models", nargs="*", metavar="MODEL", help=models)
    parser.add_argument("--cost", default="gmacs", help="gmacs, params, memory_mb or latency_ms; default: gmacs")
    options.out(parser, "out/tradeoff.html", "ends in .html, .png, .pdf, .svg, or .csv for the table alone")


def run(arguments: argparse.Namespace) -> int:
    out = writable(arguments.out, SHEETS)
    from vizlib.explore.tradeoff import tradeoff

    alone = arguments.models in (["zoo"], ["published"])
    found = tradeoff(arguments.models[0] if alone else arguments.models or None, cost=arguments.cost)
    best = found.front[["model", "family", "accuracy", arguments.cost]]
    print("No other is as accurate and as cheap:", best.to_string(index=False), sep="\n", end="\n\n")
    print(found.save(out))
    return 0
