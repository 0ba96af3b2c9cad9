"""Every attention operation and gate of one forward, found by what is computed and not by module class.

- `scaled_dot_product_attention` is let run as it is and its q, k, v are kept.
- A softmax result is tagged; the first product with another activation that it enters (through dropout, head mixing,
  reshapes) is an attention operation with that matrix.
- A sigmoid, hard-sigmoid or softmax result that multiplies features is a gate.

Which of the products and multiplications are the real thing is decided once per model, in the study of `anatomy.py`
(which sees places and values); later runs follow that decision by the number of the event.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, eq=False)
class Tag:
    """On a tensor: it is the result of this activation function, changed in shape or mixed at most."""

    tensor: Any  # weak reference: an id may be used again
    activation: str
    source: Tensor  # the activation's own result
    gate: Tensor  # the value before it was expanded to the shape of what it multiplies
    queries: bool = True  # the softmax was taken over a product of two activations


@dataclass(frozen=True, eq=False)
class RawAttention:
    """An attention operation as the model ran it, oriented as matrix (…, q, k) @ value (…, k, d) = output (…, q, d)."""

    value: Tensor
    output: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = False
    scale: float = 1.0
    softmax: Tensor | None = None
    matrix: Tensor | None = None
    queries: bool = True
    restore: Callable[[Tensor], Tensor] = lambda output: output  # from (…, q, d) back to the shape the model gave it


@dataclass(frozen=True, eq=False)
class RawGate:
    values: Tensor
    features: Tensor
    activation: str


class Watcher:
    """What wants to know of the events of a forward. Each gets the number of the event, counted over both kinds."""

    def softmax_over(self, scores: Tensor) -> bool:
        """Is this the softmax of a product of activations? Asked when a softmax is made."""
        return True

    def attention(self, event: int, raw: RawAttention) -> Tensor | None:
        """An attention operation; returns what the model shall go on with (oriented as raw.output), or None."""
        return None

    def is_attention(self, event: int, raw: RawAttention) -> bool:
        """Is this product of a tagged softmax an attention operation?"""
        raise NotImplementedError

    def is_gate(self, event: int, raw: RawGate) -> bool:
        """Is this multiplication a gate? A watcher that keeps gates does so here."""
        raise NotImplementedError


class Interceptor(TorchFunctionMode):
    """Reports the attention operations and gates of everything that runs inside."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self.watcher = watcher
        self.events = 0
        self._tags: dict[int, Tag] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        handler = HANDLERS.get(name)
        if handler is not None:
            return handler(self, func, args, kwargs)
        out = func(*args, **kwargs)
        if self._tags and args and isinstance(args[0], Tensor):
            self._hand_on(name, args[0], out)
        return out

    def tag(self, tensor: Any) -> Tag | None:
        found = self._tags.get(id(tensor))
        return found if found is not None and found.tensor() is tensor else None

    def _put(self, tensor: Tensor, activation: str, source: Tensor, gate: Tensor, queries: bool) -> None:
        key = id(tensor)
        self._tags[key] = Tag(
            weakref.ref(tensor, lambda _: self._tags.pop(key, None)), activation, source, gate, queries
        )

    def _hand_on(self, name: str, tensor: Any, out: Any) -> None:
        """A result whose first operand is tagged is tagged too."""
        tag = self.tag(tensor)
        if tag is None:
            return
        for result in out if isinstance(out, list | tuple) else (out,):
            if isinstance(result, Tensor) and result.is_floating_point():
                gate = tag.gate if name in EXPANDING else result
                self._put(result, tag.activation, tag.source, gate, tag.queries)

    def next_event(self) -> int:
        self.events += 1
        return self.events - 1

    def report(self, raw: RawAttention, out: Tensor) -> Tensor:
        """Tells the watcher of an attention operation with this result; returns what the model goes on with."""
        changed = self.watcher.attention(self.events - 1, raw)
        return out if changed is None else raw.restore(changed)


Handler = Callable[[Interceptor, Any, Any, Any], Any]


def _activation(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    x = args[0] if args else kwargs["input"]
    name = func.__name__.rstrip("_")
    queries = mode.watcher.softmax_over(x) if name == "softmax" else False
    out = func(*args, **kwargs)
    mode._put(out, ACTIVATIONS[name], out, out, queries)
    return out


def _clamp(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """relu6(x + 3) / 6 is the hard sigmoid, written out."""
    out = func(*args, **kwargs)
    bounds = tuple(args[1:3]) or (kwargs.get("min"), kwargs.get("max"))
    if isinstance(out, Tensor) and (func.__name__.startswith("relu6") or bounds == (0, 6)):
        mode._put(out, "hard_sigmoid", out, out, False)
    return out


def _fused(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
    given = dict(zip(names, args, strict=False)) | kwargs
    q, k, v = given["query"], given["key"], given["value"]
    if given.get("enable_gqa"):
        k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    scale = given.get("scale")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    mode.next_event()
    return mode.report(RawAttention(v, out, q, k, given.get("attn_mask"), bool(given.get("is_causal")), scale), out)


def _product(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """matmul, bmm: attention where one side is a tagged softmax and its contracted axis the keys."""
    out = func(*args, **kwargs)
    if not mode._tags:
        return out
    left, right = args[:2] if len(args) > 1 else (args[0], kwargs.get("other", kwargs.get("mat2")))
    if func.__name__ == "__rmatmul__":
        left, right = right, left
    tag, flipped = mode.tag(left), False
    if tag is None:
        tag, flipped = mode.tag(right), True
    if tag is None or left.ndim < 2 or right.ndim < 2:
        return out
    if flipped:  # value (…, d, k) @ matrixᵀ (…, k, q)
        raw = _applied(tag, right.transpose(-2, -1), left.transpose(-2, -1), out.transpose(-2, -1), _swap)
    else:
        raw = _applied(tag, left, right, out, _same)
    return _decide(mode, raw, out, left if not flipped else right)


def _same(output: Tensor) -> Tensor:
    return output


def _swap(output: Tensor) -> Tensor:
    return output.transpose(-2, -1)


def _applied(
    tag: Tag, matrix: Tensor, value: Tensor, output: Tensor, restore: Callable[[Tensor], Tensor]
) -> RawAttention:
    softmax = tag.source if tag.source.shape == matrix.shape and tag.source is not matrix else matrix
    return RawAttention(
        value, output, softmax=softmax, matrix=matrix, queries=tag.queries, restore=restore
    )


def _decide(mode: Interceptor, raw: RawAttention, out: Tensor, tagged: Tensor) -> Tensor:
    if mode.watcher.is_attention(mode.next_event(), raw):
        return mode.report(raw, out)
    mode._hand_on("", tagged, out)
    return out


def _einsum(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    operands = list(args[1]) if len(args) == 2 and isinstance(args[1], list | tuple) else list(args[1:])
    tags = [mode.tag(t) for t in operands]
    if len(operands) != 2 or not isinstance(args[0], str) or not any(tags):
        if len(operands) == 2 and any(tags):
            mode._hand_on("", operands[0], out)
        return out
    side = 0 if tags[0] else 1
    raw = _from_einsum(args[0], operands[side], operands[1 - side], out, tags[side])  # type: ignore[arg-type]
    if raw is None:
        mode._hand_on("", operands[side], out)
        return out
    return _decide(mode, raw, out, operands[side])


def _from_einsum(equation: str, matrix: Tensor, value: Tensor, out: Tensor, tag: Tag) -> RawAttention | None:
    """An einsum of two operands as batched matrix (…, q, k) @ value (…, k, d), by its letters."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    if not arrow or "." in equation:
        return None
    p, v = names[:2] if _fits(names, matrix, value) else names[1::-1]
    summed = [c for c in p if c in v and c not in result]
    batch = [c for c in p if c in v and c in result]
    rows = [c for c in p if c not in v and c in result]
    columns = [c for c in v if c not in p and c in result]
    if len(summed) != 1 or sorted(result) != sorted(batch + rows + columns):
        return None

    def bring(tensor: Tensor, has: str, first: list[str], second: list[str]) -> Tensor:
        moved = tensor.permute([has.index(c) for c in batch + first + second])
        if not first or not second:
            return moved
        return moved.flatten(len(batch), len(batch) + len(first) - 1).flatten(-len(second))

    if not rows or not columns:
        return None
    output = bring(out, result, rows, columns)
    sizes = [out.shape[result.index(c)] for c in batch + rows + columns]
    back = [(batch + rows + columns).index(c) for c in result]

    def restore(changed: Tensor) -> Tensor:
        return changed.reshape(sizes).permute(back)

    made = bring(matrix, p, rows, summed)
    source = bring(tag.source, p, rows, summed) if tag.source.shape == matrix.shape else made
    return RawAttention(
        bring(value, v, summed, columns), output, softmax=source, matrix=made, queries=tag.queries, restore=restore
    )


def _fits(names: list[str], first: Tensor, second: Tensor) -> bool:
    if len(names[0]) != first.ndim or len(names[1]) != second.ndim:
        return False
    sizes: dict[str, int] = {}
    pairs = [*zip(names[0], first.shape, strict=True), *zip(names[1], second.shape, strict=True)]
    return all(sizes.setdefault(c, n) == n for c, n in pairs)


def _multiply(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """A tagged operand times features is a gate; times anything else it stays what it is."""
    if not mode._tags or len(args) < 2:
        return func(*args, **kwargs)
    tags = [mode.tag(t) for t in args[:2]]
    if not any(tags) or not all(isinstance(t, Tensor) and t.ndim for t in args[:2]):
        out = func(*args, **kwargs)
        for tensor in args[:2]:
            mode._hand_on("", tensor, out)
        return out
    side = 1 if tags[1] else 0  # both tagged: the later operand gates the earlier one
    tag = tags[side]
    features = args[1 - side]
    raw = RawGate(tag.gate, features, tag.activation)  # type: ignore[union-attr]
    if mode.watcher.is_gate(mode.next_event(), raw):
        return func(*args, **kwargs)
    out = func(*args, **kwargs)
    for tensor in args[:2]:
        mode._hand_on("", tensor, out)
    return out


def _elementwise(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """Sums and quotients stay tagged by either operand: 1 + sigmoid, position and content mixed, normalised again.

    Of two softmaxes the one that was taken over queries names the result (ConViT adds one of positions alone).
    """
    out = func(*args, **kwargs)
    if mode._tags and isinstance(out, Tensor):
        for tensor in sorted(args[:2], key=lambda t: getattr(mode.tag(t), "queries", False)):
            tag = mode.tag(tensor)
            if tag is not None and tensor.shape == out.shape and tag.source.numel() == out.numel():
                mode._hand_on("", tensor, out)
    return out


def _multi_head(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """A mode is off inside the functions it handles. This one is Python, so it is run again with the mode on."""
    with _seen_from_inside(), mode:
        return func(*args, **kwargs)


@contextmanager
def _seen_from_inside() -> Iterator[None]:
    """`torch.nn.functional`'s own check for overrides off, else the function would hand itself to the mode for ever."""
    names = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    originals = {n: getattr(F, n) for n in names}
    try:
        for n in names:
            setattr(F, n, lambda *_: False)
        yield
    finally:
        for n, original in originals.items():
            setattr(F, n, original)


ACTIVATIONS = {"softmax": "softmax", "sigmoid": "sigmoid", "expit": "sigmoid", "hardsigmoid": "hard_sigmoid"}
EXPANDING = {"expand", "expand_as", "repeat", "broadcast_to", "tile", "interpolate", "repeat_interleave"}
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("softmax", "sigmoid", "sigmoid_", "expit", "hardsigmoid"), _activation),
    **dict.fromkeys(("relu6", "clamp", "clamp_", "hardtanh", "hardtanh_"), _clamp),
    **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "bmm"), _product),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply"), _multiply),
    **dict.fromkeys(
        ("add", "__add__", "__radd__", "add_", "__iadd__", "sub", "__sub__", "__rsub__", "rsub", "div", "__truediv__",
         "div_", "__itruediv__", "__rtruediv__", "true_divide"), _elementwise),
    "scaled_dot_product_attention": _fused,
    "multi_head_attention_forward": _multi_head,
    "einsum": _einsum,
}  # fmt: skip
