"""One attention operation of one run: its matrices made when they are looked at, by row or by tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vizlib.tokens import Tokens
from vizlib.types import AttentionKind, Heatmap

TILE = 1 << 17  # numbers per tile: 0.5 MB in float32, so that scores and weights both stay in a core's cache
FEW = 32  # rows of a tile below which the heads go one by one: products of few rows are slow


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """An attention operation. Either `query` and `key` are kept, or the `matrix` where the model itself made one.

    Attributes:
        kind: "spatial" (keys lie in the image), "channel" (keys are channels: XCiT, half of DaViT), "pooling" (softmax
            over places without queries: GC blocks, class-attention pooling without q), "linear" (from places to places,
            but no matrix is made: Performer, EfficientViT, Linformer) or "batch" (keys are the photographs of the
            batch: CSATv2).
        query: (b, g, a, q, d); key: (b, g, a, k, d); scale and mask as the model used them.
        softmax: (b, g, a, q, k), rows sum to 1;  matrix: the one that was applied (differs under talking heads).
        inner: (b, g, a, m, k) of linear attention: what is above is then of shape (…, q, m), with m features or
            projected keys in the place of the keys, and matrix @ inner is the matrix that the operation implies.
        signed: the implied matrix has entries below zero: it is no distribution.
        value: (b, g, a, k, d);  output: (b, g, a, q, d) = matrix @ value;  gradient: of the target's logit, like
            the output.
        width: channels that it writes, over all heads.
        queries, keys, outputs: where the query, the key and the result of each slot lie.
    """

    name: str
    kind: AttentionKind
    queries: Tokens
    keys: Tokens
    outputs: Tokens
    value: Tensor
    output: Tensor
    width: int = 0
    query: Tensor | None = None
    key: Tensor | None = None
    scale: float = 1.0
    mask: Tensor | None = None
    softmax: Tensor | None = None
    matrix: Tensor | None = None
    inner: Tensor | None = None
    signed: bool = False
    gradient: Tensor | None = None
    image: Tensor = field(default_factory=lambda: torch.zeros(0))
    model: str = ""

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(b, g, a, q, k)."""
        b, g, a, q, _ = self.output.shape
        return b, g, a, q, self.value.shape[-2]

    @property
    def facts(self) -> str:
        """Kind, heads, groups, queries and keys with their grids, in words."""
        heads = f"{self.heads} head{'s' if self.heads > 1 else ''}"
        groups = f", {self.groups} groups" if self.groups > 1 else ""
        relevance = ", with gradients" if self.gradient is not None else ""
        return f"{self.kind}, {heads}{groups}, queries {self.queries.facts}, keys {self.keys.facts}{relevance}"

    def __repr__(self) -> str:
        return f"Attention {self.name}: {self.facts}"

    @property
    def heads(self) -> int:
        return self.output.shape[2]

    @property
    def groups(self) -> int:
        return self.output.shape[1]

    @property
    def shares(self) -> bool:
        """Are each query's weights shares over keys in the image? Of linear attention, where none is below zero."""
        return self.keys.grid is not None and (self.kind == "spatial" or (self.inner is not None and not self.signed))

    def weights(self, queries: slice = slice(None), *, applied: bool = False) -> Tensor:
        """Attention weights (b, g, a, q', k) of the chosen query slots, every row summing to 1.

        Of linear attention these are the rows of the matrix that it implies, scaled to sum to 1 as the models do; as
        applied where it has entries below zero (Linformer).

        Args:
            queries: which query slots, in each group.
            applied: the matrix that was applied to the values instead of the softmax (they differ where heads are
                mixed after the softmax; its rows need not sum to 1).
        """
        rows = self._rows(queries, applied)
        if self.inner is None:
            return rows
        rows = rows @ self.inner.to(rows.dtype)
        return rows if applied or self.signed else rows / _above_zero(rows.sum(-1, keepdim=True))

    def _rows(self, queries: slice, applied: bool) -> Tensor:
        """Weights over the keys, or over what stands in their place in linear attention."""
        made = self.matrix if self.matrix is not None and (applied or self.softmax is None) else self.softmax
        if made is not None:
            return made[..., queries, :]
        if self.query is None or self.key is None:
            raise RuntimeError(f"{self.name} is {self.kind} attention: it has no matrix of weights to look at.")
        scores = (self.query[..., queries, :] * self.scale) @ self.key.transpose(-2, -1)
        if self.mask is not None:
            scores = scores + (self.mask[..., queries, :] if self.mask.shape[-2] > 1 else self.mask)
        return scores.softmax(-1)

    def relevance(self, queries: slice = slice(None)) -> Tensor:
        """Gradient-weighted attention relu(∇A ⊙ A), (b, g, a, q', k), with ∇A = dO Vᵀ.

        Source: Chefer, Gur, Wolf 2021, Generic Attention-model Explainability, arXiv 2103.15679, eq. 5.
        """
        if self.gradient is None:
            raise RuntimeError(
                f"relevance needs gradients; {self.name} was traced without. Use trace(…, gradients=True)."
            )
        pull = self.gradient[..., queries, :] @ self.value.transpose(-2, -1)
        return (pull * self.weights(queries, applied=True)).relu()

    def tiles(self, *, relevance: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """All rows, a tile of query slots at a time: pairs of (slots, weights or relevance of these)."""
        for part in self._parts():
            yield part, (self.relevance(part) if relevance else self.weights(part))

    @property
    def _rows_of_tile(self) -> int:
        b, g, a, _, k = self.shape
        return max(1, TILE // max(b * g * a * k, 1))

    def _parts(self) -> Iterator[slice]:
        """The query slots in runs whose rows fit a tile."""
        rows, q = self._rows_of_tile, self.shape[3]
        for start in range(0, q, rows):
            yield slice(start, start + rows)

    def carry(self, mass: Tensor, *, relevance: bool = False) -> Tensor:
        """Mass on the query slots carried to the key slots, per head: (b, g, q) -> (b, g, a, k), mass @ A.

        Args:
            relevance: carry with relu(∇A ⊙ A) instead of A.
        """
        if self.inner is not None and not relevance:
            return self._carry_through(self.inner.to(mass.dtype), mass)
        if self.heads > 1 and self._rows_of_tile < min(FEW, self.shape[3]):
            return torch.cat([self._head(h).carry(mass, relevance=relevance) for h in range(self.heads)], 2)
        carried = mass.new_zeros(*self.shape[:3], self.shape[4])
        busy = mass.flatten(0, 1).any(0)
        made = self.relevance if relevance else self.weights
        for part in self._parts():
            if busy[part].any():  # a tile has no name: the next one takes its memory while that is still in the cache
                carried += (mass[:, :, None, None, part] @ made(part).to(mass.dtype)).squeeze(3)
        return carried

    def _carry_through(self, inner: Tensor, mass: Tensor) -> Tensor:
        """Mass carried by linear attention, in time and memory linear in the number of tokens as well."""
        rows = self._rows(slice(None), applied=False).to(mass.dtype)  # (b, g, a, q, m)
        each = mass[:, :, None, None]  # (b, g, 1, 1, q)
        if not self.signed:
            each = each / _above_zero(rows @ inner.sum(-1, keepdim=True)).mT  # (b, g, a, 1, q)
        return (each @ rows @ inner).squeeze(3)

    def _head(self, head: int) -> Attention:
        """One head as an operation of its own: (b, g, 1, …)."""
        names = ("value", "output", "query", "key", "mask", "softmax", "matrix", "inner", "gradient")
        parts: dict[str, Any] = {n: t for n in names if (t := getattr(self, n)) is not None}
        return replace(self, **{n: t[:, :, head : head + 1] if t.shape[2] > 1 else t for n, t in parts.items()})

    def heatmap(
        self,
        query: tuple[float, float] | int | Literal["mean"] = 0,
        head: int | None = None,
    ) -> Heatmap:
        """What one query attends to, as a picture on the keys' grid.

        Args:
            query: an image point (row, column) in [0, 1]; the number of a prefix token (0: the class token); or "mean"
                over all queries.
            head: one head, or None for the mean over heads.

        Raises:
            ValueError: the operation has no such query or head, or its keys have no place in the image.
        """
        if self.keys.grid is None:
            raise ValueError(f"{self.name} is {self.kind} attention: its keys are no places, there is nothing to draw.")
        if head is not None and not 0 <= head < self.heads:
            raise ValueError(f"{self.name} has heads 0 to {self.heads - 1}; got {head}.")
        mass = self._start(query)
        carried = self.carry(mass)
        carried = carried.mean(2) if head is None else carried[:, :, head]
        patches = self.keys.patches(self.keys.scatter(carried))
        who = "the mean query" if query == "mean" else query
        what = f"attention of {who}, {'mean of heads' if head is None else f'head {head}'}"
        return Heatmap(patches, self.image, what, self.model, unit="attention weight", layer=self.name)

    def _start(self, query: tuple[float, float] | int | str) -> Tensor:
        """Unit mass (b, g, q) on the asked query."""
        b, g, _, q, _ = self.shape
        where = self.outputs if self.outputs.grid else self.queries
        index = where.index.to(self.output.device).expand(b, g, q)
        if query == "mean":
            chosen = index >= 0
        elif isinstance(query, tuple):
            chosen = where.slots_at(query).to(index.device).expand(b, g, q)
        elif isinstance(query, int) and 0 <= query < where.prefix:
            chosen = index == query
        else:
            raise ValueError(
                f"{self.name} has {where.prefix} prefix tokens; got query {query!r}. Name an image point (row, column) "
                f"in [0, 1], or 'mean'."
            )
        mass = chosen.to(torch.float32)
        total = mass.sum((1, 2), keepdim=True)
        if not bool(total.all()):
            photo = int((total == 0).nonzero()[0, 0])
            raise ValueError(
                f"{self.name} has no query at {query} in photograph {photo}: that patch was dropped before. Name "
                f"another point, or 'mean'."
            )
        return mass / total


def _above_zero(sums: Tensor) -> Tensor:
    """Sums to divide by: a query that matches no key at all has a row of zeros."""
    return sums.clamp(min=torch.finfo(sums.dtype).tiny)
