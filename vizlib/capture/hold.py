"""Gates held still for a while."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from vizlib.capture.anatomy import Anatomy, GateSite
from vizlib.capture.events import RawGate, Watcher
from vizlib.capture.target import Follower
from vizlib.capture.trace import intercepted
from vizlib.types import Classifier


@contextmanager
def hold(clf: Classifier, gates: Mapping[str, Tensor | float]) -> Iterator[Classifier]:
    """Holds gates at given values while the block lasts, whatever the photograph.

    At their mean over photographs, gates no longer tell photographs apart; at 1 they let everything through; at the
    values of another photograph they say what those carry.

    Args:
        gates: gate, by the names that `trace` and `summary` use -> a number, or values like `Trace.gates[…].values`,
            (1 or b, c, r, s) with 1 where they are the same.

    Raises:
        ValueError: no such gate, or values that do not fit its features (when the model is run).
    """

    def watcher(anatomy: Anatomy, _batch: int) -> Watcher:
        _check_names(clf, anatomy, gates)
        return _Holder(anatomy, gates)

    with intercepted(clf, watcher):
        yield clf


class _Holder(Follower):
    def __init__(self, anatomy: Anatomy, gates: Mapping[str, Tensor | float]) -> None:
        super().__init__(anatomy)
        self.gates = gates

    def gate(self, event: int, raw: RawGate) -> Tensor | None:
        site = self.anatomy.gates[event]
        if site.name not in self.gates:
            return None
        return _as_in_the_model(site, torch.as_tensor(self.gates[site.name]).to(raw.features), raw)


def _as_in_the_model(site: GateSite, values: Tensor, raw: RawGate) -> Tensor:
    """Values (b, c, r, s) with their axes as the gated features have them."""
    n, held = raw.features.ndim, values
    if values.ndim and site.channels > 0:
        held = held.flatten(2) if n == 3 and held.ndim == 4 else held
        held = held.movedim(1, site.channels) if held.ndim == n else held
    gated = torch.broadcast_shapes(raw.features.shape, raw.values.shape)
    if held.ndim not in (0, n) or any(size not in (1, whole) for size, whole in zip(held.shape, gated, strict=False)):
        raise ValueError(
            f"{site.name} needs a number or values that fit its features {tuple(gated)}; got {tuple(values.shape)}. "
            f"Take them from trace(…).gates[{site.name!r}].values."
        )
    return held


def _check_names(clf: Classifier, anatomy: Anatomy, gates: Mapping[str, Tensor | float]) -> None:
    have = [site.name for site in anatomy.gates.values()]
    for name in gates:
        if name not in have:
            near = difflib.get_close_matches(name, have, 3, 0.3) or have[-3:]
            raise ValueError(
                f"a gate of {clf.name} is needed; it has no {name!r}. "
                f"{'Near ones: ' + ', '.join(near) if have else 'It has none at all; see vl.summary.'}"
            )
