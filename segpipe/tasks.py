"""What a task is: idempotent, and leaving a record behind.

A task reads, computes, writes its own regions, and last writes its record: the key of what it did,
checksums of what it read and wrote, times, and what travels to the next pass. A task whose record
has the right key and whose regions still have their checksums is not done again. That is all of
resume.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from segpipe.errors import RunError, SegpipeError
from segpipe.kernels import compile_clock
from segpipe.passes import Record, Rows
from segpipe.store.arrays import Region, checksum
from segpipe.store.folder import Folder
from segpipe.store.space import is_full, write_error
from segpipe.store.tables import part_name, write_part

META = "_meta"
"""Name under which a record file keeps everything that is not an array."""


@dataclass
class Work:
    """What one task produced, and what it took."""

    record: Record = field(default_factory=dict)
    regions: list[tuple[Region, np.ndarray]] = field(default_factory=list)
    tables: Mapping[str, Rows] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    """Name -> checksum of the objects written besides regions."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Checksums of the windows read."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent in ``read``, ``compute`` and ``write``, and in ``compile``: kernels' first use."""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to `phase`, and what went into compiling to ``compile``."""
        start = time.perf_counter()
        with compile_clock() as compiling:
            yield
        spent, compiled = time.perf_counter() - start, compiling()
        for name, seconds in ((phase, spent - compiled), ("compile", compiled)):
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@dataclass(frozen=True)
class Report:
    """What the engine hears of a task: its record and its figures."""

    number: int
    record: Record
    meta: dict[str, Any]
    reused: bool = False


class Job(Protocol):
    """Tasks of one kind, numbered from 0."""

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""

    @property
    def folder(self) -> Folder:
        """The run folder."""

    @property
    def key(self) -> str:
        """Digest of all that decides the output besides the task's number."""

    def __len__(self) -> int: ...

    def outputs(self, number: int) -> list[Region]:
        """Return the regions that task `number` writes."""

    def work(self, number: int, part: Any) -> Work:
        """Do task `number`; `part` is its share of the former pass's solution."""


def run_tasks(job: Job, tasks: Sequence[tuple[int, Any]]) -> list[Report]:
    """Do a few tasks one after the other (what one Dask task does)."""
    reports = []
    for number, part in tasks:
        done = finished(job, number)
        reports.append(done if done is not None else _run_task(job, number, part))
    return reports


def record_name(job: Job, number: int) -> str:
    """Name of a task's record in the run folder."""
    return f"records/{job.name}/{number:08d}.npz"


def finished(job: Job, number: int) -> Report | None:
    """Return the report of a task that is done and whose outputs are intact, else None."""
    stored = job.folder.get_arrays(record_name(job, number))
    if stored is None or META not in stored:
        return None
    meta = json.loads(stored.pop(META).tobytes())
    if meta["key"] != job.key:
        return None
    if damaged(job.outputs(number), job.folder, meta):
        return None
    return Report(number, stored, meta, reused=True)


def damaged(regions: Sequence[Region], folder: Folder, meta: Mapping[str, Any]) -> list[str]:
    """Read a finished task's outputs again; return the names of those that differ."""
    bad = []
    for region in regions:
        try:
            found = checksum(region.read())
        except Exception as error:  # anything unreadable is damage, whatever the codec calls it
            found = str(error)
        if found != meta["outputs"][region.name]["checksum"]:
            bad.append(region.name)
    objects = meta["objects"].items()
    return bad + [name for name, expected in objects if folder.checksum(name) != expected]


def _run_task(job: Job, number: int, part: Any) -> Report:
    started = time.time()
    try:
        work = job.work(number, part)
        with work.timed("write"):
            outputs = {}
            for region, planes in work.regions:
                outputs[region.name] = {
                    "checksum": region.write(planes),
                    "start": region.box.start,
                    "stop": region.box.stop,
                }
            for table, rows in work.tables.items():
                for piece, columns in {"done": rows.done, **rows.open}.items():
                    name = part_name(f"work/tables/{job.name}/{table}", piece, number)
                    work.objects[name] = write_part(job.folder, name, columns)
    except SegpipeError:
        raise
    except Exception as error:
        if is_full(error):
            raise write_error(error, str(job.folder)) from error
        raise RunError(
            f"{job.name}: task {number} failed: {type(error).__name__}: {error}"
        ) from error
    meta = {
        "key": job.key,
        "inputs": work.inputs,
        "outputs": outputs,
        "objects": work.objects,
        "seconds": work.seconds,
        "started": started,
        "ended": time.time(),
        "peak_bytes": peak_bytes(),
    }
    packed = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    job.folder.put_arrays(record_name(job, number), {**work.record, META: packed})
    return Report(number, work.record, meta)


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
