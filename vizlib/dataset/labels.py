"""The names that the photographs are labelled with, as classes of a model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vizlib.dataset.sources import Source
from vizlib.types import Classifier

_WNID = re.compile(r"n\d{8}")


def classes_of(
    clf: Classifier, source: Source, count: int, labels: Mapping[str, str | int] | None
) -> NDArray[np.int64]:
    """The model's class for each of the source's: (classes of the source,).

    Names are matched as they are, then without regard to case, blanks, hyphens and underscores; WordNet ids
    (n01440764) for a model of ImageNet's classes. A model without label names takes class numbers only.

    Args:
        count: how many logits the model gives.
        labels: name in the data -> the model's label or class index, for names that do not match.

    Raises:
        ValueError: a class that the model does not have.
    """
    labels = dict(labels or {})
    unknown = [name for name in labels if name not in source.classes]
    if unknown:
        there = ", ".join(source.classes[:5]) + (" …" if len(source.classes) > 5 else "")
        raise ValueError(f"labels= needs names that the data have; got {', '.join(unknown)}. There are: {there}.")
    if source.numbered and not labels:
        if len(source.classes) > count:
            raise ValueError(
                f"class numbers below {count} are needed, one for each logit of {clf.name}; the data have "
                f"{len(source.classes) - 1}. Pass labels={{number: class of the model}}."
            )
        return np.arange(len(source.classes))
    known = _known(clf, count)
    found = [_index(clf, labels.get(name, name), known, count) for name in source.classes]
    missing = [name for name, index in zip(source.classes, found, strict=True) if index is None]
    if missing:
        raise ValueError(_missing(clf, source, missing))
    return np.array(found, np.int64)


def _known(clf: Classifier, count: int) -> dict[str, int]:
    """Every way to write one of the model's classes; what two classes share says nothing."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    ways: dict[str, list[int]] = {}
    for index, label in enumerate(clf.labels or ()):
        for way in {label, _plain(label), *map(_plain, label.split(","))}:
            ways.setdefault(way, []).append(index)
    subset = infer_imagenet_subset({"num_classes": count})
    if subset:
        for index, wnid in enumerate(ImageNetInfo(subset).label_names()):
            ways.setdefault(wnid, []).append(index)
    return {way: indices[0] for way, indices in ways.items() if len(indices) == 1}


def _index(clf: Classifier, name: str | int, known: Mapping[str, int], count: int) -> int | None:
    if isinstance(name, int | np.integer):
        return clf.index(int(name), count)
    found = known.get(name)
    return known.get(_plain(name)) if found is None and not _WNID.fullmatch(name) else found


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _missing(clf: Classifier, source: Source, missing: list[str]) -> str:
    if not clf.labels:
        return (
            f"label names are needed to tell which class {missing[0]!r} is; {clf.name} has none. Load it with "
            f"labels=[…] in the order of its logits, or pass labels={{name: class index}}."
        )
    near = difflib.get_close_matches(missing[0], clf.labels, 3, 0.4) or list(clf.labels[:3])
    return (
        f"{clf.name} has no class for {len(missing)} of the {len(source.classes)} labels in the data: "
        f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}. Its labels near {missing[0]!r}: "
        f"{', '.join(near)}. Pass labels={{name in the data: label of the model}}, or leave these photographs out."
    )
