"""The command line: vizlib summary | explain | compare | gates | kept | cost | evaluate | debug | zoo | train | demo.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

SOURCES = ("zoo/", "timm/", "torchvision/", "hf/", "arch/")
DEMO_PHOTOS = ("cat", "coffee", "rocket", "astronaut")
DEMO_METHODS = ("gradcam", "rollout", "chefer")
LIMITS = {
    "accuracy": "least top-1 accuracy, in [0, 1]",
    "gmacs": "most multiply-accumulates of one image, in 10⁹",
    "params": "most parameters, e.g. 25e6",
    "memory-mb": "most memory of one forward, in 10⁶ bytes",
    "latency-ms": "most milliseconds for one image, measured on this machine",
    "resolution": "least side in pixels at which the photograph must be seen",
}
EXAMPLES = """examples:
  vizlib summary zoo/hybrid
  vizlib summary --all --only ViT DeiT
  vizlib explain zoo/vit cat --method rollout
  vizlib explain timm/resnet50 holiday.jpg --method gradcam --target "golden retriever" --layer layer3
  vizlib compare zoo/seresnet zoo/vit zoo/hybrid cat coffee --method gradcam,rollout --out compare.html
  vizlib gates zoo/seresnet cat
  vizlib kept zoo/vit cat --share 0.7
  vizlib cost zoo/vit timm/vit_small_patch16_224
  vizlib tradeoff --out tradeoff.html
  vizlib tradeoff zoo --out zoo.png
  vizlib choose --gmacs 5 --params 30e6
  vizlib evaluate zoo/vit photos/val
  vizlib debug zoo/seresnet zoo/vit photos/val --out report.html
  vizlib zoo list

A MODEL begins with zoo/, timm/, torchvision/, hf/ or arch/, or is a Hugging Face folder. A PHOTO is a
file or the name of a sample photograph: cat, coffee, rocket, astronaut, motorcycle, clock …
"""


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. Try {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    described = {
        "prog": "vizlib",
        "description": "See what an image classifier looks at.",
        "epilog": EXAMPLES,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    main = Parser(**described)  # type: ignore[arg-type]
    main.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = main.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    summary = command("summary", _summary, "what a model is made of and which methods apply to it")
    explain = command("explain", _explain, "one picture per model, photograph and method")
    compare = command("compare", _compare, "models × methods in one interactive HTML file or picture")
    gates = command("gates", _gates, "what the gates of a model (SE, ECA, CBAM …) let through")
    kept = command("kept", _kept, "which patches a model that drops some (DynamicViT …) still looks at, stage by stage")
    cost = command("cost", _cost, "parameters, GMACs, latency and memory")
    tradeoff = command("tradeoff", _tradeoff, "accuracy against cost: one interactive HTML file or a picture")
    choose = command("choose", _choose, "the most accurate classifiers within limits")
    evaluate = command("evaluate", _evaluate, "the accuracy of a model on labelled photographs")
    debug = command("debug", _debug, "where and why models are wrong on labelled photographs: one HTML file")
    zoo = command("zoo", _zoo, "the small trained classifiers that come with vizlib")
    demo = command("demo", _demo, "what the zoo looks at in sample photographs: out/compare.html and PNGs")

    for each in (explain, compare, gates, kept):
        each.add_argument("what", nargs="+", metavar="MODEL… PHOTO…", help="models, then photographs")
    for each, count in ((summary, "*"), (cost, "+")):
        each.add_argument("models", nargs=count, metavar="MODEL", help="zoo/…, timm/…, torchvision/… or hf/…")
    summary.add_argument("--all", action="store_true", help="every architecture of data/architectures.csv, in a table")
    summary.add_argument("--only", nargs="+", default=(), metavar="NAME", help="with --all: these models or families")
    summary.add_argument("--out", type=Path, help="with --all: a Markdown file whose table is brought up to date")
    for each in (explain, compare, gates, kept, cost, summary):
        each.add_argument("--random", action="store_true", help="random weights; no download")
        each.add_argument("--device", help="cuda, mps or cpu; by default the best there is")
    for each, methods in ((explain, "gradcam"), (compare, "gradcam,rollout")):
        each.add_argument("--method", default=methods, metavar="NAME[,NAME…]", help="default: %(default)s")
        each.add_argument("--target", help="class by label or index; default: the predicted one")
    explain.add_argument("--layer", help="module path; default: the method's choice")
    kept.add_argument("--share", type=float, help="make a ViT with a class token drop patches: share kept each time")
    kept.add_argument("--weights", type=Path, help="a file of weights, e.g. the authors'")
    for each, out in ((explain, "out"), (gates, "out"), (kept, "out"), (compare, "out/compare.html"), (demo, "out")):
        each.add_argument("--out", type=Path, default=Path(out), help="default: %(default)s")
    models = "published, zoo, or names to measure now; default: published and zoo"
    tradeoff.add_argument("models", nargs="*", metavar="MODEL", help=models)
    tradeoff.add_argument("--cost", default="gmacs", help="gmacs, params, memory_mb or latency_ms; default: gmacs")
    tradeoff.add_argument("--out", type=Path, default=Path("out/tradeoff.html"), help="default: %(default)s")
    for name, text in LIMITS.items():
        choose.add_argument(f"--{name}", type=float, help=text)
    choose.add_argument("--alone", action="store_true", help="only those trained on ImageNet-1k alone")
    choose.add_argument("--first", help="order: accuracy, gmacs, params, memory-mb or latency-ms")
    cost.add_argument("--batch", type=int, default=1, help="photographs per forward; default: 1")
    evaluate.add_argument("model", metavar="MODEL", help="zoo/…, timm/…, torchvision/…, hf/… or arch/…")
    evaluate.add_argument("data", metavar="DATADIR", help="folder with a folder per class, or with train/ and val/")
    evaluate.add_argument("--weights", type=Path, help="a file of weights; default: the published ones")
    evaluate.add_argument("--batch", type=int, default=64, help="photographs per forward; default: %(default)s")
    evaluate.add_argument("--device", help="cuda, mps or cpu; by default the best there is")
    evaluate.add_argument("--out", type=Path, help="keep the predictions in this folder, and go on from them")
    debug.add_argument("what", nargs="+", metavar="MODEL… DATADIR", help="models, then labelled photographs")
    debug.add_argument("--method", default="gradcam", help="of the maps; default: %(default)s")
    debug.add_argument("--boxes", type=Path, help="where the objects are; default: boxes.csv of the photo set")
    debug.add_argument("--most", type=int, default=200, help="photographs with maps in the file; default: %(default)s")
    debug.add_argument("--results", type=Path, default=Path("out/debug"), help="kept here; default: %(default)s")
    debug.add_argument("--random", action="store_true", help="random weights; no download")
    debug.add_argument("--device", help="cuda, mps or cpu; by default the best there is")
    debug.add_argument("--out", type=Path, default=Path("out/debug.html"), help="default: %(default)s")
    zoo.add_argument("action", choices=("list", "show"), help="all members in a table, or the card of some")
    zoo.add_argument("models", nargs="*", metavar="NAME", help="members to show")
    commands.add_parser("train", add_help=False, help="train a member of the zoo on a folder of photographs")
    return main


def main(argv: list[str] | None = None) -> int:
    """Runs a command. Returns 0; 1 where a check failed; 2 after a mistake that was told in one line on stderr."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["train"]:
        from vizlib.models import train

        train.main(argv[1:])
        return 0
    arguments = parser().parse_args(argv)
    try:
        failures = arguments.run(arguments)
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        if arguments.traceback:
            raise
        print(f"vizlib: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 1 if failures else 0


def _summary(arguments: argparse.Namespace) -> int:
    from vizlib.explore.catalogue import check
    from vizlib.explore.summary import summary

    if arguments.all == bool(arguments.models):
        raise ValueError(f"models are needed, or else --all; got {arguments.models}. See vizlib summary --help.")
    if arguments.all:
        return check(arguments.only, arguments.out)
    for clf in _loaded(arguments.models, arguments).values():
        print(summary(clf), end="\n\n")
    return 0


def _explain(arguments: argparse.Namespace) -> None:
    from vizlib.explore.rows import truth
    from vizlib.explore.window import sharp
    from vizlib.methods.table import explain, method_named
    from vizlib.show.caption import caption, peak
    from vizlib.show.plot import overlay

    methods = arguments.method.split(",")
    for method in methods:
        method_named(method)
    models, photos = _models_and_photos(arguments)
    steps = [(m, p, method) for m in models for p in photos for method in methods]
    for model, name, method in _progress(steps, "explain"):
        clf, photo = models[model], photos[name]
        found = explain(clf, photo, method, target=_target(arguments), layer=arguments.layer)
        heatmap = found.cpu()  # type: ignore[union-attr]
        note = truth(photo, clf)
        title = f"{name}{f' ({note})' if note else ''} · {caption(heatmap)}"
        ax = overlay(heatmap, background=sharp(clf, photo), title=title)
        path = _write(ax.figure, arguments.out, f"{name}_{model}_{method}.png", len(steps) == 1)
        about = " · ".join(caption(heatmap).splitlines())
        print(f"{name} · {about} · strongest at {peak(heatmap)} · {path}")


def _compare(arguments: argparse.Namespace) -> None:
    from vizlib.explore.compare import compare

    models, photos = _models_and_photos(arguments)
    methods = arguments.method.split(",")
    found = compare(models, photos, methods, target=_target(arguments))
    print(found, end="\n\n")
    print(found.save(arguments.out))


def _gates(arguments: argparse.Namespace) -> None:
    from vizlib.capture.trace import trace
    from vizlib.show.plot import gates

    models, photos = _models_and_photos(arguments)
    steps = [(model, photo) for model in models for photo in photos]
    for model, photo in _progress(steps, "gates"):
        run = trace(models[model], photos[photo])
        figure = gates(run)[0].figure
        path = _write(figure, arguments.out, f"{photo}_{model}_gates.png", len(steps) == 1)
        print(f"{model} · {photo} · {path}")
        for gate in run.gates.values():
            mean, low, high = (float(of()) for of in (gate.values.mean, gate.values.min, gate.values.max))
            print(f"  {gate.name:30} {gate.kind:8} mean {mean:.3f}, {low:.3f} to {high:.3f}")


def _kept(arguments: argparse.Namespace) -> None:
    from dataclasses import replace

    from vizlib.capture.trace import trace
    from vizlib.explore.window import sharp
    from vizlib.models.architectures.evit import dropping
    from vizlib.show.kept import stages
    from vizlib.show.plot import kept

    models, photos = _models_and_photos(arguments)
    steps = [(model, photo) for model in models for photo in photos]
    for model, photo in _progress(steps, "kept"):
        clf = models[model] if arguments.share is None else dropping(models[model], arguments.share)
        clf = replace(clf, name=f"{clf.name}, random weights") if arguments.random else clf
        run = trace(clf, photos[photo])
        figure = kept(run, background=sharp(clf, photos[photo]))[0].figure
        path = _write(figure, arguments.out, f"{photo}_{model}_kept.png", len(steps) == 1)
        print(f"{clf.name} · {photo} · {', '.join(str(left.shape[1]) for _, _, left in stages(run))} patches · {path}")


def _cost(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from vizlib.measure.cost import cost

    lines = []
    for name, clf in _progress(list(_loaded(arguments.models, arguments).items()), "cost"):
        found = cost(clf, batch=arguments.batch)
        lines.append(
            {
                "model": name,
                "parameters": f"{found.params:,}",
                "GMACs": f"{found.gmacs:.3f}",
                "attention": f"{found.attention_share:.1%}",
                "latency ms (p10, median, p90)": ", ".join(f"{t:.1f}" for t in found.latency_ms),
                "images/s": f"{found.images_per_s:.1f}",
                "peak MB": f"{found.peak_mb:.1f}",
                "kept for backward MB": f"{found.activation_mb:.1f}",
                "device": found.device,
            }
        )
    print(pd.DataFrame(lines).to_string(index=False))


def _tradeoff(arguments: argparse.Namespace) -> None:
    from vizlib.explore.tradeoff import tradeoff

    alone = arguments.models in (["zoo"], ["published"])
    models = arguments.models[0] if alone else arguments.models or None
    found = tradeoff(models, cost=arguments.cost)
    best = found.front[["model", "family", "accuracy", arguments.cost]]
    print("No other is as accurate and as cheap:", best.to_string(index=False), sep="\n", end="\n\n")
    print(found.save(arguments.out))


def _choose(arguments: argparse.Namespace) -> None:
    from vizlib.measure.choose import choose

    limits = {name.replace("-", "_"): getattr(arguments, name.replace("-", "_")) for name in LIMITS}
    first = arguments.first and arguments.first.replace("-", "_")
    print(choose(**limits, more_data=not arguments.alone, first=first))


def _evaluate(arguments: argparse.Namespace) -> None:
    from vizlib.dataset.evaluating import evaluate
    from vizlib.models.load import load

    clf = load(arguments.model, weights=arguments.weights, device=arguments.device)
    print(evaluate(clf, arguments.data, out=arguments.out, batch=arguments.batch))


def _debug(arguments: argparse.Namespace) -> None:
    from vizlib.explore.debugger import debug

    *models, photos = arguments.what
    if not models:
        raise ValueError(f"at least one model and the photographs are needed; got {photos}. See --help.")
    if arguments.out.suffix != ".html":
        raise ValueError(f"--out needs a name that ends in .html; got {arguments.out}. Add it.")
    options = {"out": arguments.results, "method": arguments.method, "boxes": arguments.boxes}
    found = debug(_loaded(models, arguments), photos, **options)
    print(found.found, end="\n\n")
    for path, why in found.unreadable.items():
        print(f"not read: {path}: {why}", file=sys.stderr)
    print(found.save(arguments.out, most=arguments.most))


def _zoo(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from vizlib.models import zoo

    names = arguments.models or zoo.trained()
    if not names:
        raise RuntimeError("a trained member of the zoo is needed; there is none. See: vizlib train --help")
    cards = [zoo.card(name) for name in names]
    if arguments.action == "show":
        print("\n\n".join(map(str, cards)))
        return
    lines = [
        {
            "name": f"zoo/{card.name}",
            "family": card.family,
            "parameters": f"{card.parameters:,}",
            "GMACs": f"{card.gmacs:.3f}",
            "top-1": f"{card.top1:.1%}",
            "95 % interval": "{:.1f} – {:.1f}".format(*(100 * end for end in card.top1_interval)),
            "top-5": f"{card.top5:.1%}",
            "calibration error": f"{card.ece:.1%}",
        }
        for card in cards
    ]
    print(pd.DataFrame(lines).to_string(index=False))
    untrained = [name for name in zoo.names() if name not in zoo.trained()]
    if untrained:
        print(f"not trained yet: {', '.join(untrained)}")


def _demo(arguments: argparse.Namespace) -> None:
    from vizlib.explore.compare import compare
    from vizlib.models import zoo

    models = [f"zoo/{name}" for name in zoo.trained()]
    found = compare(models, list(DEMO_PHOTOS), DEMO_METHODS)
    print(found, end="\n\n")
    print(found.save(arguments.out / "compare.html"))
    for photo in DEMO_PHOTOS:
        path = arguments.out / f"{photo}.png"
        found.figure(photo).savefig(path, dpi=120)
        print(path)


def _loaded(names: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    from vizlib.models.load import load

    options = {"device": arguments.device} | ({"pretrained": False} if arguments.random else {})
    if arguments.random:
        import torch

        torch.manual_seed(0)  # the same weights every time
    if getattr(arguments, "weights", None):
        options["weights"] = arguments.weights
    return {name: load(name, **options) for name in names}


def _models_and_photos(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two kinds of arguments told apart; photographs are read before the models, which takes longer."""
    from vizlib.explore.rows import named_photos

    names = [name for name in arguments.what if name.startswith(SOURCES) or Path(name).is_dir()]
    photos = [name for name in arguments.what if name not in names]
    if not names or not photos:
        missing = "photograph" if names else "model (zoo/…, timm/…, torchvision/… or hf/…)"
        raise ValueError(f"at least one {missing} is needed; got {arguments.what}. See --help.")
    opened = named_photos(photos)
    return _loaded(names, arguments), opened


def _target(arguments: argparse.Namespace) -> int | str | None:
    given = arguments.target
    return int(given) if given is not None and given.isdigit() else given


def _progress(steps: list[Any], what: str) -> Iterator[Any]:
    """A bar on a terminal, after a second of work."""
    from tqdm import tqdm

    return iter(tqdm(steps, desc=what, disable=None, delay=1, leave=False))


def _write(figure: Any, out: Path, name: str, alone: bool) -> Path:
    """Saves and closes a figure: as `out` if that names a picture and this is the only one, else in it."""
    import matplotlib.pyplot as plt

    if out.suffix and not alone:
        raise ValueError(f"several pictures need a folder; got --out {out}. Name a folder.")
    path = out if out.suffix else out / name.replace("/", "_")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


if __name__ == "__main__":
    sys.exit(main())
