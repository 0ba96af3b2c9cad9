"""What the gates of a model (SE, ECA, CBAM …) let through.

examples:
  vizlib gates zoo/seresnet cat
  vizlib gates zoo/seresnet cat coffee --out gates
  vizlib gates arch/resnet18_cbam cat --weights random --out gates.png
"""

from __future__ import annotations

import argparse
from itertools import product

from vizlib.commands import inputs, options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    options.models_and_photos(parser)
    options.loading(parser)
    options.out(parser, "out", "a folder, or a picture's name where one is made")


def run(arguments: argparse.Namespace) -> int:
    names, photos, ways = inputs.asked(arguments)
    out = outputs.place_of_pictures(arguments.out, len(names) * len(photos))
    models = inputs.loaded(names, ways)
    from vizlib.capture.trace import trace
    from vizlib.show.plot import gates

    for model, photo in outputs.progress(list(product(models, photos)), "gates"):
        found = trace(models[model], photos[photo])
        figure = gates(found)[0].figure
        figure.suptitle(f"{photo} · {model} · gates", fontsize=10)
        path = outputs.write(figure, out, f"{photo}_{model}_gates.png")
        outputs.say(f"{model} · {photo} · {path}")
        for gate in found.gates.values():
            mean, low, high = (float(of()) for of in (gate.values.mean, gate.values.min, gate.values.max))
            outputs.say(f"  {gate.name:30} {gate.kind:8} mean {mean:.3f}, {low:.3f} to {high:.3f}")
    return 0
