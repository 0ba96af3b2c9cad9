"""Which attention heads a classifier would miss, and the same classifier without the others."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from timm.layers import Attention as TimmAttention
from torch import Tensor

from vizlib.capture.trace import trace
from vizlib.measure.claims.corrected import prune_heads
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
        ValueError: the attention is not timm's plain one, where a head is a block of rows; or none of its heads stays.
    """
    module = copy.deepcopy(clf.module)
    for name, gone in heads.items():
        attention: Any = module.get_submodule(name)
        if not isinstance(attention, TimmAttention):
            raise ValueError(
                f"cutting heads out needs timm's Attention; {name!r} is {type(attention).__name__}. "
                f"Use vl.ablate, which silences heads in any model."
            )
        keep = [head for head in range(attention.num_heads) if head not in gone]
        if not keep:
            raise ValueError(f"at least one head of {name!r} must stay; all {attention.num_heads} were to go.")
        prune_heads(attention, keep)
    count = sum(len(gone) for gone in heads.values())
    return replace(clf, module=module, name=f"{clf.name}, {count} heads less")
