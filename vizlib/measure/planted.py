"""Planted truth: pictures in which it is known what decides, so that a map can be right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from vizlib.measure.evaluation import Evaluation
from vizlib.measure.localisation import energy_in_box, pointing_game
from vizlib.measure.verdict import interval
from vizlib.methods.table import METHODS, explain
from vizlib.models.fit import fit
from vizlib.shortcuts import shortcuts
from vizlib.types import Classifier

CLASSES = ("bare", "marked")


def planted_classifier(network: Any = "cnn", *, n: int = 800, epochs: int = 8, seed: int = 0) -> Classifier:
    """A classifier that tells pictures with a mark from those without: nothing but the mark can decide.

    Args:
        network: as in `fit`; "cnn", "vit" or "hybrid".
        n: rendered pictures to train on, half of them with the mark.
    """
    made = shortcuts(n, seed, split="train", mark="chance")
    clf = fit(network, made.images, made.marked.astype(int).tolist(), CLASSES, epochs=epochs, seed=seed)
    return replace(clf, name=f"planted {clf.name}")


def planted(clf: Classifier, methods: Sequence[str], *, n: int = 100, seed: int = 1) -> pd.DataFrame:
    """How much of each method's map lies on the mark, in pictures where the mark alone decided.

    Every picture is rendered twice, with the mark and, the same to the bit but for it, without. Only those count that
    the classifier calls "marked" with it and "bare" without it.

    Args:
        clf: from `planted_classifier`.
        methods: rows of METHODS.
        n: pictures, half of them with the mark.

    Returns:
        A row per method: model, method, class_blind, share (of the map's positive values on the mark, mean), low and
        high (95 % interval), chance (the mark's share of the picture), hits (maps with their maximum on the mark),
        photos and reason (why a method does not apply).

    Raises:
        RuntimeError: the mark decided in no picture.
    """
    marked, bare = (shortcuts(n, seed, split="test", mark=mark) for mark in ("chance", "never"))
    x, without = clf.prepare(list(marked.images)), clf.prepare(list(bare.images))
    decided = (clf(x).argmax(1) == 1) & (clf(without).argmax(1) == 0) & torch.from_numpy(marked.marked).to(x.device)
    if not bool(decided.any()):
        raise RuntimeError(f"pictures that the mark decides are needed; {clf.name} has none. Train it for longer.")
    x, masks = x[decided], torch.from_numpy(marked.marks).to(x.device)[decided]
    target = torch.ones(len(x), dtype=torch.long, device=x.device)
    return pd.DataFrame([_row(clf, method, x, masks, target) for method in methods])


def _row(clf: Classifier, method: str, x: Any, masks: Any, target: Any) -> dict[str, Any]:
    about = {"model": clf.name, "method": method, "class_blind": METHODS[method].class_blind, "photos": len(x)}
    try:
        maps: Any = explain(clf, x, method, target=target)
    except (ValueError, RuntimeError) as error:
        return about | {"reason": str(error)}
    ask = Evaluation(clf, x, maps.pixels(), target, len(x), lambda other, _: other, masks)
    share, hits = energy_in_box(ask), pointing_game(ask)
    low, high = interval(share)
    chance = float(masks.float().mean())
    return about | {
        "share": float(share.mean()),
        "low": low,
        "high": high,
        "chance": chance,
        "hits": float(hits.mean()),
    }
