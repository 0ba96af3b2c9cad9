"""A tiny classifier of rendered pictures, with its own preprocessing."""

from __future__ import annotations

import tiny
import torch

import vizlib as vl
from vizlib.types import Classifier

LABELS = ("disc", "square", "triangle", "star", "none of these")


def classifier(name: str = "tiny", seed: int = 1, module: torch.nn.Module | None = None) -> Classifier:
    found = module or tiny.randomise(tiny.CNN(), seed).eval()
    return vl.load(found, input_size=(3, 32, 32), crop_pct=1.0, labels=LABELS, name=name)
