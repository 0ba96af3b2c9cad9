"""A small classifier trained in seconds, to experiment with: what `train.py` is to the zoo, without its recipe."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import HybridEmbed
from timm.models import VisionTransformer
from torch import Tensor, nn

from vizlib.models.load import load
from vizlib.running import logits_of
from vizlib.types import Classifier

NETWORKS = ("cnn", "vit", "hybrid")


def fit(
    network: str | nn.Module,
    images: Any,
    labels: Sequence[int],
    classes: Sequence[str],
    *,
    size: int = 64,
    epochs: int = 8,
    batch: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
) -> Classifier:
    """Train a classifier on labelled pictures that fit into memory: AdamW, a cosine, mirrored pictures.

    Args:
        network: "cnn" (four convolutions), "vit" (four blocks, patches of 8) or "hybrid" (three of the CNN's
            convolutions, then two of the ViT's blocks), all under 200 000 parameters; or a module for pictures of
            `size`, of which a copy is trained.
        images: (n, h, w, 3) uint8, or any photographs that a classifier takes.
        labels: (n,) class of each.
        classes: their names.
        size: rows and columns of the model's input.
        lr: highest learning rate.
        seed: of the first weights and of the order. The caller's random state stays.

    Raises:
        ValueError: an unknown network, or labels that do not fit to images or classes.
    """
    target = torch.as_tensor(labels).long()
    if len(target) != len(images) or not 0 <= int(target.min()) <= int(target.max()) < len(classes):
        raise ValueError(
            f"a label from 0 to {len(classes) - 1} for each of {len(images)} images is needed; got {len(target)} from "
            f"{int(target.min())} to {int(target.max())}. Correct labels or classes."
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = _built(network, len(classes), size)
        name = network if isinstance(network, str) else "fit"
        clf = load(module, input_size=(3, size, size), crop_pct=1.0, labels=list(classes), name=name)
        x = clf.prepare(images if isinstance(images, Tensor) else list(images))
        _train(clf.module, x, target.to(x.device), epochs, batch, lr)
    return clf


def _built(network: str | nn.Module, classes: int, size: int) -> nn.Module:
    """Fresh weights of a network by name, or a copy of a module."""
    if isinstance(network, nn.Module):
        return copy.deepcopy(network)
    if network not in NETWORKS:
        raise ValueError(f"a network is one of {', '.join(NETWORKS)} or a module; got {network!r}. Take one.")
    blocks = [_block(3, 16), _block(16, 32), _block(32, 64)]
    if network == "cnn":
        return nn.Sequential(*blocks, _block(64, 96), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))
    common: dict[str, Any] = {"img_size": size, "embed_dim": 64, "num_heads": 4, "mlp_ratio": 2.0}
    if network == "vit":
        return VisionTransformer(patch_size=8, depth=4, num_classes=classes, **common)
    embed = partial(HybridEmbed, backbone=nn.Sequential(*blocks))
    pooled: dict[str, Any] = {"class_token": False, "global_pool": "avg", "embed_layer": embed}
    return VisionTransformer(patch_size=1, depth=2, num_classes=classes, **common, **pooled)


def _block(width: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


def _train(module: nn.Module, x: Tensor, target: Tensor, epochs: int, batch: int, lr: float) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr, weight_decay=0.05)
    steps = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.2)
    _train_mode(module)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            part = x[rows.to(x.device)]
            mirrored = torch.rand(len(part), 1, 1, 1).to(x.device) < 0.5
            logits = logits_of(module(torch.where(mirrored, part.flip(3), part)))
            loss = F.cross_entropy(logits, target[rows.to(x.device)])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    optimiser.zero_grad()
    module.eval()


def _train_mode(module: nn.Module) -> None:
    """Training mode; layers that are frozen stay as they are, statistics of a batch norm too."""
    module.train()
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            layer.training = False
