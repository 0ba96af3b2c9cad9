"""What a classifier costs: parameters and FLOPs from shapes, memory and time on a device."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vizlib.classifier import must_be_classifier
from vizlib.measure.flops import Flops, count
from vizlib.measure.memory import kept_for_backward, peak_bytes
from vizlib.models.load import floating
from vizlib.running import unchanged
from vizlib.types import Classifier

Run = Callable[[], object]
WARM_UP = 3  # forwards that are not timed: they choose kernels and fill caches
LEAST = 10  # timed forwards, however long they take
MODULE_FORMATS = {  # how the columns of Cost.modules are written
    "params": "{:,}".format,
    "gmacs": "{:.4g}".format,
    "share": "{:.1%}".format,
    "attention_share": "{:.1%}".format,
}


@dataclass(frozen=True, eq=False, repr=False)
class Cost:
    """What a classifier costs for one image, and in time and memory for a batch on one device.

    Attributes:
        flops: 2 · MACs of one image;  gmacs: the same in 10⁹ multiply-accumulates.
        attention_flops: those of `flops` in products of two tensors that both come from the image (q kᵀ, weights · v).
        latency_ms: 10th percentile, median and 90th percentile of one batch.
        peak_mb: most memory in use during a forward: weights, input and live activations, in 10⁶ bytes.
        activation_mb: activations that a training step keeps for its backward pass, in 10⁶ bytes.
        modules: a row per module that has parameters or FLOPs, in the model's order, children included: `module`
            (its path, "" for all), `kind` (its class), `depth` (0 for all), `params`, `gmacs`, `share` of all
            FLOPs, and `attention_share`, that of attention in the module's own, in [0, 1].
    """

    model: str
    params: int
    flops: int
    gmacs: float
    attention_flops: int
    latency_ms: tuple[float, float, float]
    peak_mb: float
    activation_mb: float
    device: str
    dtype: str
    batch: int
    image_size: tuple[int, int]
    modules: pd.DataFrame

    @property
    def images_per_s(self) -> float:
        return 1e3 * self.batch / self.latency_ms[1]

    @property
    def attention_share(self) -> float:
        """Share of the FLOPs in [0, 1]."""
        return self.attention_flops / self.flops if self.flops else 0.0

    def __repr__(self) -> str:
        facts = self._facts()
        width = max(map(len, facts))
        return "\n".join([f"Cost of {self.model}", *(f"  {what:<{width}}  {found}" for what, found in facts.items())])

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><th>{what}</th><td>{found}</td></tr>" for what, found in self._facts().items())
        table = self.modules.to_html(index=False, formatters=MODULE_FORMATS)
        folded = f"<details><summary>by module</summary>{table}</details>"
        return f"<table><caption>Cost of {escape(self.model)}</caption>{cells}</table>{folded}"

    def _facts(self) -> dict[str, str]:
        h, w = self.image_size
        low, median, high = self.latency_ms
        images = "one image" if self.batch == 1 else f"{self.batch} images"
        return {
            "parameters": f"{self.params:,}",
            "one image": f"{h} × {w} px: {self.gmacs:.4g} GMACs ({2 * self.gmacs:.4g} GFLOPs), "
            f"{self.attention_share:.1%} of them attention",
            "latency": f"{median:.4g} ms for {images} (p10 {low:.4g}, p90 {high:.4g}): "
            f"{self.images_per_s:.4g} images/s on {self.device}, {self.dtype}",
            "memory": f"{self.peak_mb:.4g} MB at the peak of a forward; a training step keeps "
            f"{self.activation_mb:.4g} MB for its backward pass",
        }


def cost(clf: Classifier, *, batch: int = 1, dtype: str | torch.dtype | None = None, seconds: float = 1.0) -> Cost:
    """Parameters, FLOPs, memory and latency of a classifier on the device where it lives.

    FLOPs come from shapes (see `measure.flops`), time and memory from running random images. The model is
    left as it was; for another `dtype` a copy is measured.

    Args:
        batch: images per forward, for memory and time; FLOPs are those of one image.
        dtype: floating type to measure in, "bfloat16" or torch.bfloat16, by default the model's.
        seconds: how long to time; at least 10 forwards are timed in any case.

    Raises:
        TypeError: not a classifier but a name or a module.
        ValueError: `batch` is no whole number of images, `dtype` no floating type, `seconds` no time.
        RuntimeError: the device has no kernel for this dtype.
    """
    must_be_classifier(clf, "cost")
    _must_be_images(batch, "cost")
    if not isinstance(seconds, Real) or not 0 <= seconds < float("inf"):
        raise ValueError(f"cost needs a number of seconds, 0 or more; got seconds={seconds!r}. Leave it out for 1.")
    flops = count(clf)
    wanted = clf.dtype if dtype is None else floating(dtype)
    if wanted != clf.dtype:
        clf = replace(clf, module=copy.deepcopy(clf.module).to(wanted))
    x = _noise(clf, batch)
    with unchanged(clf.module):
        kept = kept_for_backward(clf.module, x)
        peak = peak_bytes(clf.module, x)
        times = _latency(_forward(clf.module, x), x.device, seconds)
    p10, median, p90 = (float(v) for v in np.percentile(times, [10, 50, 90]))
    return Cost(
        model=clf.name,
        params=params_of(clf.module),
        flops=flops.total,
        gmacs=flops.total / 2e9,
        attention_flops=flops.attention,
        latency_ms=(p10, median, p90),
        peak_mb=peak / 1e6,
        activation_mb=kept / 1e6,
        device=_device_name(x.device),
        dtype=str(clf.dtype).removeprefix("torch."),
        batch=batch,
        image_size=clf.input_size[1:],
        modules=_by_module(clf.module, flops),
    )


def _by_module(module: nn.Module, flops: Flops) -> pd.DataFrame:
    """The rows of `Cost.modules`."""
    rows = []
    for name, one in module.named_modules():
        own, attention, params = flops.modules.get(name, 0), flops.attention_modules.get(name, 0), params_of(one)
        if own or params:
            depth = name.count(".") + 1 if name else 0
            share = own / flops.total if flops.total else 0.0
            within = attention / own if own else 0.0
            rows.append((name, type(one).__name__, depth, params, own / 2e9, share, within))
    return pd.DataFrame(rows, columns=["module", "kind", "depth", *MODULE_FORMATS])


def params_of(module: nn.Module) -> int:
    """Number of parameters; tied weights count once, buffers (batch statistics, position indices) do not."""
    return sum(p.numel() for p in module.parameters())


def macs(clf: Classifier) -> int:
    """Multiply-accumulates of one image, what papers call FLOPs; from shapes, without running the model."""
    return count(clf).total // 2


def ratios(
    classifiers: Sequence[Classifier], *, batch: int = 1, rounds: int = 20, warm_up: int = WARM_UP
) -> pd.DataFrame:
    """Time of each classifier as a ratio to the first, in turns, so that a busy machine disturbs all alike.

    Args:
        batch: images per forward.
        rounds: how often every classifier runs once; the order turns from round to round.
        warm_up: rounds before these that are not timed; one will do where a forward takes a second.

    Returns:
        A row per classifier: `model`, `ratio` (median over the rounds), its `p10` and `p90`, and the median
        `latency_ms`.

    Raises:
        TypeError: not classifiers but names or modules.
        ValueError: no classifier, fewer than one round, or no whole number of images.
    """
    if not classifiers or rounds < 1:
        found = f"{len(classifiers)} classifiers and {rounds} rounds"
        raise ValueError(f"ratios needs a classifier and a round at least; got {found}. Pass ratios([a, b]).")
    for clf in classifiers:
        must_be_classifier(clf, "ratios")
    _must_be_images(batch, "ratios")
    times = np.empty((rounds, len(classifiers)))
    inputs = [_noise(clf, batch) for clf in classifiers]
    for turn in range(-warm_up, rounds):
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


def _must_be_images(batch: Any, what: str) -> None:
    if not isinstance(batch, Integral) or batch < 1:
        raise ValueError(f"{what} needs a batch of at least 1 image, a whole number; got {batch!r}. Pass batch=1.")


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
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type
