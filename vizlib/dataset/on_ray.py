"""Running a job on Ray Data: tasks on every machine read photographs, actors hold the model, batches stream through.

The batches are those of one machine, so that the table is the same to the bit on equal processors.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from torch import Tensor, from_numpy

from vizlib.dataset.jobs import Job
from vizlib.dataset.local import Batches

_BATCH = "batch"


class _Reader:
    """Reads the photographs of a batch; without the model, which need not travel to where this runs."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self, line: dict[str, Any]) -> dict[str, bytes]:
        rows = pickle.loads(line[_BATCH])
        inputs = [self.job.load(row) for row in rows]
        packed = [x.numpy() if isinstance(x, Tensor) else x for x in inputs]
        return {_BATCH: pickle.dumps((rows, packed), protocol=5)}


class _Worker:
    """One copy of the model."""

    def __init__(self, job: Any) -> None:
        import ray

        self.job: Job = ray.get(job[0])

    def __call__(self, line: dict[str, Any]) -> dict[str, bytes]:
        rows, packed = pickle.loads(line[_BATCH])
        made = self.job(rows, [x if isinstance(x, str) else from_numpy(x) for x in packed])
        return {name: _written(table) for name, table in made.items()}


def run_on_ray(
    job: Job, batches: Batches, workers: int | None, address: str | None = None
) -> Iterator[dict[str, pa.Table]]:
    """The rows of each batch, in the order in which they are done.

    Args:
        workers: copies of the model, each on a GPU of its own where the model is on one; None: as many as the cluster
            has GPUs, or half its cores.
        address: of the cluster; None: the one that is connected, else RAY_ADDRESS, else one on this machine.

    Raises:
        RuntimeError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("backend='ray' needs Ray; it is not installed. Run: pip install 'vizlib[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address, log_to_driver=False, include_dashboard=False if address is None else None)
        except ConnectionError as error:
            why = f"a Ray cluster is needed at {address}; {error}"
            raise RuntimeError(f"{why}. Start it with 'ray start --head', or leave address out.") from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts photographs
    gpu = job.clf.device.type == "cuda"
    there = ray.cluster_resources()
    copies = workers or max(1, int(there.get("GPU", 1)) if gpu else int(there.get("CPU", 2)) // 2)
    packs = [{_BATCH: pickle.dumps(list(rows))} for rows in batches]
    lines = ray.data.from_items(packs, override_num_blocks=len(packs)).map(_Reader(job.without_model()), num_cpus=0.5)
    done = lines.map(
        _Worker,
        fn_constructor_args=([ray.put(job)],),  # in a list: the reference travels, and each copy fetches the model once
        compute=ray.data.ActorPoolStrategy(size=min(copies, len(packs))),
        num_cpus=0 if gpu else 1,
        num_gpus=1 if gpu else 0,
    )
    for line in done.iter_rows():
        yield {name: pa.ipc.open_stream(written).read_all() for name, written in line.items()}


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())
