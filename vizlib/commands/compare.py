"""Models x methods in one interactive HTML file or picture.

examples:
  vizlib compare zoo/seresnet zoo/vit zoo/hybrid cat coffee --method gradcam rollout --out compare.html
  vizlib compare zoo/vit zoo/deit cat --method rollout chefer --discard 0.9 --out compare.png
  vizlib compare zoo/seresnet zoo/vit coffee --method gradcam --trust --out trust.png
"""

from __future__ import annotations

import argparse

from vizlib.commands import inputs, options
from vizlib.show.files import SHEETS, writable


def add(parser: argparse.ArgumentParser) -> None:
    options.models_and_photos(parser)
    options.question(parser, ("gradcam", "rollout"))
    cost = "20 images through the model a map, and 360 for each photograph, model and size of map"
    parser.add_argument("--trust", action="store_true", help=f"judge each map beside 19 random ones: {cost}")
    options.loading(parser)
    options.out(parser, "out/compare.html", "ends in .html, .png, .pdf, .svg, or .csv for the table alone")


def run(arguments: argparse.Namespace) -> int:
    methods, out = inputs.methods(arguments), writable(arguments.out, SHEETS)
    names, photos, ways = inputs.asked(arguments)
    models = inputs.loaded(names, ways)
    from vizlib.explore.compare import compare

    asked = {"target": arguments.target, "trust": arguments.trust} | options.method_options(arguments)
    found = compare(list(models.values()), photos, methods, **asked)
    print(found, end="\n\n")
    print(found.save(out))
    return 0
