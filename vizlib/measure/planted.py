"""Planted truth: pictures in which it is known what decides, so that a map can be right or wrong.

Every picture is rendered twice, with what decides and, the same to the bit but for it, without. What decides is the
object in one task and a small mark in the other, while the thing that does not decide comes and goes by chance: a map
that always lies on the object is right in one of the two alone.

The table of the networks of `fit`, data/planted.csv, is made by

    python -m vizlib.measure.planted --out data/planted.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vizlib.capture.summary import family
from vizlib.measure.benchmark import METHODS_COMPARED
from vizlib.measure.evaluation import Evaluation
from vizlib.measure.faithfulness import centre
from vizlib.measure.localisation import energy_in_box, pointing_game
from vizlib.measure.verdict import interval
from vizlib.methods.table import METHODS, explain, method_named
from vizlib.models.fit import NETWORKS, fit
from vizlib.models.load import load_all
from vizlib.shortcuts import shortcuts
from vizlib.types import Classifier

Decides = Literal["mark", "object"]
CLASSES: dict[Decides, tuple[str, str]] = {"mark": ("no mark", "mark"), "object": ("no object", "object")}


def planted_classifier(
    network: Any = "cnn",
    *,
    decides: Decides = "mark",
    n: int = 400,
    epochs: int = 8,
    seed: int = 0,
    shuffled: bool = False,
) -> Classifier:
    """A classifier that tells pictures with a mark, or with an object, from the same pictures without.

    Args:
        network: as in `fit`; "cnn", "vit" or "hybrid".
        decides: "mark", a sticker anywhere in the picture, or "object".
        n: rendered pictures to train on, each with and without what decides.
        shuffled: train on shuffled labels, for `sanity.label_randomisation`: the picture says nothing about them.

    Raises:
        ValueError: as in `fit`, or neither mark nor object decides.
    """
    present, absent, _ = _pairs(decides, n, seed, "train")
    labels = np.repeat([1, 0], n)
    if shuffled:
        np.random.default_rng(seed).shuffle(labels)
    pictures = np.concatenate([present, absent])
    clf = fit(network, pictures, labels.tolist(), CLASSES[decides], epochs=epochs, seed=seed)
    return replace(clf, name=f"{clf.name}, {'shuffled labels' if shuffled else f'the {decides} decides'}")


def planted_twins(network: Any = "cnn", **options: Any) -> tuple[Classifier, Classifier]:
    """The same network trained with the true labels and with shuffled ones, for `sanity.label_randomisation`.

    Args:
        network, options: as in `planted_classifier`.
    """
    return planted_classifier(network, **options), planted_classifier(network, shuffled=True, **options)


def planted(models: Any, methods: Sequence[str] = METHODS_COMPARED, *, n: int = 100, seed: int = 1) -> pd.DataFrame:
    """How much of each method's map lies on what decided, for classifiers of which it is known.

    Only those pictures count that the classifier calls right with what decides and without it.

    Args:
        models: from `planted_classifier`, one or several.
        methods: rows of METHODS.
        n: pictures, each with and without what decides.

    Returns:
        A row per model and method: decides, family, model, method, class_blind, share (of the map's positive values on
        the pixels that differ between the two pictures, mean), low and high (95 % interval), random and centre (the
        share of a uniform map and of a Gaussian in the centre), hits (maps with their maximum on these pixels), photos
        and reason (why a method does not apply).

    Raises:
        ValueError: a model of which it is not known what decides, or an unknown method.
        RuntimeError: what should decide does so in no picture.
    """
    for method in methods:
        method_named(method)
    found = [_decided(clf, n, seed) for clf in load_all(models).values()]
    return pd.DataFrame([row for case in found for row in _rows(case, methods)])


@dataclass(frozen=True, eq=False)
class _Case:
    """Prepared pictures (b, c, h, w) in which the pixels masks (b, h, w) decided."""

    clf: Classifier
    decides: Decides
    x: Tensor
    masks: Tensor


def _pairs(decides: Decides, n: int, seed: int, split: Any) -> tuple[NDArray, NDArray, NDArray]:
    """Pictures with what decides, the same without (n, h, w, 3), and the pixels (n, h, w) in which they differ."""
    if decides not in get_args(Decides):
        raise ValueError(f"'mark' or 'object' decides; got {decides!r}. Take one.")
    common: dict[str, Any] = {"split": split, "place": "anywhere"}
    if decides == "mark":
        present, absent = (shortcuts(n, seed, mark=mark, **common).images for mark in ("always", "never"))
    else:
        present, absent = (shortcuts(n, seed, mark="chance", bare=bare, **common).images for bare in (False, True))
    return present, absent, (present != absent).any(-1)


def _decided(clf: Classifier, n: int, seed: int) -> _Case:
    known = [decides for decides, classes in CLASSES.items() if clf.labels == classes]
    if not known:
        labels = f"{len(clf.labels)} classes" if clf.labels else "no labels"
        raise ValueError(
            f"planted needs a classifier of which it is known what decides; {clf.name} has {labels}. Train one with "
            f"vl.planted_classifier('cnn')."
        )
    present, absent, differ = _pairs(known[0], n, seed, "test")
    x, masks = clf.prepare(list(present)), torch.from_numpy(differ).to(clf.device)
    right = (clf(x).argmax(1) == 1) & (clf(list(absent)).argmax(1) == 0)
    if not bool(right.any()):
        raise RuntimeError(
            f"pictures that the {known[0]} decides are needed; {clf.name} has none among {n}. Train it for longer."
        )
    return _Case(clf, known[0], x[right], masks[right])


def _rows(case: _Case, methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    common = {
        "decides": case.decides,
        "family": family(case.clf),
        "model": case.clf.name,
        "photos": len(case.x),
        "random": float(case.masks.float().mean()),
        "centre": float(energy_in_box(_question(case, centre(case.x))).mean()),
    }
    for method in methods:
        about = {**common, "method": method, "class_blind": METHODS[method].class_blind}
        try:
            heat: Any = explain(case.clf, case.x, method, target=1)
        except (ValueError, RuntimeError) as error:
            yield about | {"reason": str(error)}
            continue
        ask = _question(case, heat.pixels())
        share, hits = energy_in_box(ask), pointing_game(ask)
        low, high = interval(share)
        yield about | {"share": float(share.mean()), "low": low, "high": high, "hits": float(hits.mean())}


def _question(case: _Case, maps: Tensor) -> Evaluation:
    target = torch.ones(len(case.x), dtype=torch.long, device=case.x.device)
    return Evaluation(case.clf, case.x, maps, target, len(case.x), lambda x, _: x, case.masks)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/planted.csv"), help="default: %(default)s")
    parser.add_argument("--n", type=int, default=100, help="test pictures; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=20, help="of training; default: %(default)s")
    chosen = parser.parse_args(argv)
    asked = [(network, decides) for decides in CLASSES for network in NETWORKS]
    models = [planted_classifier(network, decides=decides, epochs=chosen.epochs) for network, decides in asked]
    table = planted(models, n=chosen.n).round(4)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(chosen.out, index=False)
    shown = table.assign(network=table.model.str.split(",").str[0])
    print(shown.pivot_table(index="method", columns=["decides", "network"], values="share").round(2).to_string())


if __name__ == "__main__":
    main()
