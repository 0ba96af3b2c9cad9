"""One picture per model, photograph and method.

examples:
  vizlib explain zoo/vit cat --method rollout
  vizlib explain zoo/seresnet zoo/vit cat coffee --method gradcam rollout --out maps
  vizlib explain zoo/vit cat --target tabby_cat --against persian_cat
  vizlib explain zoo/vit cat --method attention --layer blocks.5.attn --head 2 --query 0.4,0.6 --out head2.png
  vizlib explain zoo/vit cat --method rollout --fusion max --discard 0.9
  vizlib explain zoo/seresnet coffee --method integrated_gradients --option steps=20
  vizlib explain timm/resnet50 holiday.jpg --target "golden retriever" --layer layer3

A method that does not apply to a model is told on stderr, and the other pictures are made; the exit code is then 1.
"""

from __future__ import annotations

import argparse
from itertools import product
from typing import Any

from vizlib.commands import inputs, options, outputs


def add(parser: argparse.ArgumentParser) -> None:
    options.models_and_photos(parser)
    options.question(parser, ("gradcam",))
    parser.add_argument(
        "--against", type=options.index_or_text, metavar="CLASS", help="the map for the target less the map for this"
    )
    parser.add_argument("--layer", help="module path; default: the method's choice")
    options.loading(parser)
    options.out(parser, "out", "a folder, or a picture's name where one is made")


def run(arguments: argparse.Namespace) -> int:
    methods = inputs.methods(arguments)
    names, photos, ways = inputs.asked(arguments)
    out = outputs.place_of_pictures(arguments.out, len(names) * len(photos) * len(methods))
    from vizlib.methods.table import shared_out

    own = shared_out(methods, options.method_options(arguments))
    models = inputs.loaded(names, ways)
    steps, made, told = list(product(models, photos, methods)), 0, set[str]()
    for model, photo, method in outputs.progress(steps, "explain"):
        try:
            heatmap = _asked(models[model], photos[photo], method, own[method], arguments)
        except (ValueError, RuntimeError) as error:
            reason = f"{model}, {method}: {error}"
            if reason not in told:
                outputs.refuse(reason)
            told.add(reason)
            continue
        figure = _drawn(heatmap, models[model], photo, photos[photo], own[method])
        less = "" if arguments.against is None else f"_less_{arguments.against}"
        path = outputs.write(figure, out, f"{photo}_{model}_{method}{less}.png")
        outputs.say(f"{_line(heatmap, models[model], photo, photos[photo])} · {path}")
        made += 1
    return 0 if made == len(steps) else 1 if made else 2


def _asked(clf: Any, photo: Any, method: str, own: dict[str, Any], arguments: argparse.Namespace) -> Any:
    """The heatmap of a method, or of the contrast of two classes."""
    from vizlib.methods.table import contrast, explain

    if arguments.against is None:
        return explain(clf, photo, method, target=arguments.target, layer=arguments.layer, **own).cpu()  # type: ignore[union-attr]
    found = contrast(clf, photo, method, arguments.target, arguments.against, layer=arguments.layer, **own)
    return found.cpu()  # type: ignore[union-attr]


def _drawn(heatmap: Any, clf: Any, name: str, photo: Any, own: dict[str, Any]) -> Any:
    """The figure of a heatmap: signed colours for a contrast, a ring where the query lies."""
    from vizlib.explore.rows import truth
    from vizlib.explore.window import sharp
    from vizlib.show import plot
    from vizlib.show.axes import draw_mark
    from vizlib.show.caption import caption

    note = truth(photo, clf)
    chosen = ", ".join(f"{option} {value}" for option, value in own.items())
    head = " · ".join(part for part in (f"{name} ({note})" if note else name, chosen) if part)
    draw = plot.contrast if "against" in heatmap.notes else plot.overlay
    ax = draw(heatmap, background=sharp(clf, photo), title=f"{head}\n{caption(heatmap)}")
    if isinstance(own.get("query"), tuple):
        draw_mark(ax, own["query"])
    return ax.figure


def _line(heatmap: Any, clf: Any, name: str, photo: Any) -> str:
    from vizlib.explore.rows import OUTSIDE, truth
    from vizlib.show.caption import caption, peak

    known = truth(photo, clf)
    shown = known if known in ("", OUTSIDE) else f"shows: {known}"
    parts = [name, *caption(heatmap).splitlines(), f"strongest at {peak(heatmap)}", shown, heatmap.why]
    return " · ".join(part for part in parts if part)
