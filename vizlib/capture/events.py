"""What an `Interceptor` reports: attention operations and gates, as tensors; and who wants to know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tag:
    """On a tensor: it is the result of this activation function, changed in shape or mixed at most."""

    tensor: Any  # weak reference: an id may be used again
    activation: str
    source: Tensor  # the activation's own result
    gate: Tensor  # the value before it was expanded to the shape of what it multiplies
    queries: bool = True  # the softmax was taken over a product of two activations


@dataclass(frozen=True, eq=False)
class Product:
    """A tensor is left (…, i, k) @ right (…, k, j)."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True, eq=False)
class RawAttention:
    """An attention operation as the model ran it, oriented as matrix (…, q, k) @ value (…, k, d) = output (…, q, d).

    Where the value is itself a product, inner (…, k, n) @ tokens (…, n, d), the operation implies the matrix
    matrix @ inner (…, q, n) over the tokens: kernel features φ(q), φ(k)ᵀ and v of linear attention, or the softmax
    over projected keys, the projection and v of Linformer.
    """

    value: Tensor
    output: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = False
    scale: float = 1.0
    softmax: Tensor | None = None
    matrix: Tensor | None = None
    inner: Tensor | None = None
    tokens: Tensor | None = None
    queries: bool = True
    restore: Callable[[Tensor], Tensor] = lambda output: output  # from (…, q, d) back to the shape the model gave it


@dataclass(frozen=True, eq=False)
class RawGate:
    values: Tensor
    features: Tensor
    activation: str
    weights: bool = False  # the features are attention weights (…, a, q, k)


class Watcher:
    """What wants to know of the events of a forward. Each gets the number of the event, counted over both kinds."""

    def softmax_over(self, scores: Tensor) -> bool:
        """Is this the softmax of a product of activations? Asked when a softmax is made."""
        return True

    def attention(self, event: int, raw: RawAttention) -> Tensor | None:
        """An attention operation; returns what the model shall go on with (oriented as raw.output), or None."""
        return None

    def is_attention(self, event: int, raw: RawAttention) -> bool:
        """Is this product of a tagged softmax, or of features and another product, an attention operation?"""
        raise NotImplementedError

    def is_gate(self, event: int, raw: RawGate) -> bool:
        """Is this multiplication a gate? A watcher that keeps gates does so here."""
        raise NotImplementedError

    def gate(self, event: int, raw: RawGate) -> Tensor | None:
        """A gate; returns what the features shall be multiplied with instead, or None."""
        return None
