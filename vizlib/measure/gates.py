"""What the gates of a classifier let through, over many photographs and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from vizlib.capture.trace import trace
from vizlib.types import Classifier, Gate


@dataclass(frozen=True, eq=False)
class GateSurvey:
    """The gates of n photographs, by module path and in execution order. On the CPU.

    Attributes:
        classes: (n,) the class that each photograph was given as, or the predicted one.
        predicted: (n,) the predicted class.
        image: (n, 3, h, w) in [0, 1], what the model saw.
        channel: (n, c) values per channel; of gates that differ along an axis, the mean over places.
        spatial: (n, r, s) values per place; of gates with a value for every channel and place, the mean over channels.
    """

    model: str
    classes: tuple[str, ...]
    predicted: tuple[str, ...]
    image: Tensor
    channel: dict[str, Tensor]
    spatial: dict[str, Tensor]

    def means(self, layer: str) -> pd.DataFrame:
        """Mean value of every channel gate (columns) over the photographs of a class (rows).

        Raises:
            ValueError: no such layer of channel gates.
        """
        if layer not in self.channel:
            raise ValueError(
                f"a layer with channel gates is needed; got {layer!r}. Name one of: {', '.join(self.channel)}."
            )
        return pd.DataFrame(self.channel[layer].numpy()).groupby(list(self.classes), sort=False).mean()

    def difference(self, layer: str, this: str, other: str) -> pd.Series:
        """How much further each channel opens for one class than for another, largest first.

        Raises:
            ValueError: no such layer, or no photograph of such a class.
        """
        means = self.means(layer)
        missing = [name for name in (this, other) if name not in means.index]
        if missing:
            raise ValueError(
                f"the difference needs two classes of the photographs; got {missing[0]!r}. There are: "
                f"{', '.join(means.index)}."
            )
        return (means.loc[this] - means.loc[other]).sort_values(ascending=False)

    def spread(self) -> pd.Series:
        """How much the gates of each layer differ by class: standard deviation over classes, mean over channels."""
        return pd.Series({layer: float(self.means(layer).std(ddof=0).mean()) for layer in self.channel})


def survey_gates(clf: Classifier, photos: Any, *, batch: int = 16) -> GateSurvey:
    """Runs photographs through a classifier and keeps what its gates let through.

    Args:
        photos: photographs by class, {"cat": [photo, …], …}; or a list of them, or a preprocessed tensor
            (n, c, h, w), which the predicted classes then group.
        batch: photographs per run.

    Raises:
        ValueError: there is no photograph, one cannot be read, or the model has no gates.
    """
    each, given = _listed(photos)
    if not len(each):
        raise ValueError("a survey of gates needs photographs; got none. Pass a list, or lists by class.")
    pictures, predicted = [], []
    gates: dict[str, list[Tensor]] = {}
    kinds: dict[str, str] = {}
    for start in range(0, len(each), batch):
        run = trace(clf, each[start : start + batch], layers=[])
        pictures.append(run.image.cpu())
        predicted += [clf.label(int(k)) for k in run.logits.argmax(-1)]
        for name, gate in run.gates.items():
            kinds[name] = "spatial" if gate.kind in ("spatial", "full") else "channel"
            gates.setdefault(name, []).append(_reduced(gate, len(run.logits)))
    if not gates:
        raise ValueError(
            f"a survey of gates needs a model with gates (SE, ECA, CBAM …); {clf.name} has none. Look at "
            f"trace.attentions, or take zoo/seresnet."
        )
    order = _by_class(given or predicted)
    kept = {kind: {n: torch.cat(gates[n])[order] for n in gates if kinds[n] == kind} for kind in ("channel", "spatial")}
    classes, guesses = (tuple(names[i] for i in order) for names in (given or predicted, predicted))
    return GateSurvey(clf.name, classes, guesses, torch.cat(pictures)[order], **kept)


def _listed(photos: Any) -> tuple[Any, list[str]]:
    """Photographs one after the other, and their classes where these are given."""
    if isinstance(photos, Mapping):
        pairs = [(photo, name) for name, of_class in photos.items() for photo in _several(of_class)]
        return [photo for photo, _ in pairs], [name for _, name in pairs]
    return _several(photos), []


def _several(photos: Any) -> Any:
    batch = getattr(photos, "ndim", 0) == 4
    return photos if batch or isinstance(photos, list | tuple) else [photos]


def _reduced(gate: Gate, b: int) -> Tensor:
    """(b, c) values per channel or path, or (b, r, s) values per place."""
    values = gate.values.detach().float().cpu().expand(b, *gate.values.shape[1:])
    if gate.kind in ("spatial", "full"):
        return values.mean(1)
    return values.mean((2, 3)) if gate.kind == "axis" else values.flatten(1)


def _by_class(classes: Sequence[str]) -> list[int]:
    """Photographs of a class side by side, classes in the order of their first photograph."""
    first = {name: i for i, name in reversed(list(enumerate(classes)))}
    return sorted(range(len(classes)), key=lambda i: first[classes[i]])
