"""What compression (INT8, pruning, fewer heads or tokens) costs, and how far it moves the maps.

examples:
  vizlib compress zoo/vit --way "60 % of weights pruned" "70 % of tokens kept, EViT trained" --out compressed.png
  vizlib compress zoo/seresnet --data photos --out compressed.csv

The figure has the maps of each method, as it is and after each way, with how far they moved.
Without --data, agreement with the model as it is takes the place of accuracy. An unknown way is
answered with the names of all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vizlib.commands import options
from vizlib.commands.inputs import how, labelled, loaded
from vizlib.show.files import PICTURES, writable


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="zoo/…, timm/…, torchvision/…, hf/… or arch/…")
    parser.add_argument("--way", nargs="+", metavar="NAME", help="how to compress; default: all")
    parser.add_argument("--data", metavar="DATADIR", help="labelled photographs to measure the accuracy on")
    parser.add_argument("--most", type=int, default=1000, help="photographs of these; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=20, help="of the latency; default: %(default)s")
    parser.add_argument("--photo", help="the sample whose maps are drawn; default: one that the model is right about")
    parser.add_argument("--out", type=Path, help="the maps as .png, .pdf or .svg, or the table as .csv; default: none")
    options.loading(parser, dtype=False)


def run(arguments: argparse.Namespace) -> int:
    from vizlib import data

    out = arguments.out and writable(arguments.out, (*PICTURES, ".csv"))
    place = arguments.data and labelled(arguments.data)
    drawn = arguments.photo and data.photo(arguments.photo)
    from vizlib.explore.compression import MEASURED, WAYS, compressed

    clf = loaded([arguments.model], how([arguments.model], arguments))[arguments.model]
    asked = {"ways": arguments.way or tuple(WAYS), "rounds": arguments.rounds, "most": arguments.most}
    others = [data.photo(name) for name in MEASURED if name != arguments.photo]
    found = compressed(clf, place, photos=drawn and [drawn, *others], **asked)
    print(found)
    if out:
        print("", found.save(out), sep="\n")
    return 0
