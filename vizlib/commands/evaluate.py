"""The accuracy of a model on labelled photographs.

examples:
  vizlib evaluate zoo/vit photos
  vizlib evaluate zoo/vit photos/val --batch 256 --out runs/vit
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vizlib.commands import options
from vizlib.commands.inputs import how, labelled, loaded
from vizlib.show.files import writable


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="zoo/…, timm/…, torchvision/…, hf/… or arch/…")
    parser.add_argument("data", metavar="DATADIR", help="folder with a folder per class, or with train/ and val/")
    parser.add_argument("--batch", type=int, default=64, help="photographs per forward; default: %(default)s")
    parser.add_argument("--out", type=Path, help="keep the predictions in this folder, and go on from them")
    options.loading(parser)


def run(arguments: argparse.Namespace) -> int:
    place, out = labelled(arguments.data), arguments.out and writable(arguments.out)
    clf = loaded([arguments.model], how([arguments.model], arguments))[arguments.model]
    from vizlib.dataset.evaluating import evaluate

    print(evaluate(clf, place, out=out, batch=arguments.batch))
    return 0
