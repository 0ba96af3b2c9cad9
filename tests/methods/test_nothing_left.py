"""Whatever is asked, and whatever goes wrong: the model is as it was."""

from __future__ import annotations

import contextlib
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vizlib.methods.table import METHODS, explain


class Bomb(nn.Module):
    """Passes on what it gets until the n-th run."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 10**9

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise ArithmeticError("broken")
        return x


def state(module: nn.Module) -> dict[str, object]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modules": {name: id(m) for name, m in module.named_modules()},
        "training": {name: m.training for name, m in module.named_modules()},
        "requires_grad": {name: p.requires_grad for name, p in module.named_parameters()},
        "grad": {name: None if p.grad is None else p.grad.tolist() for name, p in module.named_parameters()},
        "values": {name: t.tolist() for name, t in module.state_dict().items()},
        "hooks": [len(getattr(m, h)) for m in module.modules() for h in hooks],
        "random": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),  # noqa: NPY002
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.fixture
def used(clf):
    """In the middle of a training: train mode in parts, a frozen parameter, gradients, dropout."""
    torch.manual_seed(0)
    module = nn.Sequential(deepcopy(clf.module), nn.Dropout(0.5), Bomb()).train()
    next(m for m in module.modules() if isinstance(m, nn.Conv2d)).eval()
    parameters = list(module.parameters())
    parameters[1].requires_grad_(False)
    for p in parameters[2:4]:
        p.grad = torch.ones_like(p)
    return replace(clf, module=module)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left(method, used, x, cheap):
    bomb, before = used.module[-1], state(used.module)
    logits = used(x)

    def check(case: str) -> None:
        after = state(used.module)
        for what, was in before.items():
            assert after[what] == was, (case, what)

    with contextlib.suppress(RuntimeError):  # where the method does not apply
        explain(used, x, method, target=1, **cheap)
    check("normal")
    with pytest.raises((ValueError, RuntimeError)):
        explain(used, x, method, target="no such class", **cheap)
    check("bad target")
    for runs in range(6):
        bomb.left = runs
        with contextlib.suppress(ArithmeticError, RuntimeError):
            explain(used, x, method, target=1, **cheap)
        if runs == 0:
            assert bomb.left < 0, "the bomb has not gone off"
        check(f"broken in run {runs + 1}")
    bomb.left = 10**9
    assert torch.equal(used(x), logits)
