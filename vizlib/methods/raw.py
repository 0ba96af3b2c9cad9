"""Raw attention as a map: what one query of one operation attends to."""

from __future__ import annotations

import difflib
from typing import Literal

from torch import Tensor

from vizlib.types import UNSEEN, Trace

Query = tuple[float, float] | int | Literal["mean"]


def attention(trace: Trace, layer: str, *, query: Query | None = None, head: int | None = None) -> Tensor:
    """The attention weights of one query, on the keys' grid: (b, r, s). Class-blind.

    Args:
        layer: name of the operation.
        query: an image point (row, column) in [0, 1], the number of a prefix token (0: the class token) or
            "mean"; by default the class token where there is one, else the mean over all queries.
        head: one head, or None for their mean.

    Raises:
        ValueError: no such operation, query or head.

    Source: Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762, eq. 1.
    """
    if layer not in trace.attentions:
        near = difflib.get_close_matches(layer, trace.attentions, 3, 0.3) or list(trace.attentions)[-3:]
        raise ValueError(
            f"the name of an attention operation of {trace.model} is needed; got {layer!r}. "
            f"{'Near ones: ' + ', '.join(near) if near else 'This model has none'}."
        )
    operation = trace.attentions[layer]
    if query is None:
        query = 0 if operation.outputs.prefix else "mean"
    return operation.heatmap(query, head).values


def last_spatial(trace: Trace) -> str:
    """The last attention operation whose keys lie in the image.

    Raises:
        RuntimeError: there is none.
    """
    spatial = [name for name, op in trace.attentions.items() if op.keys.grid is not None]
    if not spatial:
        found = ", ".join(f"{n} ({a.kind})" for n, a in trace.attentions.items()) or UNSEEN
        raise RuntimeError(
            f"a picture of attention needs keys that lie in the image; {trace.model} has {found}. "
            f"Use a class activation map, such as 'gradcam'."
        )
    return spatial[-1]
