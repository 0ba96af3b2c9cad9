"""Matrix products, by whatever function they are written, as attention operations.

A product is one where a side is a tagged softmax whose contracted axis are the keys; or where a side is itself a
product: features times (features times values) is linear attention, whose (n, n) matrix is never made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vizlib.capture.events import Product, RawAttention, Tag

if TYPE_CHECKING:
    from vizlib.capture.intercept import Interceptor


def product(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """matmul, bmm: attention where a side is a tagged softmax, or a product of its own."""
    out = func(*args, **kwargs)
    left, right = args[:2] if len(args) > 1 else (args[0], kwargs.get("other", kwargs.get("mat2")))
    if func.__name__ == "__rmatmul__":
        left, right = right, left
    if not isinstance(left, Tensor) or left.ndim < 2 or right.ndim < 2:
        return out
    tags, made = (mode.tag(left), mode.tag(right)), (mode.product(left), mode.product(right))
    raw = None
    if tags[0] or (made[1] and not tags[1]):
        raw = _operation(left, right, out, tags[0], made[1])
    elif tags[1] or made[0]:  # value (…, d, k) @ matrixᵀ (…, k, q)
        raw = _operation(right.mT, left.mT, out.mT, tags[1], turned(made[0]))
        raw = replace(raw, restore=lambda output: output.mT)
    if raw is not None:
        out = _decide(mode, raw, out, (left if tags[0] else right) if any(tags) else None)
    mode.made(out, left, right)
    return out


def turned(made: Product | None) -> Product | None:
    """The product that the transposed tensor is: (left @ right)ᵀ = rightᵀ @ leftᵀ."""
    return None if made is None else Product(made.right.mT, made.left.mT)


def _operation(matrix: Tensor, value: Tensor, output: Tensor, tag: Tag | None, made: Product | None) -> RawAttention:
    raw = with_inner(RawAttention(value, output, matrix=matrix), made)
    if tag is None:
        return raw
    softmax = tag.source if tag.source.shape == matrix.shape and tag.source is not matrix else matrix
    return replace(raw, softmax=softmax, queries=tag.queries)


def with_inner(raw: RawAttention, made: Product | None) -> RawAttention:
    """An operation with the product that its value is, if it is one."""
    return raw if made is None else replace(raw, inner=made.left, tokens=made.right)


def _decide(mode: Interceptor, raw: RawAttention, out: Tensor, tagged: Tensor | None) -> Tensor:
    if mode.watcher.is_attention(mode.next_event(), raw):
        return mode.report(raw, out)
    if tagged is not None:
        mode.hand_on("", tagged, out)
    return out


@dataclass(frozen=True)
class Letters:
    """The axes of an einsum of two operands as those of a batched product (…, i, k) @ (…, k, j) = (…, i, j)."""

    matrix: str
    value: str
    result: str
    batch: str
    rows: str
    summed: str
    columns: str

    @property
    def parts(self) -> tuple[tuple[str, str, str], ...]:
        """Of matrix, value and result: its own letters, and those of its last two axes."""
        kept = (self.rows, self.columns)
        return (self.matrix, self.rows, self.summed), (self.value, self.summed, self.columns), (self.result, *kept)

    def bring(self, which: int, tensor: Tensor) -> Tensor:
        """The matrix (0), value (1) or result (2) as batched matrices."""
        has, first, second = self.parts[which]
        moved = tensor.permute([has.index(c) for c in self.batch + first + second])
        return moved.flatten(len(self.batch), len(self.batch) + len(first) - 1).flatten(-len(second))

    def restore(self, brought: Tensor, like: Tensor) -> Tensor:
        """A result as batched matrices back to the shape of the einsum's own."""
        letters = self.batch + self.rows + self.columns
        sizes = [like.shape[self.result.index(c)] for c in letters]
        return brought.reshape(sizes).permute([letters.index(c) for c in self.result])

    def order(self, which: int) -> int:
        """1 where the operand stands as `bring` gives it, -1 where its last two axes are turned, else 0."""
        has, first, second = self.parts[which]
        single = len(first) == len(second) == 1
        return single * ((has == self.batch + first + second) - (has == self.batch + second + first))


def letters_of(equation: str, side: int) -> Letters | None:
    """The letters of an einsum of two operands with operand `side` as the matrix; None if it is no such product."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    if not arrow or "." in equation or len(names) != 2:
        return None
    matrix, value = names[side], names[1 - side]
    summed = "".join(c for c in matrix if c in value and c not in result)
    batch = "".join(c for c in matrix if c in value and c in result)
    rows = "".join(c for c in matrix if c not in value and c in result)
    columns = "".join(c for c in value if c not in matrix and c in result)
    complete = sorted(result) == sorted(batch + rows + columns)
    if len(summed) != 1 or not rows or not columns or not complete:
        return None
    return Letters(matrix, value, result, batch, rows, summed, columns)


def einsum(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """As `product`, for einsum of two operands."""
    out = func(*args, **kwargs)
    operands = list(args[1]) if len(args) == 2 and isinstance(args[1], list | tuple) else list(args[1:])
    if len(operands) != 2 or not isinstance(args[0], str):
        return out
    tags = [mode.tag(t) for t in operands]
    made = [mode.product(t) for t in operands]
    side = 0 if tags[0] or (not tags[1] and made[1]) else 1  # which operand is the matrix
    letters = letters_of(args[0], side)
    if letters is None:
        if any(tags):
            mode.hand_on("", operands[0 if tags[0] else 1], out)
        return out
    raw = _from_einsum(mode, letters, operands[side], operands[1 - side], out)
    if raw is not None:
        out = _decide(mode, raw, out, operands[side] if tags[side] else None)
    if letters.order(2):
        left, right = letters.bring(0, operands[side]), letters.bring(1, operands[1 - side])
        mode.made(out, *((left, right) if letters.order(2) > 0 else (right.mT, left.mT)))
    return out


def _from_einsum(
    mode: Interceptor, letters: Letters, matrix: Tensor, value: Tensor, out: Tensor
) -> RawAttention | None:
    tag, order = mode.tag(matrix), letters.order(1)  # the axes of a value that is a product must stand as they did
    made = mode.product(value) if order else None
    if tag is None and made is None:
        return None
    brought = letters.bring(0, matrix), letters.bring(1, value), letters.bring(2, out)
    raw = _operation(*brought, None, made if order > 0 else turned(made))
    if tag is not None:
        softmax = letters.bring(0, tag.source) if tag.source.shape == matrix.shape else brought[0]
        raw = replace(raw, softmax=softmax, queries=tag.queries)
    return replace(raw, restore=lambda changed: letters.restore(changed, out))
