"""Which attention heads a classifier would miss, and the same classifier without the others."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from timm.layers import Attention as PlainAttention
from timm.models.swin_transformer import WindowAttention
from torch import Tensor, nn

from vizlib.capture.trace import trace
from vizlib.types import Classifier


def head_importance(
    clf: Classifier, photos: Any, labels: Sequence[int] | None = None, *, batch: int = 32
) -> pd.DataFrame:
    """How much the loss would change if a head were turned down a little, and its mean attention weight.

        importance  I = mean over photographs of | Σ O · ∂L/∂O |, with the head's output O, loss L,
        divided by √(Σ I²) over the heads of the operation

        mean_score  mean over photographs, queries and keys of the head's weights

    The second is a rule that is often read and says nothing: every row of weights sums to 1, so its mean over k keys is
    1/k for every head, whatever the head looks at.

    Args:
        photos: as `trace` takes them.
        labels: (n,) true class indices; default: the classes that the classifier predicts.

    Returns:
        A row per head, in execution order: `layer`, `head`, `importance` (0 and up; 1 would be a layer's only head of
        any), `mean_score`, `spread` (standard deviation of the weights over the keys, mean over all rows).

    Raises:
        ValueError: the classifier has no spatial attention.

    Source: Michel, Levy, Neubig 2019, Are Sixteen Heads Really Better than One?, arXiv 1905.10650, equation 2.
    """
    x = clf.prepare(photos)
    target = clf(x).argmax(1) if labels is None else torch.as_tensor(labels, device=x.device).long()
    sums: dict[str, Tensor] = {}
    for part, wanted in zip(x.split(batch), target.split(batch), strict=True):
        run = trace(
            clf, part, target=lambda logits, t=wanted: -F.cross_entropy(logits, t, reduction="none"), gradients=True
        )
        for attention in run.attentions.values():
            if attention.kind == "spatial" and attention.gradient is not None:
                slope = (attention.output * attention.gradient).double().sum((1, 3, 4)).abs()  # (b, a)
                weights = attention.weights().double()
                seen = torch.stack([weights.mean((1, 3, 4)), weights.std(-1).mean((1, 3))])
                found = torch.cat([slope[None], seen]).sum(1)  # (3, a)
                sums[attention.name] = sums.get(attention.name, torch.zeros_like(found)) + found
    if not sums:
        raise ValueError(f"head importance needs attention over places; {clf.name} has none. See vl.summary.")
    tables = []
    for name, found in sums.items():
        importance, mean, spread = found / len(x)
        importance = importance / importance.norm().clamp_min(1e-30)
        numbers = {"importance": importance.tolist(), "mean_score": mean.tolist(), "spread": spread.tolist()}
        tables.append(pd.DataFrame({"layer": name, "head": range(len(importance)), **numbers}))
    return pd.concat(tables, ignore_index=True)


def least(table: pd.DataFrame, share: float, by: str = "importance") -> dict[str, list[int]]:
    """The heads with the lowest values of a column, as `ablate` and `without_heads` take them; one a layer stays.

    Args:
        table: of `head_importance`.
        share: of all heads, in (0, 1).
    """
    best = table.groupby("layer")[by].idxmax()
    order = table.drop(best).sort_values(by, kind="stable").head(round(share * len(table)))
    return {str(layer): sorted(rows["head"]) for layer, rows in order.groupby("layer")}


def without_heads(clf: Classifier, heads: Mapping[str, Sequence[int]]) -> Classifier:
    """A classifier from which heads are cut out, so that it is smaller; `vl.ablate` silences them in any model.

    Args:
        heads: attention operation -> heads that go, by the names that `trace` uses.

    Raises:
        ValueError: as `prune_heads`.
    """
    module = copy.deepcopy(clf.module)
    for name, gone in heads.items():
        attention: Any = module.get_submodule(name)
        prune_heads(attention, [head for head in range(getattr(attention, "num_heads", 0)) if head not in gone])
    count = sum(len(gone) for gone in heads.values())
    return replace(clf, module=module, name=f"{clf.name}, {count} heads less")


def prune_heads(attention: Any, keep: Sequence[int]) -> None:
    """Cut heads out of an attention of timm's, in place: its rows of `qkv`, columns of `proj` and position biases.

    The heads that stay work as before.

    Args:
        attention: timm's `Attention` (ViT, DeiT) or Swin's `WindowAttention`.
        keep: numbers of the heads that stay, in order.

    Raises:
        ValueError: another kind of attention, where a head is no block of rows of its own; or no head stays.

    Source: Michel et al. 2019, Are Sixteen Heads Really Better than One?, arXiv 1905.10650.
    """
    if not _is_cuttable(attention):
        raise ValueError(
            f"cutting heads out needs timm's plain or windowed attention, without a gate or norm over all heads; got "
            f"{type(attention).__name__}. Use vl.ablate, which silences heads in any model."
        )
    if not keep:
        raise ValueError(f"one head of an attention must stay; all {attention.num_heads} were to go. Keep one.")
    heads = attention.num_heads
    wide = attention.qkv.out_features // 3 // heads
    rows = torch.arange(heads * wide).view(heads, wide)[list(keep)].flatten()
    attention.qkv = _part(attention.qkv, torch.cat([rows + part * heads * wide for part in range(3)]), 0)
    attention.proj = _part(attention.proj, rows, 1)
    attention.num_heads, attention.attn_dim = len(keep), len(rows)
    if isinstance(attention, WindowAttention):
        biases = attention.relative_position_bias_table.detach()  # (offsets, heads)
        attention.relative_position_bias_table = nn.Parameter(biases[:, list(keep)])


def _is_cuttable(attention: Any) -> bool:
    if isinstance(attention, PlainAttention):
        return attention.gate is None and isinstance(attention.norm, nn.Identity)
    return isinstance(attention, WindowAttention)


def _part(linear: nn.Linear, chosen: Tensor, axis: int) -> nn.Linear:
    """A linear layer with only the chosen outputs (axis 0) or inputs (axis 1)."""
    weight = linear.weight.detach().index_select(axis, chosen.to(linear.weight.device))
    bias = linear.bias
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, "meta")  # draws no random weights
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach()[chosen] if axis == 0 else bias.detach().clone())
    return made
