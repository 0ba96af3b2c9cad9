"""Running a job over batches, on this machine: processes read photographs while the model works."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from vizlib.dataset.jobs import Job
from vizlib.dataset.results import Results

PART_ROWS, PART_SECONDS = 1024, 20.0  # whichever comes first: so much a kill can cost
FEW = 256  # photographs for which starting processes takes longer than reading
Batches = list[list[int]]
Backend = Callable[[Job, Batches, int | None], Iterable[dict[str, pa.Table]]]


class _Inputs(Dataset):
    """What the processes that read are given."""

    def __init__(self, job: Job) -> None:
        self.job = job.without_model()

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        return row, self.job.load(row)


def run_here(job: Job, batches: Batches, workers: int | None) -> Iterator[dict[str, pa.Table]]:
    """The rows of each batch, in order.

    Args:
        workers: processes that read photographs; None: as many as there are other cores, none for few photographs.
    """
    if workers is None:
        few = sum(map(len, batches)) < FEW
        workers = 0 if few else min(8, (os.cpu_count() or 1) - 1)
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": list}
    for read in DataLoader(_Inputs(job), batch_sampler=batches, **options):
        yield job([row for row, _ in read], [x for _, x in read])


def backend_named(name: str, address: str | None) -> Backend:
    """What runs the batches: "local", or "ray" on the cluster at an address.

    Raises:
        ValueError: another name.
    """
    if name == "local":
        return run_here
    if name != "ray":
        raise ValueError(f"backend 'local' or 'ray' is needed; got {name!r}. Leave it out for this machine.")
    from vizlib.dataset.on_ray import run_on_ray

    return partial(run_on_ray, address=address)


def run(
    job: Job,
    batches: Batches,
    places: Mapping[str, Results],
    backend: Backend,
    workers: int | None,
    total: int,
) -> None:
    """Run a job over batches and write what comes out, with a bar of rate and time left.

    Args:
        places: where the rows of each kind go. The last one's parts say what is done, so they are written last.
        total: photographs altogether, those done before included.
    """
    waiting: dict[str, list[pa.Table]] = {name: [] for name in places}
    todo, since, last = sum(map(len, batches)), 0, time.monotonic()
    with tqdm(
        total=total, initial=total - todo, unit="photo", desc=job.clf.name, disable=None, delay=1, leave=False
    ) as bar:
        for made in backend(job, batches, workers) if batches else ():
            for name, rows in made.items():
                waiting[name].append(rows)
            count = next(iter(made.values())).num_rows
            bar.update(count)
            since += count
            if since >= PART_ROWS or time.monotonic() - last > PART_SECONDS:
                _write(waiting, places)
                since, last = 0, time.monotonic()
    _write(waiting, places)


def _write(waiting: dict[str, list[pa.Table]], places: Mapping[str, Results]) -> None:
    for name, place in places.items():
        if waiting[name]:
            place.add(pa.concat_tables(waiting[name]))
            waiting[name].clear()
