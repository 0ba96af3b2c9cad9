"""What hover.js draws: the attention of one photograph as bytes, and a page fragment that holds them.

Rows of attention weights travel as they lie in the operation, by group and slot, together with the places
of the slots; the browser adds them up where they belong. A row is 8 bits a weight and one float that says
what 255 means: its largest weight on a patch. Weights on prefix tokens, often far larger, are apart.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vizlib.attention import Attention
from vizlib.show import colour
from vizlib.show.assets import asset, module, packed
from vizlib.tokens import Tokens
from vizlib.types import Trace

State = dict[str, Any]
COLOURS = ("inferno", "viridis", "magma", "cividis", "gray")
LIMIT = 24_000_000  # bytes of weights that one model may send at once


def hover_state(
    trace: Trace,
    photo: int = 0,
    *,
    background: Tensor | None = None,
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    limit: int = LIMIT,
) -> State:
    """What the browser needs to draw the attention of one photograph: numbers, texts and bytes.

    Args:
        photo: which photograph of the batch.
        background: (3, h, w) in [0, 1] to lay the weights over; by default the model's input.
        box: which part of the photograph the model saw: left, top, right, bottom in [0, 1].
        limit: bytes of weights; what goes beyond is left out, the first layers first. A layer without weights
            has `rows` None: the widget fetches it when it is chosen, a saved page says that it is not there.

    Raises:
        ValueError: no operation has weights over places, or the batch has no such photograph.
    """
    if not 0 <= photo < len(trace.input):
        raise ValueError(f"the trace has photographs 0 to {len(trace.input) - 1}; got {photo}. Name one of these.")
    drawn = drawable(trace)
    room, layers = limit, []
    for attention in reversed(drawn):
        room -= int(np.prod(attention.shape[1:]))
        layers.append(_layer(attention, photo) | (layer_rows(attention, photo) if room >= 0 else _NO_ROWS))
    image = trace.image[photo] if background is None else background
    target = int(trace.target[photo])
    label = trace.labels[photo] if trace.labels else f"class {target}"
    return {
        "model": trace.model,
        "caption": f"{label}, {float(trace.logits[photo].softmax(-1)[target]):.0%}",
        "aspect": image.shape[-2] / image.shape[-1],
        "photo": _png(image),
        "box": list(box),
        "layers": layers[::-1],
        "colours": {name: colour.table(name) for name in COLOURS},
    }


def drawable(trace: Trace) -> list[Attention]:
    """The operations whose weights lie on places of the image, in execution order.

    Raises:
        ValueError: there is none.
    """
    found = [a for a in trace.attentions.values() if a.shares]
    if not found:
        raise ValueError(
            f"hovering needs attention over places of the image; {trace.model} has {trace.kinds}. "
            f"Compare its class activation maps instead: vl.compare(models, photo, methods=['gradcam'])."
        )
    return found


def layer_rows(attention: Attention, photo: int) -> State:
    """The weights of an operation: rows (g, a, q, k) uint8, scale and prefix mass (g, a, q) float32."""
    one = _of(attention, photo)
    _, g, a, q, k = one.shape
    rows, scale, prefix = np.empty((g, a, q, k), np.uint8), *np.empty((2, g, a, q), np.float32)
    index = one.keys.index[0].to(one.output.device)[:, None, None]  # (g, 1, 1, k)
    patch = (index >= one.keys.prefix).float()
    special = ((index >= 0) & (index < one.keys.prefix)).float()
    for part, weights in one.tiles():
        weights = weights[0].float()
        on_patch = weights * patch
        top = on_patch.amax(-1)
        rows[..., part, :] = _shades(on_patch, top[..., None])
        scale[..., part] = top.cpu()
        prefix[..., part] = (weights * special).sum(-1).cpu()
    return {"rows": rows.tobytes(), "scale": scale.tobytes(), "prefixMass": prefix.tobytes()}


_NO_ROWS: State = {"rows": None, "scale": None, "prefixMass": None}


def _layer(attention: Attention, photo: int) -> State:
    """Everything about an operation except its rows: names, places, a thumbnail per head."""
    one = _of(attention, photo)
    asks = _askers(one)
    called = "latent query" if asks.grid is None else "class token" if asks.prefix == 1 else "prefix token"
    first = asks.prefix > 0 and bool((asks.index == 0).any())
    thumbs, top = _thumbnails(one, asks.index == 0 if first else asks.index >= 0)
    return {
        "name": one.name,
        "shape": list(one.shape[1:]),
        "queries": _places(asks) | {"called": called},
        "keys": _places(one.keys),
        "thumbs": thumbs,
        "thumbScale": top,
        "thumbsOf": called if first else "mean over queries",
    }


def _askers(one: Attention) -> Tokens:
    """Which token each query slot stands for; queries without places count as prefix tokens, by number."""
    tokens = one.outputs if one.outputs.grid else one.queries
    if tokens.grid is not None:
        return tokens
    _, g, _, q, _ = one.shape
    return Tokens(None, q, torch.arange(q).expand(1, g, q))


def _places(tokens: Tokens) -> State:
    index = tokens.index[0].cpu().numpy().astype("<i4").tobytes()
    return {"grid": list(tokens.grid) if tokens.grid else None, "prefix": tokens.prefix, "index": index}


def _thumbnails(one: Attention, asked: Tensor) -> tuple[bytes, bytes]:
    """What the asked query slots (1, g, q) attend to on average, per head: (a, r, s) uint8, and what 255 means."""
    mass = asked.to(one.output.device).float()
    carried = one.carry(mass / mass.sum())[0]  # (g, a, k)
    pictures = one.keys.patches(one.keys.scatter(carried.transpose(0, 1)))
    top = pictures.amax((1, 2), keepdim=True)
    return _shades(pictures, top).numpy().tobytes(), top.float().cpu().numpy().tobytes()


def _shades(values: Tensor, top: Tensor) -> Tensor:
    """Values from 0 to `top` as uint8."""
    return (values * (255 / top.clamp(min=torch.finfo(torch.float32).tiny))).round().to(torch.uint8).cpu()


def _of(attention: Attention, photo: int) -> Attention:
    """The operation of one photograph alone, a batch of one."""

    def pick(tensor: Tensor) -> Tensor:
        return tensor[photo : photo + 1] if len(tensor) > 1 else tensor

    chosen: dict[str, Any] = {}
    for name, value in vars(attention).items():
        if isinstance(value, Tensor):
            chosen[name] = pick(value)
        elif isinstance(value, Tokens):
            chosen[name] = replace(value, index=pick(value.index))
    return replace(attention, **chosen)


def _png(image: Tensor) -> bytes:
    """An image (3 or 1, h, w) in [0, 1]."""
    pixels = (image.detach().float().cpu().permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).convert("RGB").save(file, "PNG")
    return file.getvalue()


def hover_html(states: Sequence[State]) -> str:
    """The models side by side as a fragment of a page that needs no network and no kernel.

    Args:
        states: what `hover_state` made of each model.
    """
    state = packed({"panels": list(states)})
    name = f"vizlib-hover-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
    return (
        f'<style>\n{asset("hover.css")}</style>\n<div id="{name}"></div>\n'
        f'<script type="application/json" id="{name}-state">{state}</script>\n'
        f'<script type="module">\n{module("hover.js")}\n'
        f'const state = JSON.parse(document.getElementById("{name}-state").textContent);\n'
        f'mountHover(document.getElementById("{name}"), state);\n</script>\n'
    )
