"""What a model is made of and which methods apply to it.

examples:
  vizlib summary zoo/hybrid
  vizlib summary timm/swin_tiny_patch4_window7_224 --random
  vizlib summary --all --only Performer
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vizlib.commands import options
from vizlib.commands.inputs import how, loaded
from vizlib.show.files import writable


def add(parser: argparse.ArgumentParser) -> None:
    options.models(parser, "*")
    parser.add_argument("--all", action="store_true", help="every architecture of data/architectures.csv, in a table")
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="with --all: these models or families")
    parser.add_argument("--out", type=Path, help="with --all: a Markdown file whose table is brought up to date")
    options.loading(parser, dtype=False)


def run(arguments: argparse.Namespace) -> int:
    if arguments.all == bool(arguments.models):
        found = " ".join(arguments.models) or "none"
        raise ValueError(f"models are needed, or else --all; got {found}. See vizlib summary --help.")
    if arguments.out:
        writable(arguments.out, (".md",))
    if arguments.all:
        from vizlib.explore.catalogue import check

        return 1 if check(arguments.only, arguments.out) else 0
    ways = how(arguments.models, arguments)
    from vizlib.explore.summary import summary

    for clf in loaded(arguments.models, ways).values():
        print(summary(clf), end="\n\n")
    return 0
