"""What share of plain inference `predict` reaches, whether its memory grows, what a second worker adds: `make bench`.

Plain inference reads the same files, prepares them and runs the same batches, and keeps the predicted class only. Both
run interleaved in one process on one thread and are compared in process CPU time. Memory is the peak resident size of
a process of its own. Ray's workers are compared by the clock from when all of them run; it needs as many free cores.
"""

from __future__ import annotations

import argparse
import logging
import os
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
from vizlib.dataset.jobs import Job
from vizlib.dataset.on_ray import run_on_ray
from vizlib.dataset.sources import source_of
from vizlib.types import Classifier

BOUNDS = {"predict": 0.9, "predict + Grad-CAM": 0.6}
MODELS = (("resnet50", 224), ("vit_small_patch16_224", 224))
PHOTOS = (1_000, 20_000)  # whose peak memory is compared
GROWTH = 1.1
BATCH = 16
FEW = 4  # photos in a batch of Ray's workers, so that there are many to share out


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


def two_against_one(name: str, size: int, photos: int) -> float:
    """Throughput of two Ray workers over that of one."""
    import ray

    torch.manual_seed(0)
    clf = vl.load(f"timm/{name}", pretrained=False, device="cpu", input_size=(3, size, size))
    with tempfile.TemporaryDirectory() as place:
        source = source_of(vl.data.shortcuts(photos, size=size).save(Path(place, "photos")))
        job = Job(clf, source, np.arange(len(source.classes)))
        batches = [rows.tolist() for rows in np.split(np.arange(photos), range(FEW, photos, FEW))]
        ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        one, two = (_batches_a_second(job, batches, workers) for workers in (1, 2))
        ray.shutdown()
    return two / one


def _batches_a_second(job: Job, batches: list[list[int]], workers: int) -> float:
    """From when every worker has done its first batch."""
    times = [time.perf_counter() for _ in run_on_ray(job, batches, workers)]
    return (len(times) - workers) / (times[-1] - times[workers - 1])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos", type=int, default=96, help="of each run; a run's start counts")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("shares", "memory", "ray"), help="one of the three; memory takes minutes")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.peak:
        _peak(arguments.peak)
        return 0
    print("| what | model | found | bound | |\n|---|---|---|---|---|")
    if arguments.only in (None, "shares"):
        for name, size in MODELS:
            for way, share in shares(name, size, arguments.photos, arguments.rounds).items():
                verdict = "reached" if share >= BOUNDS[way] else "missed"
                print(f"| {way} | {name} | {share:.2f} of plain inference | ≥ {BOUNDS[way]} | {verdict} |", flush=True)
    if arguments.only in (None, "memory"):
        few, many = map(peak_mib, PHOTOS)
        verdict = "reached" if many <= GROWTH * few else "missed"
        print(f"| peak memory, {PHOTOS[0]:,} and {PHOTOS[1]:,} photos | zoo/seresnet | {few:.0f} and {many:.0f} MiB "
              f"| ≤ {GROWTH} times | {verdict} |", flush=True)  # fmt: skip
    if arguments.only in (None, "ray"):
        name, size = MODELS[0]
        gain = two_against_one(name, size, arguments.photos)
        print(f"| two Ray workers against one | {name} | {gain:.2f} times the throughput | {os.cpu_count()} cores | |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
