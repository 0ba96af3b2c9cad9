"""What each explanation costs, as a ratio to one plain forward of the same model: `make bench`.

Ratios are measured interleaved in one process on one thread: a plain forward, then each way in turn, round after round,
in process CPU time. Extra memory is the peak of live tensors above that of the plain forward. The peers run where they
are installed; vit-explain is its published algorithm (all matrices materialised, then multiplied).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

import vizlib as vl
from vizlib.capture.anatomy import memory_of, study
from vizlib.capture.taps import layout
from vizlib.capture.target import cam_layer, reading
from vizlib.capture.trace import record
from vizlib.measure.memory import live_peak
from vizlib.methods.rollout import rollout
from vizlib.types import Classifier

Run = Callable[[], object]
CAM_MODELS = ("resnet50", "convnext_tiny", "vit_base_patch16_224", "swin_tiny_patch4_window7_224")
JUDGED = ("resnet50", "vit_small_patch16_224")
# the bound on the median ratio (CNN, Transformer) and on extra MiB, of this library's own rows
CAM_BOUND, FIVE_BOUND = {False: 1.05, True: 1.15}, {False: 1.1, True: 1.5}
ROLLOUT_BOUND = {224: (1.1, 15), 448: (1.25, 60), 896: (1.4, 300)}
SLACK = 1.10  # on memory
FAITHFULNESS_BOUND = 0.8


@dataclass(frozen=True)
class Row:
    what: str
    model: str
    way: str
    low: float
    median: float
    high: float
    extra_mib: float
    bound: float | None = None
    bound_mib: float | None = None

    @property
    def missed(self) -> bool:
        over = self.bound is not None and round(self.median, 2) > self.bound
        return over or (self.bound_mib is not None and self.extra_mib > self.bound_mib * SLACK)

    def __str__(self) -> str:
        bound = "" if self.bound is None else f"≤ {self.bound}"
        bound += "" if self.bound_mib is None else f", ≤ {self.bound_mib} MiB"
        verdict = "" if self.bound is None else "missed" if self.missed else "reached"
        cells = (self.what, self.model, self.way, f"{self.median:.2f} ({self.low:.2f} – {self.high:.2f})",
                 f"{self.extra_mib:+.0f}", bound, verdict)  # fmt: skip
        return "| " + " | ".join(cells) + " |"


def ratios(plain: Run, ways: dict[str, Run], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Quartiles of each way's CPU time over the mean of the plain runs right before and after it."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for run in (plain, *ways.values()):
        run()
    for _ in range(rounds):
        before = _seconds(plain)
        for name, run in ways.items():
            spent = _seconds(run)
            after = _seconds(plain)
            found[name].append(2 * spent / (before + after))
            before = after
    return {n: tuple(float(q) for q in np.percentile(v, [25, 50, 75])) for n, v in found.items()}  # type: ignore[misc]


def _seconds(run: Run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def rows(
    what: str, model: str, plain: Run, ways: dict[str, Run], rounds: int, **bounds: tuple[float, float | None]
) -> Iterator[Row]:
    base = live_peak(plain)
    timed = ratios(plain, ways, rounds)
    for name, run in ways.items():
        bound, mib = bounds.get(name, (None, None))
        yield Row(what, model, name, *timed[name], (live_peak(run) - base) / 2**20, bound, mib)


def classifier(name: str, **options: object) -> tuple[Classifier, Tensor, Run]:
    torch.manual_seed(0)
    clf = vl.load(f"timm/{name}", pretrained=False, device="cpu", **options)
    clf.module.eval()
    x = torch.randn(1, *clf.input_size)

    def plain() -> Tensor:
        with torch.no_grad():
            return clf.module(x)

    return clf, x, plain


def peers(clf: Classifier, x: Tensor, targets: Sequence[int]) -> dict[str, Run]:
    """The other libraries on the layer that this one chose."""
    found: dict[str, Run] = {}
    path = cam_layer(clf, x)
    layer = clf.module.get_submodule(path)
    bring = layout(clf, x, path).features
    if find_spec("pytorch_grad_cam"):
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        def grad_cam() -> None:
            with GradCAM(clf.module, [layer], reshape_transform=bring) as cam:
                for t in targets:
                    cam(x, [ClassifierOutputTarget(t)])

        found["pytorch-grad-cam"] = grad_cam
    if find_spec("captum"):
        from captum.attr import LayerGradCam

        def captum() -> None:
            for t in targets:
                LayerGradCam(clf.module, layer).attribute(x, t)

        found["captum"] = captum
    if find_spec("torchcam"):
        from torchcam.methods import GradCAM as TorchCAM

        def torchcam() -> None:
            for t in targets:
                with TorchCAM(clf.module, layer) as cam:
                    cam(t, clf.module(x))

        if layout(clf, x, path).tokens is None and layout(clf, x, path).channels == 1:
            found["torchcam"] = torchcam
    return found


def bench_cam(name: str, rounds: int) -> Iterator[Row]:
    clf, x, plain = classifier(name)
    token = "patch" in name
    vl.explain(clf, x)
    ways: dict[str, Run] = {"vizlib": lambda: vl.explain(clf, x, target=1), **peers(clf, x, [1])}
    yield from rows("Grad-CAM, last layer", name, plain, ways, rounds, vizlib=(CAM_BOUND[token], 10))
    if name in ("resnet50", "vit_base_patch16_224"):
        five = [1, 2, 3, 4, 5]
        ways = {"vizlib": lambda: vl.explain(clf, x, target=five), **peers(clf, x, five)}
        bound = (FIVE_BOUND[token], None)
        yield from rows("Grad-CAM, five classes", name, plain, ways, max(rounds // 2, 3), vizlib=bound)


def bench_attention(rounds: int) -> Iterator[Row]:
    clf, x, plain = classifier("vit_base_patch16_224")

    def every() -> list[Tensor]:
        return [a.weights() for a in record(clf, x, lean=True).attentions.values()]

    def class_rows() -> list[Tensor]:
        return [a.weights(slice(0, 1)) for a in record(clf, x, lean=True).attentions.values()]

    study(clf, x)
    yield from rows("attention", clf.name, plain, {"all maps": every, "class-token rows": class_rows}, rounds,
                    **{"all maps": (1.1, None), "class-token rows": (1.03, None)})  # fmt: skip


def vit_explain(clf: Classifier, x: Tensor) -> Tensor:
    """Attention rollout as published by vit-explain: every matrix kept, the product of (A + I) / 2."""
    with torch.no_grad():
        matrices = [a.weights()[:, 0] for a in record(clf, x, lean=True).attentions.values()]
        result = torch.eye(matrices[0].shape[-1])
        for matrix in matrices:
            joined = (matrix.mean(1) + torch.eye(matrix.shape[-1])) / 2
            result = (joined / joined.sum(-1, keepdim=True)) @ result
    return result[:, 0, 1:]


def bench_rollout(size: int, rounds: int) -> Iterator[Row]:
    clf, x, plain = classifier("vit_base_patch16_224", input_size=(3, size, size))
    rollout(record(clf, x, lean=True, start=True))
    ways: dict[str, Run] = {"vizlib": lambda: vl.explain(clf, x, "rollout"), "vit-explain": lambda: vit_explain(clf, x)}
    yield from rows(f"rollout, {size} px", clf.name, plain, ways, rounds, vizlib=ROLLOUT_BOUND[size])


def bench_faithfulness(name: str, rounds: int) -> Iterator[Row]:
    """Insertion and deletion with 100 steps each at batch 25, per evaluated photograph."""
    clf, x, plain = classifier(name)
    heat = vl.explain(clf, x)
    once, evaluated = 25, 2 * 101

    def several() -> None:
        for _ in range(once):
            plain()

    def curves() -> None:
        for metric in ("insertion", "deletion"):
            vl.faithfulness(clf, x, heat, metric, steps=100, batch=25, draws=0)

    timed = ratios(several, {"vizlib": curves}, rounds)["vizlib"]
    extra = (live_peak(curves) - live_peak(plain)) / 2**20
    per_photo = (once * ratio / evaluated for ratio in timed)
    yield Row("insertion + deletion, per evaluated photo", name, "vizlib", *per_photo, extra, FAITHFULNESS_BOUND)


def bench_study(name: str) -> str:
    """The place pass and the search for what the head reads: once per model and input size, then remembered."""
    clf, x, plain = classifier(name)
    plain()
    base = statistics.median(_seconds(plain) for _ in range(5))
    memory_of(clf).clear()
    places, head = _seconds(lambda: study(clf, x)), _seconds(lambda: reading(clf, x))
    return f"| {name} | {base:.2f} s | {places:.2f} s | {head:.2f} s |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds at 224 px; fewer where a forward takes seconds")
    every = ("cam", "attention", "rollout", "faithfulness", "study")
    parser.add_argument("--only", choices=every, help="one part of it")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    sizes = {224: arguments.rounds, 448: 7, 896: 3}
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "cam": lambda: (row for name in CAM_MODELS for row in bench_cam(name, arguments.rounds)),
        "attention": lambda: bench_attention(arguments.rounds),
        "rollout": lambda: (row for size, n in sizes.items() for row in bench_rollout(size, n)),
        "faithfulness": lambda: (row for name in JUDGED for row in bench_faithfulness(name, 3)),
    }
    chosen = [arguments.only] if arguments.only else [*parts, "study"]
    done: list[Row] = []
    print("| what | model | way | ratio to a plain forward (quartiles) | extra MiB | bound | |")
    print("|---|---|---|---|---|---|---|")
    for part in chosen:
        for row in parts.get(part, lambda: iter(()))():
            done.append(row)
            print(row, flush=True)
    if "study" in chosen:
        print("\n| once per model and input size | plain forward | place pass | what the head reads |")
        print("|---|---|---|---|")
        for name in CAM_MODELS:
            print(bench_study(name), flush=True)
    held = [r for r in done if r.bound is not None]
    missed = [f"{r.what} on {r.model}" for r in held if r.missed]
    rest = f"; missed: {', '.join(missed)}" if missed else ""
    print(f"\n{len(held) - len(missed)} of {len(held)} bounds reached{rest}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
