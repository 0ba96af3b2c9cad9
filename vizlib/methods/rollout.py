"""Attention rollout, gradient rollout and Chefer relevance, as mass that flows back through the attention operations.

A unit of mass lies on the tokens that the head reads. From the last operation to the first, part of it stays
where it is (the residual stream) and part is carried to the keys by the rows of the attention matrix. Between
token grids it moves by area overlap of the cells. For a plain ViT that is the class-token row of the product
of all matrices, without ever forming them; the same walk goes through windows, shifts, grids, pooled keys and
hybrids.

What the walk leaves out: convolutions and MLPs between the operations, and attention over channels, count as
local; a token's own value, its sign and the value projection are not looked at. A map says how attention
could have carried information, not what the answer was made of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from vizlib.attention import Attention
from vizlib.methods.fusion import Fused, Fusion, above_zero, check_share
from vizlib.tokens import Tokens, regrid
from vizlib.types import Trace

Start = Literal["read", "class", "mean"] | int | tuple[float, float]
# slots' mass (b, g, q) -> what stays on them (b, g, q) and what goes to the keys (b, g, k)
Carry = Callable[[Attention, Tensor], tuple[Tensor, Tensor]]


def rollout(
    trace: Trace,
    *,
    fusion: Fusion = "mean",
    discard: float = 0.0,
    start_layer: int = 0,
    residual: float = 0.5,
    start: Start = "read",
) -> Tensor:
    """Attention rollout: m <- α m + (1 - α) m Ā, from the last operation back to the first.

    Args:
        fusion: how the heads are joined to Ā, entry by entry; every row is then scaled to sum to 1 again.
        discard: share of each row of Ā, from its smallest entries on, that is set to zero; the rest is scaled up.
        start_layer: number of the first step that is used; later ones only where > 0.
        residual: α, the share that the residual stream keeps.
        start: "read" (what the logits depend on), "class" token, "mean" of all tokens, the number of a prefix
            token, or an image point (row, column) in [0, 1].

    Returns:
        (b, r, s) share of the mass that ends on each patch; together with the prefix tokens it sums to 1.

    Raises:
        ValueError: an option that cannot be.
        RuntimeError: the model has no attention between places, or tokens in separate streams.

    Source: Abnar, Zuidema 2020, Quantifying Attention Flow in Transformers, arXiv 2005.00928; max, min and discarding:
    Gildenblat 2020, the vit-explain repository.
    Deviations: the published form is for one global token set; grids are joined by area overlap. vit-explain discards
    over the whole matrix, not row by row, and spares the class token's column.
    """
    check_share("residual", residual)
    fused = Fused(fusion, discard)

    def carry(attention: Attention, mass: Tensor) -> tuple[Tensor, Tensor]:
        return residual * mass, (1 - residual) * fused.carry(attention, mass)

    return _walk(trace, carry, "rollout", start_layer, start)


def gradient_rollout(
    trace: Trace,
    *,
    fusion: Fusion = "mean",
    discard: float = 0.0,
    start_layer: int = 0,
    residual: float = 0.5,
    start: Start = "read",
) -> Tensor:
    """Rollout over Ā = relu(∇A ⊙ A) joined over heads, each row of α I + (1 - α) Ā scaled to sum to 1.

    Args:
        fusion, discard: as in `rollout`, but the rows of Ā are not scaled by themselves: how far a row falls short of
            1 is how little the target depends on it, and the residual stream takes a larger share there.
        start_layer, residual, start: as in `rollout`; the trace needs gradients.

    Returns:
        (b, r, s) share of the mass that attention has carried to each patch, ≥ 0.

    Raises: as `rollout`.

    Source: Abnar, Zuidema 2020 (arXiv 2005.00928) with the gradient weighting of Chefer, Gur, Wolf 2021
    (CVPR), arXiv 2012.09838.
    Deviations: the relu is taken for each head, before they are joined. Mass that only the residual streams kept is
    taken out. It lies where it started: on the class token, which is not drawn; under a head that averages the patches
    it would lie on all of them and drown what attention carries, since the rows of Ā sum to thousandths.
    """
    check_share("residual", residual)
    fused = Fused(fusion, discard, relevance=True)

    def scaled(attention: Attention, mass: Tensor) -> Tensor:
        """Mass per slot over the sum of its row."""
        return mass / above_zero(residual + (1 - residual) * fused.sums(attention))

    def carry(attention: Attention, mass: Tensor) -> tuple[Tensor, Tensor]:
        each = scaled(attention, mass)
        return residual * each, (1 - residual) * fused.carry(attention, each)

    def stay(attention: Attention, mass: Tensor) -> tuple[Tensor, Tensor]:
        return residual * scaled(attention, mass), _nothing(attention, mass)

    carried, stayed = (_walk(trace, how, "gradient_rollout", start_layer, start) for how in (carry, stay))
    return (carried - stayed).clamp(min=0)  # below 0 by rounding alone


def chefer(
    trace: Trace,
    *,
    fusion: Fusion = "mean",
    discard: float = 0.0,
    start_layer: int = 0,
    start: Start = "read",
) -> Tensor:
    """Chefer relevance, R - I by the self-attention rule R <- R + Ā R with Ā = relu(∇A ⊙ A) joined over heads.

    Args:
        fusion, discard: as in `rollout`, but the rows of Ā are never scaled: relevance is no share of anything. The
            paper has the mean and discards nothing.
        start_layer, start: as in `rollout`; the trace needs gradients.

    There is no residual share: the rule adds the residual stream whole.

    Returns:
        (b, r, s) relevance of each patch for the start token's row, ≥ 0.

    Raises: as `rollout`.

    Source: Chefer, Gur, Wolf 2021, Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers, arXiv 2103.15679, eq. 5 and 6.
    Deviation: the identity, with which R begins, is taken out. It lies on the class token, which is not drawn; under a
    head that averages the patches it would lie on all of them and drown what attention adds.
    """
    fused = Fused(fusion, discard, relevance=True)

    def carry(attention: Attention, mass: Tensor) -> tuple[Tensor, Tensor]:
        return mass, fused.carry(attention, mass)

    def stay(attention: Attention, mass: Tensor) -> tuple[Tensor, Tensor]:
        return mass, _nothing(attention, mass)

    relevance, identity = (_walk(trace, how, "chefer", start_layer, start) for how in (carry, stay))
    return relevance - identity


def _nothing(attention: Attention, mass: Tensor) -> Tensor:
    """No mass on any key slot: (b, g, k)."""
    return mass.new_zeros(*mass.shape[:2], attention.shape[4])


def _space(attention: Attention) -> Tokens:
    """The tokens of the stream that an operation writes into: its results' grid, with all the prefix tokens it sees."""
    outputs, keys = attention.outputs, attention.keys
    grid = outputs.grid or keys.grid
    return Tokens(grid, max(outputs.prefix, keys.prefix), outputs.index[..., :0])


def _within(tokens: Tokens, space: Tokens) -> Tokens:
    """Slots of an operation, numbered as tokens of a stream with more prefix tokens."""
    shift = space.prefix - tokens.prefix
    index = torch.where(tokens.index >= tokens.prefix, tokens.index + shift, tokens.index) if shift else tokens.index
    grid = tokens.grid or space.grid
    return Tokens(grid, space.prefix, index)


def _walk(trace: Trace, carry: Carry, method: str, start_layer: int, start: Start) -> Tensor:
    if not trace.steps or trace.obstacle:
        raise RuntimeError(
            f"{method} needs attention from places to places in one stream of tokens; {trace.model}: {trace.obstacle}. "
            f"Use a class activation map, such as 'gradcam'."
        )
    if not isinstance(start_layer, int) or not 0 <= start_layer < len(trace.steps):
        raise ValueError(
            f"start_layer is a number from 0 to {len(trace.steps) - 1} for {trace.model}; got {start_layer!r}. At 0, "
            f"all layers take part."
        )
    used = trace.steps[start_layer:]
    missing = [n for step in used for n in step if n not in trace.attentions]
    if missing:
        raise ValueError(
            f"{method} needs all attention operations from its start layer on; this trace lacks {', '.join(missing)}. "
            f"Leave layers out of trace(…)."
        )
    steps = [[trace.attentions[n] for n in step] for step in used]
    space = _space(steps[-1][0])
    mass = _first_mass(trace, steps[-1][0], space, start)
    for step in reversed(steps):
        mass, space = _back(step, mass, space, carry)
    if space.grid is None:
        raise RuntimeError(f"{method} ended on tokens without places in {trace.model}. Use 'gradcam'.")
    return space.patches(mass)


def _back(step: list[Attention], mass: Tensor, space: Tokens, carry: Carry) -> tuple[Tensor, Tokens]:
    """One step back: through operations that stand side by side, each with the share of channels that it writes."""
    own = _space(step[0])
    mass = regrid(mass, space, own)
    finest = max((_space(step[0]), *(_keys(a) for a in step)), key=lambda t: t.grid[0] * t.grid[1] if t.grid else 0)
    total = regrid(mass * 0, own, finest)
    width = sum(a.width for a in step)
    for attention in step:
        outputs, keys = _within(attention.outputs, own), _within(attention.keys, _keys(attention))
        share = attention.width / width
        kept, carried = carry(attention, outputs.gather(mass) * share)
        untouched = mass * share * ~outputs.present().to(mass.device)  # tokens that this operation does not write
        total = total + regrid(untouched + outputs.scatter(kept), own, finest)
        total = total + regrid(keys.scatter(carried), _keys(attention), finest)
    return total, finest


def _keys(attention: Attention) -> Tokens:
    keys = attention.keys
    return Tokens(keys.grid, max(keys.prefix, attention.outputs.prefix), keys.index[..., :0])


def _first_mass(trace: Trace, last: Attention, space: Tokens, start: Start) -> Tensor:
    """Unit mass (b, p + r·s) on the start tokens."""
    b = len(trace.logits)
    outputs = _within(last.outputs, space)
    index = outputs.index.to(trace.logits.device)
    if start == "read" and last.name in trace.start:
        chosen = trace.start[last.name].to(index.device)[None] & (index >= 0)
    elif start in ("class", "read") and space.prefix:
        chosen = index == 0
    elif start in ("mean", "read"):
        chosen = index >= space.prefix
    elif isinstance(start, tuple):
        chosen = outputs.slots_at(start)
    elif isinstance(start, int) and 0 <= start < space.prefix:
        chosen = index == start
    else:
        raise ValueError(
            f"start is 'read', 'class', 'mean', a prefix token below {space.prefix} or an image point (row, column); "
            f"got {start!r} for {trace.model}."
        )
    mass = outputs.scatter(chosen.to(torch.float32).expand(b, -1, -1))
    total = mass.sum(1, keepdim=True)
    if not bool(total.all()):
        raise _nothing_to_start_on(trace, last, start, int((total == 0).nonzero()[0, 0]))
    return mass / total


def _nothing_to_start_on(trace: Trace, last: Attention, start: Start, photo: int) -> Exception:
    if start == "read":
        return RuntimeError(
            f"a start is needed; the logits of {trace.model} depend on no result of its last attention {last.name!r}. "
            f"Is that branch still at its zero initialisation? Load trained weights, or name a start token."
        )
    return ValueError(
        f"a start that is there is needed; {start!r} is no token of {last.name!r} in photograph {photo}, it was "
        f"dropped before. Name another point, or 'read'."
    )
