"""Which patches a model that drops some (DynamicViT …) still looks at, stage by stage.

examples:
  vizlib kept zoo/vit cat --share 0.7
  vizlib kept arch/dynamicvit_deit_s_07 coffee --weights random --out kept.png
"""

from __future__ import annotations

import argparse
from itertools import product

from vizlib.commands import inputs, options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    options.models_and_photos(parser)
    parser.add_argument("--share", type=float, help="make a ViT with a class token drop patches: share kept each time")
    options.loading(parser)
    options.out(parser, "out", "a folder, or a picture's name where one is made")


def run(arguments: argparse.Namespace) -> int:
    names, photos, ways = inputs.asked(arguments)
    out = outputs.place_of_pictures(arguments.out, len(names) * len(photos))
    models = inputs.loaded(names, ways)
    from vizlib.capture.trace import trace
    from vizlib.explore.window import sharp
    from vizlib.models.architectures.evit import dropping
    from vizlib.show.kept import kept, stages

    for model, photo in outputs.progress(list(product(models, photos)), "kept"):
        clf = models[model] if arguments.share is None else dropping(models[model], arguments.share)
        found = trace(clf, photos[photo])
        figure = kept(found, background=sharp(clf, photos[photo]))[0].figure
        path = outputs.write(figure, out, f"{photo}_{model}_kept.png")
        counts = ", ".join(str(left.shape[1]) for _, _, left in stages(found))
        outputs.say(f"{clf.name} · {photo} · {counts} patches · {path}")
    return 0
