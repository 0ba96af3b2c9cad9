"""Tiny classifiers that take photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny
from torch import nn
from torchvision import transforms

from vizlib.types import Classifier


@pytest.fixture
def takes_photos() -> Callable[[nn.Module, str], Classifier]:
    """A tiny classifier of 32 × 32 pixels behind an ordinary resize and centre crop."""

    def make(module: nn.Module, name: str) -> Classifier:
        clf = tiny.classifier(module, name=name)
        steps = [transforms.Resize(36), transforms.CenterCrop(32), transforms.ToTensor()]
        return replace(clf, transform=transforms.Compose([*steps, transforms.Normalize(clf.mean, clf.std)]))

    return make
