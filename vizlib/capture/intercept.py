"""Every attention operation and gate of one forward, found by what is computed and not by module class.

- `scaled_dot_product_attention` is let run as it is and its q, k, v are kept.
- A softmax result is tagged; the first product with another activation that it enters (through dropout, head mixing,
  reshapes) is an attention operation with that matrix.
- A product is remembered with its factors; features times a product of features and values is linear attention.
- A sigmoid, hard-sigmoid or softmax result that multiplies features is a gate.

Which of the products and multiplications are the real thing is decided once per model, in the study of `anatomy.py`
(which sees places and values); later runs follow that decision by the number of the event.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from vizlib.capture import products
from vizlib.capture.events import Product, RawAttention, RawGate, Tag, Watcher


class Interceptor(TorchFunctionMode):
    """Reports the attention operations and gates of everything that runs inside."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self.watcher = watcher
        self.events = 0
        self._tags: dict[int, Tag] = {}
        self._products: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        handler = HANDLERS.get(name)
        if handler is not None:
            return handler(self, func, args, kwargs)
        out = func(*args, **kwargs)
        if self._tags and args and isinstance(args[0], Tensor):
            self.hand_on(name, args[0], out)
        if name in ALIKE and isinstance(out, Tensor) and (made := self.product(args[0])) is not None:
            self._products[out] = made
        return out

    def tag(self, tensor: Any) -> Tag | None:
        found = self._tags.get(id(tensor))
        return found if found is not None and found.tensor() is tensor else None

    def _put(self, tensor: Tensor, activation: str, source: Tensor, gate: Tensor, queries: bool) -> None:
        key = id(tensor)
        self._tags[key] = Tag(
            weakref.ref(tensor, lambda _: self._tags.pop(key, None)), activation, source, gate, queries
        )

    def product(self, tensor: Any) -> Product | None:
        """The factors of a tensor that is a product."""
        found: Product | None = self._products.get(tensor) if isinstance(tensor, Tensor) else None
        return found

    def made(self, tensor: Tensor, left: Tensor, right: Tensor) -> None:
        self._products[tensor] = Product(left, right)

    def hand_on(self, name: str, tensor: Any, out: Any) -> None:
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
    raw = RawAttention(v, out, q, k, given.get("attn_mask"), bool(given.get("is_causal")), scale)
    return mode.report(products.with_inner(raw, mode.product(v)), out)


def _multiply(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """A tagged operand times features is a gate; times anything else it stays what it is.

    Attention weights that go through a gate (ConViT's share of content, a value per head) stay attention weights.
    """
    if not mode._tags or len(args) < 2:
        return func(*args, **kwargs)
    tags = [mode.tag(t) for t in args[:2]]
    if not any(tags) or not all(isinstance(t, Tensor) and t.ndim for t in args[:2]):
        out = func(*args, **kwargs)
        for tensor in args[:2]:
            mode.hand_on("", tensor, out)
        return out
    side = _gating(tags, args)
    tag, features, other = tags[side], args[1 - side], tags[1 - side]
    weights = other is not None and other.activation == "softmax" and other.queries
    raw = RawGate(tag.gate, features, tag.activation, weights)  # type: ignore[union-attr]
    if mode.watcher.is_gate(mode.next_event(), raw):
        held = mode.watcher.gate(mode.events - 1, raw)
        operands = args if held is None else (*args[:side], _as_made_of(args[side], held), *args[side + 1 :])
        out = func(*operands, **kwargs)
        if weights:
            mode.hand_on("", features, out)
        return out
    out = func(*args, **kwargs)
    for tensor in args[:2]:
        mode.hand_on("", tensor, out)
    return out


def _as_made_of(gate: Tensor, held: Tensor) -> Tensor:
    """The held values as a tensor that derives from the gate, so that whoever else watches still sees a gate."""
    return gate.expand(torch.broadcast_shapes(gate.shape, held.shape)).clone().copy_(held)


def _gating(tags: list[Tag | None], operands: Any) -> int:
    """Which operand is the gate: the tagged one; of two the smaller; of two alike the later."""
    if all(tags):
        return int(operands[1].numel() <= operands[0].numel())
    return 1 if tags[1] else 0


def _elementwise(mode: Interceptor, func: Any, args: Any, kwargs: Any) -> Any:
    """Sums and quotients stay tagged by either operand: 1 + sigmoid, position and content mixed, normalised again.

    Of two softmaxes the one that was taken over queries names the result (ConViT adds one of positions alone).
    """
    out = func(*args, **kwargs)
    if mode._tags and isinstance(out, Tensor):
        for tensor in sorted(args[:2], key=lambda t: getattr(mode.tag(t), "queries", False)):
            tag = mode.tag(tensor)
            if tag is not None and tensor.shape == out.shape and tag.source.numel() == out.numel():
                mode.hand_on("", tensor, out)
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
ALIKE = {"to", "float", "half", "bfloat16", "type_as", "contiguous", "clone", "dropout"}  # a product stays one
EXPANDING = {"expand", "expand_as", "repeat", "broadcast_to", "tile", "interpolate", "repeat_interleave"}
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("softmax", "sigmoid", "sigmoid_", "expit", "hardsigmoid"), _activation),
    **dict.fromkeys(("relu6", "clamp", "clamp_", "hardtanh", "hardtanh_"), _clamp),
    **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "bmm"), products.product),
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "mul_", "__imul__", "multiply"), _multiply),
    **dict.fromkeys(
        ("add", "__add__", "__radd__", "add_", "__iadd__", "sub", "__sub__", "__rsub__", "rsub", "div", "__truediv__",
         "div_", "__itruediv__", "__rtruediv__", "true_divide"), _elementwise),
    "scaled_dot_product_attention": _fused,
    "multi_head_attention_forward": _multi_head,
    "einsum": products.einsum,
}  # fmt: skip
