"""A trained classifier taught new classes: all of its weights, low-rank changes to them (LoRA), or a new head alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vizlib.models.fit import fit
from vizlib.types import Classifier

How = Literal["full", "lora", "head"]
RATES = {"full": 5e-4, "lora": 3e-3, "head": 1e-2}  # fewer weights take longer steps


@dataclass(frozen=True, eq=False)
class Adapted:
    """A classifier of new classes.

    Attributes:
        clf: low-rank changes are added into its weights, so that its layers are those of the old one.
        trained: number of weights that were trained.
        whole: number of all weights.
        added: what has to be stored beside the old model: the trained weights, and for all of them the statistics of
            batch norms too.
    """

    clf: Classifier
    trained: int
    whole: int
    added: dict[str, Tensor] = field(repr=False)


def adapt(
    clf: Classifier,
    images: Any,
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    how: How = "lora",
    rank: int = 4,
    epochs: int = 8,
    lr: float | None = None,
    seed: int = 0,
) -> Adapted:
    """Teach a copy of a classifier new classes.

        LoRA   W' = W + B A · (α / rank),   A (rank, in), B (out, rank), α = 2 · rank; trained are A, B and the head

    Args:
        images, labels, classes, epochs: as `fit` takes them.
        how: "full" trains every weight, "lora" A and B of all linear layers and ungrouped convolutions, "head" the new
            last layer alone.
        rank: of the change of each layer.
        lr: highest learning rate; default: RATES[how].
        seed: of new weights and of the order of the photographs.

    Raises:
        ValueError: an unknown `how`, or a model that does not end in a linear layer.
        RuntimeError: peft is not installed.

    Source: Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685.
    """
    if how not in RATES:
        raise ValueError(f"how is one of {', '.join(RATES)}; got {how!r}. Take one.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module, head = _new_head(clf, len(classes))
        whole = sum(p.numel() for p in module.parameters())
        if how == "lora":
            module = _with_lora(module, head, rank)
        elif how == "head":
            for name, p in module.named_parameters():
                p.requires_grad_(name.startswith(f"{head}."))
    learns = {name: p.numel() for name, p in module.named_parameters() if p.requires_grad}
    x = clf.prepare(images if isinstance(images, Tensor) else list(images))
    size = clf.input_size[-1]
    found = fit(module, x, labels, classes, size=size, epochs=epochs, lr=lr or RATES[how], seed=seed)
    learned: Any = found.module
    added = {n: t.clone() for n, t in learned.state_dict().items() if how == "full" or n in learns}
    merged = learned.merge_and_unload() if how == "lora" else learned
    name = f"{clf.name}, {how}"
    new = Classifier(
        merged.requires_grad_(True).eval(), name, clf.transform, clf.input_size, clf.mean, clf.std, tuple(classes)
    )
    return Adapted(new, sum(learns.values()), whole, added)


def _new_head(clf: Classifier, classes: int) -> tuple[nn.Module, str]:
    """A copy with a fresh last layer, and that layer's path."""
    module: Any = copy.deepcopy(clf.module)
    linear = [name for name, m in module.named_modules() if isinstance(m, nn.Linear)]
    logits = clf(torch.zeros(1, *clf.input_size, device=clf.device, dtype=clf.dtype)).shape[1]
    if not linear or module.get_submodule(linear[-1]).out_features != logits:
        raise ValueError(
            f"new classes need a model that ends in a linear layer; {clf.name} does not. Replace its head."
        )
    old: Any = module.get_submodule(linear[-1])
    parent, _, name = linear[-1].rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Linear(old.in_features, classes).to(old.weight))
    if hasattr(module, "num_classes"):
        module.num_classes = classes  # what timm's models say of themselves
    return module, linear[-1]


def _with_lora(module: nn.Module, head: str, rank: int) -> nn.Module:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise RuntimeError("LoRA needs peft, which is missing. pip install 'vizlib[compress]'.") from None
    layers = [
        name
        for name, m in module.named_modules()
        if name != head and (isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1))
    ]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers, modules_to_save=[head])
    adapted: nn.Module = get_peft_model(module, config)
    return adapted
