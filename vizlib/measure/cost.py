"""What a classifier costs: parameters and FLOPs from shapes, memory and time on a device."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vizlib.measure.flops import count
from vizlib.measure.memory import kept_for_backward, peak_bytes
from vizlib.running import unchanged
from vizlib.types import Classifier, Cost

Run = Callable[[], object]
WARM_UP = 3  # forwards that are not timed: they choose kernels and fill caches
LEAST = 10  # timed forwards, however long they take


def cost(clf: Classifier, *, batch: int = 1, dtype: torch.dtype | None = None, seconds: float = 1.0) -> Cost:
    """Parameters, FLOPs, memory and latency of a classifier on the device where it lives.

    FLOPs come from shapes (see `measure.flops`), time and memory from running random images. The model is
    left as it was; for another `dtype` a copy is measured.

    Args:
        batch: images per forward, for memory and time; FLOPs are those of one image.
        dtype: floating type to measure in, by default the model's.
        seconds: how long to time; at least 10 forwards are timed in any case.

    Raises:
        ValueError: `batch` is not positive or `dtype` is not a floating type.
        RuntimeError: the device has no kernel for this dtype.
    """
    if batch < 1:
        raise ValueError(f"cost needs a batch of at least 1 image; got {batch}. Leave batch out for one.")
    if dtype is not None and not dtype.is_floating_point:
        raise ValueError(f"cost needs a floating dtype; got {dtype}. Name torch.bfloat16, say.")
    flops = count(clf)
    if dtype is not None and dtype != clf.dtype:
        clf = replace(clf, module=copy.deepcopy(clf.module).to(dtype))
    x = _noise(clf, batch)
    with unchanged(clf.module):
        kept = kept_for_backward(clf.module, x)
        peak = peak_bytes(clf.module, x)
        times = _latency(_forward(clf.module, x), x.device, seconds)
    p10, median, p90 = (float(v) for v in np.percentile(times, [10, 50, 90]))
    return Cost(
        params=params_of(clf.module),
        flops=flops.total,
        gmacs=flops.total / 2e9,
        latency_ms=(p10, median, p90),
        peak_mb=peak / 1e6,
        device=_device_name(x.device),
        batch=batch,
        image_size=clf.input_size[1:],
        dtype=str(clf.dtype).removeprefix("torch."),
        activation_mb=kept / 1e6,
        attention_flops=flops.attention,
        flops_by_module=flops.modules,
    )


def params_of(module: nn.Module) -> int:
    """Number of parameters; tied weights count once, buffers (batch statistics, position indices) do not."""
    return sum(p.numel() for p in module.parameters())


def macs(clf: Classifier) -> int:
    """Multiply-accumulates of one image, what papers call FLOPs; from shapes, without running the model."""
    return count(clf).total // 2


def ratios(classifiers: Sequence[Classifier], *, batch: int = 1, rounds: int = 20) -> pd.DataFrame:
    """Time of each classifier as a ratio to the first, in turns, so that a busy machine disturbs all alike.

    Args:
        batch: images per forward.
        rounds: how often every classifier runs once; the order turns from round to round.

    Returns:
        A row per classifier: `model`, `ratio` (median over the rounds), its `p10` and `p90`, and the median
        `latency_ms`.

    Raises:
        ValueError: no classifier, or fewer than one round.
    """
    if not classifiers or rounds < 1:
        found = f"{len(classifiers)} classifiers and {rounds} rounds"
        raise ValueError(f"ratios needs a classifier and a round at least; got {found}. Pass ratios([a, b]).")
    times = np.empty((rounds, len(classifiers)))
    inputs = [_noise(clf, batch) for clf in classifiers]
    for turn in range(-WARM_UP, rounds):
        for step in range(len(classifiers)):
            which = (turn + step) % len(classifiers)
            clf, x = classifiers[which], inputs[which]
            with unchanged(clf.module):
                spent = _timed(_forward(clf.module, x), x.device, 1)[0]
            if turn >= 0:
                times[turn, which] = spent
    relative = times / times[:, :1]
    p10, median, p90 = np.percentile(relative, [10, 50, 90], axis=0)
    names = [clf.name for clf in classifiers]
    milliseconds = np.median(times, axis=0)
    return pd.DataFrame({"model": names, "ratio": median, "p10": p10, "p90": p90, "latency_ms": milliseconds})


def forward_ms(clf: Classifier, *, times: int = 10) -> float:
    """Median milliseconds of `times` forwards of one image, after one that is not timed."""
    x = _noise(clf, 1)
    with unchanged(clf.module):
        run = _forward(clf.module, x)
        _timed(run, x.device, 1)
        return float(np.median(_timed(run, x.device, times)))


def product_rate(side: int = 1024) -> float:
    """The most 10⁹ multiply-accumulates per second that a product of two (side, side) matrices reached here.

    On the device that `load` takes by default, in float32 or bfloat16; the best of eight runs of each.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    ones = torch.ones(side, side, device=accelerator)
    spent = [min(_timed(partial(torch.mm, a, a), a.device, 8)) for a in (ones, ones.bfloat16())]
    return side**3 / 1e6 / min(spent)


def growth(build: Callable[[int], Classifier], sizes: Sequence[int]) -> pd.DataFrame:
    """How FLOPs and attention's share of them grow with the side of a square image.

    Attention over all n tokens grows with n², over windows of fixed size and as linear attention with n.

    Args:
        build: side in pixels -> classifier for images of that side: `lambda side: clf` where the model takes
            any size; `lambda side: vl.load("timm/…", input_size=(3, side, side))` where it is built for one.
        sizes: sides in pixels.

    Returns:
        A row per size: `size`, `gmacs`, `attention_gmacs`, `attention_share` of the FLOPs in [0, 1].
    """
    rows = []
    for side in sizes:
        flops = count(build(side), (side, side))
        share = flops.attention / flops.total if flops.total else 0.0
        rows.append((side, flops.total / 2e9, flops.attention / 2e9, share))
    return pd.DataFrame(rows, columns=["size", "gmacs", "attention_gmacs", "attention_share"])


def _noise(clf: Classifier, batch: int) -> Tensor:
    """Random images (b, c, h, w), drawn apart from the user's random state."""
    own = torch.Generator().manual_seed(0)
    return torch.randn(batch, *clf.input_size, generator=own).to(clf.device, clf.dtype)


def _forward(module: nn.Module, x: Tensor) -> Run:
    @torch.inference_mode()
    def run() -> object:
        return module(x)

    return run


def _latency(run: Run, device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of each of at least `LEAST` calls, for about `seconds`."""
    estimate = min(_timed(run, device, WARM_UP))
    return _timed(run, device, max(LEAST, min(1000, int(seconds * 1e3 / max(estimate, 1e-3)))))


def _timed(run: Run, device: torch.device, times: int) -> list[float]:
    """Milliseconds of each call, the end of its kernels awaited; on CUDA between events of the stream."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
            marks[0].record()
            for mark in marks[1:]:
                run()
                mark.record()
            marks[-1].synchronize()
        return [a.elapsed_time(b) for a, b in pairwise(marks)]
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        if device.type == "mps":
            torch.mps.synchronize()
        spent.append(1e3 * (time.perf_counter() - start))
    return spent


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type
