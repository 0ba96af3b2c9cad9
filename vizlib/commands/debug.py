"""Where and why models are wrong on labelled photographs: one HTML file.

examples:
  vizlib debug zoo/seresnet zoo/vit photos --out report.html
  vizlib debug zoo/vit photos/val --method chefer --boxes photos/boxes.csv --most 50
  vizlib debug timm/resnet50.a1_in1k photos/val --near photos/train --label cat=tabby --label hound=159
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vizlib.commands import options
from vizlib.commands.inputs import how, labelled, loaded
from vizlib.methods.names import must_be_known
from vizlib.show.files import writable


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="+", metavar="MODEL… DATADIR", help="models, then labelled photographs")
    parser.add_argument("--method", default="gradcam", help="of the maps; default: %(default)s")
    parser.add_argument("--boxes", type=Path, help="where the objects are; default: boxes.csv of the photo set")
    parser.add_argument("--near", metavar="DATADIR", help="find the nearest photographs here, e.g. in the training")
    parser.add_argument(
        "--label", type=renamed, action="append", default=[], metavar="NAME=CLASS",
        help="the model's label or class index for a name in the data; again for each name",
    )  # fmt: skip
    parser.add_argument("--most", type=int, default=200, help="photographs with maps in the file; default: %(default)s")
    parser.add_argument("--batch", type=int, default=64, help="photographs per forward; default: %(default)s")
    parser.add_argument("--results", type=Path, default=Path("out/debug"), help="kept here; default: %(default)s")
    options.loading(parser)
    options.out(parser, "out/debug.html", "ends in .html")


def run(arguments: argparse.Namespace) -> int:
    *models, photos = arguments.what
    if not models:
        raise ValueError(f"at least one model and the photographs are needed; got {photos}. See --help.")
    must_be_known(arguments.method)
    place, near = labelled(photos), arguments.near and labelled(arguments.near)
    out, results = writable(arguments.out, (".html",)), writable(arguments.results)
    classifiers = loaded(models, how(models, arguments))
    from vizlib.explore.debugger import debug

    asked = {"method": arguments.method, "boxes": arguments.boxes, "batch": arguments.batch}
    found = debug(classifiers, place, out=results, near=near, labels=dict(arguments.label), **asked)
    print(found.found, end="\n\n")
    for path, why in found.unreadable.items():
        print(f"not read: {path}: {why}", file=sys.stderr)
    print(found.save(out, most=arguments.most))
    return 0


def renamed(text: str) -> tuple[str, int | str]:
    """ "cat=tabby" or "cat=281": a name in the data and what the model calls it."""
    name, _, label = text.partition("=")
    if not name or not label:
        raise ValueError(text)
    return name, options.index_or_text(label)
