"""How the heads of an operation become one matrix, and what is left of its rows; made a tile of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from vizlib.attention import Attention

Fusion = Literal["mean", "max", "min"]
# (b, g, a, q, k) -> (b, g, q, k)
_JOIN: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda heads: heads.mean(2),
    "max": lambda heads: heads.amax(2),
    "min": lambda heads: heads.amin(2),
}


@dataclass(frozen=True)
class Fused:
    """The matrix Ā of attention operations: heads joined entry by entry, the smallest entries of each row set to zero.

    Attributes:
        fusion: mean, largest or smallest of the heads.
        discard: share of a row's entries, in [0, 1).
        relevance: of relu(∇A ⊙ A), whose rows stay as they are; else of A, whose rows are scaled to sum to 1.

    Raises:
        ValueError: no such fusion, or no such share.
    """

    fusion: Fusion
    discard: float
    relevance: bool = False
    _sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fusion not in _JOIN:
            raise ValueError(f"fusion is 'mean', 'max' or 'min'; got {self.fusion!r}. Name one of them.")
        check_share("discard", self.discard)

    def carry(self, attention: Attention, mass: Tensor) -> Tensor:
        """Mass on the query slots carried to the key slots, m Ā: (b, g, q) -> (b, g, k)."""
        if self.fusion == "mean" and not self.discard:  # by row or by head, without the matrix
            return attention.carry(mass, relevance=self.relevance).mean(2)
        carried = mass.new_zeros(*mass.shape[:2], attention.shape[4])
        for part, rows in self._tiles(attention):
            carried += (mass[:, :, None, part] @ rows.to(mass.dtype)).squeeze(2)
        return carried

    def sums(self, attention: Attention) -> Tensor:
        """What each row of Ā sums to: (b, g, q)."""
        if attention.name not in self._sums:
            each = [rows.sum(-1) for _, rows in self._tiles(attention)]
            self._sums[attention.name] = torch.cat(each, -1)
        return self._sums[attention.name]

    def _tiles(self, attention: Attention) -> Iterator[tuple[slice, Tensor]]:
        for part, heads in attention.tiles(relevance=self.relevance):
            rows = _JOIN[self.fusion](heads)
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
            if self.discard:
                least = rows.topk(int(self.discard * rows.shape[-1]), -1, largest=False).indices
                rows = rows.scatter(-1, least, 0.0)
            yield part, rows if self.relevance else rows / above_zero(rows.sum(-1, keepdim=True))


def above_zero(sums: Tensor) -> Tensor:
    """Sums to divide by: a row may hold zeros alone."""
    return sums.clamp(min=torch.finfo(sums.dtype).tiny)


def check_share(name: str, value: float) -> None:
    """Raises ValueError outside [0, 1)."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"{name} is a share in [0, 1); got {value!r}. Pass a number such as 0.5.")
