"""What a worker does: tasks of one kind, each idempotent, each leaving a record behind.

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
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from segpipe.errors import InputError, RunError, SegpipeError
from segpipe.passes import Pass, Record, Window
from segpipe.readers import open_mask, open_source
from segpipe.store.arrays import Region, checksum
from segpipe.store.digest import label_digest
from segpipe.store.folder import Folder
from segpipe.store.pyramid import halve_mean, halve_nearest
from segpipe.store.tables import assemble, write_part
from segpipe.tiles import Box, Grid

META = "_meta"
"""Name under which a record file keeps everything that is not an array."""


@dataclass
class Work:
    """What one task produced, and what it took."""

    record: Record = field(default_factory=dict)
    regions: list[tuple[Region, np.ndarray]] = field(default_factory=list)
    table: Mapping[str, np.ndarray] | None = None
    objects: dict[str, str] = field(default_factory=dict)
    """Name -> checksum of the objects written besides regions."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Checksums of the windows read."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent in ``read``, ``compute`` and ``write``."""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to `phase`."""
        start = time.perf_counter()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


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
            for region, pixels in work.regions:
                outputs[region.name] = {
                    "checksum": region.write(pixels),
                    "start": region.box.start,
                    "stop": region.box.stop,
                }
            if work.table is not None:
                part_name = f"work/tables/{job.name}/{number:08d}.parquet"
                work.objects[part_name] = write_part(job.folder, part_name, work.table)
    except SegpipeError:
        raise
    except Exception as error:
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


@dataclass(frozen=True)
class ArrayInput:
    """An array of the run, read through windows."""

    name: str
    folder: Folder
    path: str

    def read(self, box: Box) -> dict[str, np.ndarray]:
        """Return the array over `box`."""
        return {self.name: Region(self.folder, self.path, box).read()}


@dataclass(frozen=True)
class SourceInput:
    """The source file, read through windows together with what says which pixels count."""

    where: str
    mask: str | None
    masked: bool
    max_pixels: int | None
    fingerprint: str
    mask_fingerprint: str | None
    """What source and mask were when the run was planned."""

    def read(self, box: Box) -> dict[str, np.ndarray]:
        """Return ``image`` and, for a masked image, ``mask`` (uint8, 1 = counts) over `box`."""
        source = _opened(self)
        image, valid = source[0].read(box)
        arrays = {"image": image}
        if self.masked:
            mask = np.ones(box.shape, np.uint8) if valid is None else valid
            if source[1] is not None:
                mask = mask & source[1].read(box)
            arrays["mask"] = mask
        return arrays


@lru_cache(maxsize=1)
def _opened(spec: SourceInput) -> tuple[Any, Any]:
    """Open the source once per worker.

    Parsing offsets is dear, and a striped or streamed source keeps its current band. The cache
    holds a file position, never a result.
    """
    source = open_source(spec.where, max_pixels=spec.max_pixels, fingerprint=spec.fingerprint)
    if spec.mask is None:
        return source, None
    mask = open_mask(spec.mask, source.info)
    if mask.fingerprint != spec.mask_fingerprint:
        raise InputError(f"the mask {spec.mask} has changed since the run began; start a new run")
    return source, mask


@dataclass(frozen=True)
class PassJob:
    """One pass of a method over the tiles of the grid."""

    name: str
    folder: Folder
    key: str
    step: Pass
    grid: Grid
    inputs: tuple[ArrayInput | SourceInput, ...]
    paths: Mapping[str, tuple[Folder, str]]
    """Name of each array written -> where it lies."""

    def __len__(self) -> int:
        return len(self.grid)

    def outputs(self, number: int) -> list[Region]:
        """Return the tile's core in each array written."""
        core = self.grid.core(number)
        return [Region(folder, path, core) for folder, path in self.paths.values()]

    def work(self, number: int, part: Any) -> Work:
        """Read the window, map it, hand over the core."""
        work = Work()
        tile = self.grid.tile(number, self.step.halo)
        arrays: dict[str, np.ndarray] = {}
        with work.timed("read"):
            for item in self.inputs:
                arrays |= item.read(tile.window)
            work.inputs = {name: checksum(pixels) for name, pixels in arrays.items()}
        with work.timed("compute"):
            output = self.step.map(Window(tile, self.grid, arrays), part)
        work.record, work.table = output.record, output.table
        for name, pixels in output.arrays.items():
            folder, path = self.paths[name]
            work.regions.append((Region(folder, path, tile.core), pixels))
        return work


@dataclass(frozen=True)
class PyramidJob:
    """Coarser levels of an array, a few at a time, from aligned blocks of one level."""

    name: str
    folder: Folder
    key: str
    image: Folder
    prefix: str
    """Where the levels lie in the image (arrays 0, 1, 2, … behind this prefix)."""
    grid: Grid
    """Blocks of the level that is read."""
    source: int
    """The level that is read."""
    levels: tuple[int, ...]
    """The levels that are written: the next ones."""
    mean: bool
    """Local mean (images) or nearest (labels)."""

    def __len__(self) -> int:
        return len(self.grid)

    def outputs(self, number: int) -> list[Region]:
        """Return the block at each coarser level."""
        core, regions = self.grid.core(number), []
        for level in self.levels:
            factor = 2 ** (level - self.source)
            box = Box(
                tuple(a // factor for a in core.start), tuple(-(-b // factor) for b in core.stop)
            )
            regions.append(self._region(level, box))
        return regions

    def _region(self, level: int, box: Box) -> Region:
        return Region(self.image, f"{self.prefix}{level}", box)

    def work(self, number: int, _part: Any) -> Work:
        """Halve the block once per level."""
        work = Work()
        with work.timed("read"):
            block = self._region(self.source, self.grid.core(number)).read()
            planes = np.moveaxis(block, -1, 0) if block.ndim == 3 else block
        for region in self.outputs(number):
            with work.timed("compute"):
                planes = halve_mean(planes) if self.mean else halve_nearest(planes)
            pixels = np.moveaxis(planes, 0, -1) if planes.ndim == 3 else planes
            work.regions.append((region, pixels))
        return work


@dataclass(frozen=True)
class DigestJob:
    """SHA-256 of a label image: a single task, since a hash has an order."""

    name: str
    folder: Folder
    key: str
    array: Folder
    path: str

    def __len__(self) -> int:
        return 1

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the digest lies in the record."""
        return []

    def work(self, _number: int, _part: Any) -> Work:
        """Read the labels row band by row band."""
        work = Work()
        with work.timed("read"):
            digest = label_digest(self.array, self.path)
        work.record = {"digest": np.frombuffer(digest.encode(), np.uint8)}
        return work


@dataclass(frozen=True)
class TableJob:
    """Assemble the table of segments from the tiles' parts and the rows across seams."""

    name: str
    folder: Folder
    key: str
    target: str
    parts: tuple[str, ...]
    grid: Grid

    def __len__(self) -> int:
        return 1

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the table is a file of its own."""
        return []

    def work(self, _number: int, part: Any) -> Work:
        """Merge one row of tiles after the other."""
        work = Work()
        across = self.grid.counts[1]
        bands = [self.parts[i : i + across] for i in range(0, len(self.parts), across)]
        with work.timed("write"):
            found = assemble(self.folder, self.target, bands, part, self.grid.size[0])
        work.objects[self.target] = found
        return work
