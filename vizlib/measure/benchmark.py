"""Which method for which architecture: every method on every model, with intervals, in a table that can be resumed.

The table of the zoo, data/faithfulness.csv, which `explain(method="auto")` reads, is made by

    VIZLIB_DATA=FOLDER python -m vizlib.measure.benchmark --photos 200 --out data/faithfulness.csv

which prints it by families, as the README has it.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from vizlib import data
from vizlib.capture.summary import family
from vizlib.measure.faithfulness import METRICS, faithfulness, metric_named
from vizlib.measure.verdict import beats, interval
from vizlib.methods.names import AUTO
from vizlib.methods.table import METHODS, explain, method_named
from vizlib.models import zoo
from vizlib.models.load import load_all
from vizlib.types import Classifier, Heatmap

# One of each idea; those that need hundreds of forwards a photograph can be named.
METHODS_COMPARED = ("gradcam", "gradcam++", "hirescam", "layercam", "eigencam", "saliency", "input_x_gradient",
                    "integrated_gradients", "rollout", "gradient_rollout", "chefer", "attention")  # fmt: skip
DIFFERENCE = "insertion - deletion"  # what the methods are ranked by: both curves, and less of the baseline's share


def benchmark(
    models: Any,
    photos: Any,
    methods: str | Sequence[str] = METHODS_COMPARED,
    *,
    metrics: str | Sequence[str] = ("insertion", "deletion"),
    steps: int = 8,
    cells: int = 8,
    out: str | Path | None = None,
    batch: int = 50,
    seed: int = 0,
) -> pd.DataFrame:
    """Every method on every model by every metric: means over the photographs with their 95 % intervals.

    Args:
        models: names as in `load`, modules or classifiers: one, a list, or a dict of names of your own.
        photos: as for `explain`; the class is always the predicted one.
        methods: rows of METHODS; one that does not apply to a model leaves its reason.
        metrics: rows of METRICS. With insertion and deletion their difference is added, photograph by photograph.
        steps, cells: of the curves; squares, so that methods of every resolution are on a par.
        out: a CSV file that grows model by model and method by method. What is in it already, made of the same
            weights, photographs and settings, is not made again.
        batch: images through the model at once.

    Returns:
        A row per model, method and metric: family, model, method, class_blind, metric, mean, low, high, the means of
        a random map and of a centre Gaussian, whether the method beats them, photos, seconds (of processor time, for
        the maps alone), reason (why there is no score) and key (what it was made of).

    Raises:
        ValueError: an unknown method or metric, one that needs masks, or a photograph that cannot be read.
    """
    methods, metrics = _checked(methods, metrics)
    settings: dict[str, Any] = {"steps": steps, "cells": cells}
    classifiers, table = [replace(clf, name=name) for name, clf in load_all(models).items()], _read(out)
    bar = tqdm(total=len(classifiers) * len(methods), desc="benchmark", disable=None, delay=1, leave=False)
    for clf in classifiers:
        x = clf.prepare(photos)
        key = _key(clf, x, (sorted(metrics), settings, seed))
        references: dict[str, dict] = {}
        for method in methods:
            done = table[(table.model == clf.name) & (table.method == method)]
            if not (done.key == key).any():
                made = _cell(clf, x, method, metrics, settings, {"batch": batch, "seed": seed}, references)
                rows = pd.DataFrame([{**row, "key": key} for row in made])
                table = pd.concat([table.drop(done.index), rows], ignore_index=True) if len(table) else rows
                _write(table, out)
            bar.update()
    bar.close()
    return table


def _checked(methods: str | Sequence[str], metrics: str | Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Before hours of work, not in the middle of them."""
    methods, metrics = ((given,) if isinstance(given, str) else tuple(given) for given in (methods, metrics))
    if AUTO in methods:
        raise ValueError(f"a benchmark names its methods; {AUTO!r} takes one by its result. Take some of vl.METHODS.")
    for method in methods:
        method_named(method)
    for metric in metrics:
        if metric_named(metric).masks:
            raise ValueError(f"{metric} needs to know where the objects lie; here nobody says. Use vl.faithfulness.")
    return methods, metrics


def _cell(
    clf: Classifier,
    x: Tensor,
    method: str,
    metrics: Sequence[str],
    settings: dict[str, Any],
    common: dict[str, int],
    references: dict[str, dict],
) -> Iterator[dict[str, Any]]:
    """The rows of one method on one model. The maps that know nothing are judged once, for all methods."""
    about = {"family": family(clf), "model": clf.name, "method": method, "class_blind": METHODS[method].class_blind}
    start = time.process_time()
    try:
        parts = x.split(common["batch"])
        values = torch.cat([explain(clf, part, method).values for part in parts])  # type: ignore[union-attr]
        spent = {"photos": len(x), "seconds": round(time.process_time() - start, 2)}
    except (ValueError, RuntimeError) as error:
        yield about | {"metric": "", "photos": len(x), "reason": str(error)}
        return
    heat, found = Heatmap(values, clf.picture(x), method, clf.name), {}
    for metric in metrics:
        own = {name: value for name, value in settings.items() if name in METRICS[metric].options}
        known = references.get(metric)
        found[metric] = faithfulness(clf, x, heat, metric, draws=1, references=known, **common, **own)
        references.setdefault(metric, found[metric].references)
    scores = {m: (f.value, {n: r.value for n, r in f.references.items()}, f.higher_is_better) for m, f in found.items()}
    if {"insertion", "deletion"} <= set(scores):
        up, down = scores["insertion"], scores["deletion"]
        scores[DIFFERENCE] = (up[0] - down[0], {name: up[1][name] - down[1][name] for name in up[1]}, True)
    for metric, (value, others, higher) in scores.items():
        yield about | {"metric": metric} | _numbers(value, others, higher) | spent


def _numbers(value: Tensor, others: dict[str, Tensor], higher: bool) -> dict[str, Any]:
    low, high = interval(value)
    numbers = {"mean": float(value.mean()), "low": low, "high": high}
    means = {name: float(other.mean()) for name, other in others.items()}
    won = {f"beats_{name}": beats(value, other[None], higher) for name, other in others.items()}
    return {name: round(number, 4) for name, number in (numbers | means).items()} | won


def _key(clf: Classifier, x: Tensor, settings: Any) -> str:
    """What a cell was made of: weights, photographs and settings, in ten digits."""
    digest = hashlib.sha256(repr(settings).encode())
    for tensor in (*clf.module.state_dict().values(), x):
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:10]


def _read(out: str | Path | None) -> pd.DataFrame:
    if out is not None and Path(out).is_file():
        return pd.read_csv(out, dtype={"key": str}, keep_default_na=True).fillna({"metric": "", "reason": ""})
    return pd.DataFrame(columns=["model", "method", "key"])


def _write(table: pd.DataFrame, out: str | Path | None) -> None:
    """The whole table again, in one move: a run that is killed leaves the last whole one."""
    if out is None:
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    filling = path.with_suffix(".filling")
    table.to_csv(filling, index=False)
    filling.replace(path)


def by_family(table: pd.DataFrame, metric: str = DIFFERENCE) -> str:
    """A metric of every method in Markdown, the best first: means over the members of a family, of means and intervals.

    Args:
        table: of `benchmark`.
    """
    rows = table[table.metric == metric]
    columns = {_counted(name, own.model.nunique()): own for name, own in rows.groupby("family")}
    lines = [[metric, *columns], ["---"] * (1 + len(columns))]
    for method, own in sorted(rows.groupby("method"), key=lambda each: -each[1]["mean"].mean()):
        blind = ", class-blind" if own.class_blind.any() else ""
        lines.append([method + blind, *(_spread(each[each.method == method]) for each in columns.values())])
    for words, name in (("a random map", "random"), ("a Gaussian in the centre", "centre")):
        lines.append([words, *(f"{each[name].mean():.2f}" for each in columns.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counted(family: str, models: int) -> str:
    return f"{family}, {models} model{'s' if models > 1 else ''}"


def _spread(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    mean, low, high = rows[["mean", "low", "high"]].mean()
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def validation_photos(count: int) -> list[Path]:
    """The first photographs of every class of the photo set's validation part, `count` in all.

    Raises:
        ValueError: the photo set is not where VIZLIB_DATA says.
    """
    classes = sorted(folder for folder in (data.tiny_imagenet20() / "val").iterdir() if folder.is_dir())
    each = -(-count // len(classes))
    ordered = [sorted(folder.iterdir())[:each] for folder in classes]
    return [photo for turn in zip(*ordered, strict=False) for photo in turn][:count]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="default: every trained member of the zoo")
    parser.add_argument("--photos", type=int, default=200, help="of the validation part; default: %(default)s")
    parser.add_argument("--methods", default=",".join(METHODS_COMPARED), metavar="NAME[,NAME…]")
    parser.add_argument("--out", type=Path, default=Path("out/faithfulness.csv"), help="default: %(default)s")
    chosen = parser.parse_args(argv)
    models = chosen.models or [f"zoo/{name}" for name in zoo.trained()]
    photos = [str(path) for path in validation_photos(chosen.photos)]
    print(by_family(benchmark(models, photos, chosen.methods.split(","), out=chosen.out)))


if __name__ == "__main__":
    main()
