"""What the zoo looks at in sample photographs: compare.html and pictures.

examples:
  vizlib demo
  vizlib demo --out demo
"""

from __future__ import annotations

import argparse

from vizlib.commands import options
from vizlib.show.files import writable

PHOTOS = ("coffee", "cat", "rocket", "astronaut")
METHODS = ("gradcam", "rollout", "chefer")


def add(parser: argparse.ArgumentParser) -> None:
    options.out(parser, "out", "a folder")


def run(arguments: argparse.Namespace) -> int:
    out = writable(arguments.out)
    from vizlib.explore.compare import compare
    from vizlib.models import zoo

    found = compare([f"zoo/{name}" for name in zoo.trained()], list(PHOTOS), METHODS)
    print(found, end="\n\n")
    print(found.save(out / "compare.html"))
    for photo in PHOTOS:
        path = out / f"{photo}.png"
        found.figure(photo).savefig(path, dpi=120)
        print(path)
    return 0
