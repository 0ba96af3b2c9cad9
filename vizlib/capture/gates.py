"""Which multiplications are gates, and what a gate's values change along."""

from __future__ import annotations

from torch import Tensor

from vizlib.capture.cells import settle
from vizlib.capture.events import RawGate
from vizlib.types import GateKind


def is_swish(raw: RawGate) -> bool:
    """x · f(x): what multiplies x rises (or falls) with x itself, which is no gate but an activation function."""
    if raw.features.shape != raw.values.shape:
        return False
    values = raw.values.float().flatten()
    steps = values[raw.features.float().flatten().argsort()].diff()
    slack = 1e-5 * (values.max() - values.min())
    return bool((steps >= -slack).all() or (steps <= slack).all())


def is_of_heads(raw: RawGate) -> bool:
    """One value for each head of attention weights (…, a, q, k)."""
    sizes = [1] * (raw.features.ndim - raw.values.ndim) + list(raw.values.shape)
    return raw.weights and raw.features.ndim > 3 and sizes[-2:] == [1, 1] and sizes[-3] == raw.features.shape[-3]


def gate_kind(raw: RawGate, cells: Tensor) -> tuple[GateKind, int] | None:
    """What a gate's values change along: heads, channels, places, one axis, parallel paths or everything."""
    if is_of_heads(raw):
        return ("head", raw.features.ndim - 3)
    gate, n = raw.values, raw.features.ndim
    sizes = [1] * (n - gate.ndim) + list(gate.shape)
    if len(sizes) != n:
        return None
    cells = settle(cells)
    space = [d for d in range(1, n) if cells.shape[d] > 1]
    if n > 4 or (not space and n != 4):
        return ("path", -1) if n > 2 else None
    space = space or [2, 3]
    rest = [d for d in range(1, n) if d not in space]
    along = [d for d in range(1, n) if sizes[d] > 1]
    if not rest or (not along and n != 4):
        return None
    channels = rest[-1] if len(rest) == 1 else -1
    if channels == -1:
        return ("path", -1)
    if not set(along) & set(space):
        return ("channel", channels)
    if channels not in along:
        return ("spatial", channels)
    return ("full" if set(space) <= set(along) else "axis", channels)
