"""Which share of plain inference `predict` reaches, and whether its memory grows: `make bench`.

Plain inference reads the same files, prepares them and runs the same batches, and keeps the predicted class only. Both
run interleaved in one process on one thread and are compared in process CPU time. Memory is the peak resident size of
a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

import vizlib as vl
from vizlib.types import Classifier

BOUNDS = {"predict": 0.9, "predict + Grad-CAM": 0.6}
PHOTOS = (1_000, 20_000)  # whose peak memory is compared
GROWTH = 1.1
BATCH = 16


def plain(clf: Classifier, folder: Path) -> list[int]:
    files = [path for path, _ in ImageFolder(str(folder)).samples]
    found = []
    with torch.inference_mode():
        for start in range(0, len(files), BATCH):
            x = torch.stack([clf.transform(Image.open(path).convert("RGB")) for path in files[start : start + BATCH]])
            found += clf.module(x).argmax(1).tolist()
    return found


def shares(name: str, size: int, photos: int, rounds: int) -> dict[str, float]:
    """Share of plain throughput: the median of plain time over time, run after run."""
    torch.manual_seed(0)
    clf = vl.load(f"timm/{name}", pretrained=False, device="cpu", input_size=(3, size, size))
    labels = {label: i for i, label in enumerate(vl.data.shortcuts(4).classes)}
    with tempfile.TemporaryDirectory() as place:
        folder = vl.data.shortcuts(photos, size=size).save(Path(place, "photos"))
        number = count()

        def run(**options: object) -> Callable[[], object]:
            return lambda: vl.dataset.predict(
                clf, folder, out=Path(place, str(next(number))), labels=labels, batch=BATCH, workers=0, **options
            )

        def reference() -> object:
            return plain(clf, folder)

        ways = {"predict": run(), "predict + Grad-CAM": run(methods="gradcam")}
        found: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds + 1):  # the first round is thrown away: what is found out once, is
            for way, do in ways.items():
                before, own, after = (_seconds(act) for act in (reference, do, reference))
                found[way].append((before + after) / 2 / own)
    return {way: statistics.median(values[1:]) for way, values in found.items()}


def _seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_mib(photos: int) -> float:
    """Of a process that predicts so many photographs; they are links to a hundred files."""
    command = [sys.executable, "-m", "tests.benchmarks.dataset", "--peak", str(photos)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _peak(photos: int) -> None:
    clf = vl.load("zoo/seresnet", device="cpu")
    with tempfile.TemporaryDirectory() as place:
        vl.data.shortcuts(100).save(Path(place, "few"))
        files = sorted(Path(place, "few").glob("*/*.png"))
        for i, file in enumerate(np.resize(np.array(files, object), photos)):
            link = Path(place, "photos", file.parent.name, f"{i:06d}.png")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
        labels = {name: i for i, name in enumerate(vl.data.shortcuts(4).classes)}
        vl.dataset.predict(clf, Path(place, "photos"), out=Path(place, "out"), labels=labels, workers=0)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)


def two_against_one(photos: int) -> float:
    """Throughput of two Ray workers over that of one, by the clock."""
    import ray

    clf = vl.load("zoo/seresnet", device="cpu")
    labels = {name: i for i, name in enumerate(vl.data.shortcuts(4).classes)}
    with tempfile.TemporaryDirectory() as place:
        folder = vl.data.shortcuts(photos).save(Path(place, "photos"))
        ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        taken = {}
        for workers in (1, 2):
            start = time.perf_counter()
            out = Path(place, str(workers))
            vl.dataset.predict(clf, folder, out=out, labels=labels, backend="ray", workers=workers)
            taken[workers] = time.perf_counter() - start
        ray.shutdown()
    return taken[1] / taken[2]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--no-memory", action="store_true", help="without the peak memory, which takes minutes")
    parser.add_argument("--ray", action="store_true", help="two Ray workers against one instead")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.peak:
        _peak(arguments.peak)
        return 0
    if arguments.ray:
        print(f"two Ray workers against one: {two_against_one(2_000):.2f} times the throughput")
        return 0
    print("| what | model | share of plain inference | bound | |\n|---|---|---|---|---|")
    for name, size in (("resnet50", 224), ("vit_small_patch16_224", 224)):
        for way, share in shares(name, size, arguments.photos, arguments.rounds).items():
            verdict = "reached" if share >= BOUNDS[way] else "missed"
            print(f"| {way} | {name} | {share:.2f} | ≥ {BOUNDS[way]} | {verdict} |", flush=True)
    if not arguments.no_memory:
        few, many = map(peak_mib, PHOTOS)
        verdict = "reached" if many <= GROWTH * few else "missed"
        print(f"| peak memory, {PHOTOS[0]:,} and {PHOTOS[1]:,} photos | zoo/seresnet | {few:.0f} and {many:.0f} MiB "
              f"| ≤ {GROWTH} times | {verdict} |")  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
