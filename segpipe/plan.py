"""What a run will do, decided before any pixel is read: tiles, passes, bytes, memory, time.

A plan is data. It refuses up front, with the number given, the limit and the remedy.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe import __version__
from segpipe.config import Config
from segpipe.errors import DoesNotFit, InputError
from segpipe.passes import ImageInfo, Output, Pass, Window
from segpipe.readers import SourceInfo
from segpipe.stage_plans import StagePlan, plan_stage
from segpipe.tiles import Grid

EDGES = (256, 512, 1024, 1536, 2048, 3072, 4096, 5120, 6144, 8192)
"""Tile edges that `auto` chooses from (px)."""
USABLE = 0.6
"""Share of a worker's memory that a task may use: beyond it Dask begins to spill."""
MOST_PIXELS = 1_000_000_000
"""Of a tile and its halo: kernels count pixels, and the edges between them, in 32 bits."""
BASE_BYTES = 300 << 20
"""Memory of a worker before it sees a pixel: Python, Numba, Zarr, Dask."""
SOURCE_NS, READ_NS, WRITE_NS = 3.5, 1.3, 1.8
"""Time per byte of decoding the source, and of reading and writing what the run stores."""
DEAR, START_SECONDS = 4.0, 5.0
"""A pass that reads the image more often than this deserves a word; starting, and the report."""
TASK_SECONDS = 0.02
"""Cost of one task besides its pixels: scheduling, opening arrays, the record."""
AIM_BYTES = 1 << 30
"""`auto` stays below this per worker even where more is allowed: larger tiles gain little."""


@dataclass(frozen=True)
class Cost:
    """What one pass will take."""

    stage: str
    name: str
    tiles: int
    halo: int
    overhead: float
    """Pixels read over pixels of the image."""
    read_bytes: int
    written_bytes: int
    peak_bytes: int
    """Memory of a worker."""
    seconds: float


@dataclass(frozen=True)
class Limits:
    """What the cluster offers."""

    workers: int
    memory: int
    """Bytes per worker."""


@dataclass(frozen=True)
class Plan:
    """Everything that a run needs to know."""

    config: Config
    source: SourceInfo
    image: ImageInfo
    grid: Grid
    stages: tuple[StagePlan, ...]
    limits: Limits
    mask_fingerprint: str | None = None

    @property
    def tile_size(self) -> tuple[int, int]:
        """(rows, columns) of a core."""
        rows, columns = self.grid.size
        return rows, columns

    @property
    def ingest(self) -> Pass:
        """The pass that copies the source into the run folder."""
        return ingest_pass(self.image)

    @property
    def identity(self) -> str:
        """Digest of what decides labels and tables: input, methods, parameters, version."""
        stages = [
            [s.name, s.reads, s.fingerprint, s.method.name, dataclasses.asdict(s.method)]  # type: ignore[call-overload]
            + [file for step in s.passes for file in step.files]
            for s in self.stages
        ]
        tables = self.config.measure
        parts = [__version__, self.source.fingerprint, self.mask_fingerprint, stages, tables]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def sweeps(self) -> Iterator[tuple[str, Pass]]:
        """(stage name, pass) in the order of the run."""
        yield "image", self.ingest
        for stage in self.stages:
            for step in stage.passes:
                yield stage.name, step

    def rows(self) -> list[Cost]:
        """One row per pass: tiles, halo, pixels and bytes moved, memory, seconds."""
        return [_row(self, stage, step) for stage, step in [*self.sweeps(), ("run", FINISH)]]

    @property
    def seconds(self) -> float:
        """Rough time of the whole run, from starting workers to the report."""
        return START_SECONDS + sum(row.seconds for row in self.rows())

    @property
    def written_bytes(self) -> int:
        """Most that the run writes: what passes say, before compression, and the pyramids."""
        return sum(row.written_bytes for row in self.rows()) * 4 // 3

    @property
    def peak_bytes(self) -> int:
        """Projected peak memory of a worker."""
        return max(row.peak_bytes for row in self.rows())

    @property
    def nothing(self) -> str:
        """What there is to say when no pixel counts."""
        source = self.source
        reasons = {
            "NaN or infinite": np.dtype(source.dtype).kind == "f",
            f"nodata ({source.nodata})": source.nodata is not None,
            "transparent": source.alpha,
            "outside of the mask": self.config.mask is not None,
        }
        why = " or ".join(reason for reason, possible in reasons.items() if possible)
        return f"no pixel of the image counts: all are {why}; so there are no segments"

    @property
    def advice(self) -> list[str]:
        """What a user should know before the work begins."""
        return [
            f"{row.stage}-{row.name} reads {row.overhead:.0f} times the image: tiles of "
            f"{self.grid.size[0]} x {self.grid.size[1]} are small beside its halo of {row.halo} "
            f"pixels; larger ones (tiles.size) are cheaper and give the same labels"
            for row in self.rows()
            if row.overhead > DEAR
        ]


FINISH = Pass("finish", lambda _w, _p: Output(), ("labels", "labels"), cost_ns=12.0)
"""Stands for pyramids, digest and table: they read every label twice more."""


def make_plan(
    config: Config, source: SourceInfo, limits: Limits, mask_fingerprint: str | None = None
) -> Plan:
    """Decide everything about a run.

    Raises
    ------
    InputError
        A parameter is not allowed, or the tiles do not fit the memory of a worker.
    """
    image = ImageInfo(
        shape=source.shape,
        channels=source.channels,
        dtype=source.dtype,
        rgb=source.rgb,
        masked=source.masked or config.mask is not None,
        pixel_size=source.pixel_size,
        pixel_unit=source.pixel_unit,
        measure=frozenset(config.measure),
        transform=source.transform,
    )
    stages: tuple[StagePlan, ...] = ()
    for stage in config.work:
        stages = *stages, plan_stage(stage, stages, image, source)
    grid = Grid(image.shape, _tile_size(config, source, image, stages, limits))
    plan = Plan(config, source, image, grid, stages, limits, mask_fingerprint)
    _check_memory(plan)
    return plan


def ingest_pass(image: ImageInfo) -> Pass:
    """Return the pass that copies the source, so that every later read is aligned and fast."""
    size = np.dtype(image.dtype).itemsize * image.channels
    writes = {"image": image.dtype} | ({"mask": "uint8"} if image.masked else {})
    return Pass("ingest", _copy, tuple(writes), writes, bytes_per_pixel=2 * size + 1, cost_ns=1.0)


def _copy(window: Window, _part: Any) -> Output:
    """Hand the image on; count the pixels that take part."""
    mask = window.arrays.get("mask")
    counting = 1 if mask is None else np.count_nonzero(mask)
    return Output(dict(window.arrays), {"counting": np.array([counting])})


def _tile_size(
    config: Config,
    source: SourceInfo,
    image: ImageInfo,
    stages: tuple[StagePlan, ...],
    limits: Limits,
) -> tuple[int, int]:
    size = config.tiles.size
    if size == "whole":
        return image.shape
    if isinstance(size, tuple):
        if any(edge < min(64, n) for edge, n in zip(size, image.shape, strict=True)):
            raise InputError(f"tiles.size {list(size)}: tiles need at least 64 x 64 pixels")
        return _clip(size, image.shape)
    if isinstance(size, int):
        return _clip((size, size), image.shape)
    grids = (Grid(image.shape, size) for size in _sizes(image.shape, stages))
    plans = [Plan(config, source, image, grid, stages, limits) for grid in grids]
    aim = max(min(AIM_BYTES, USABLE * limits.memory), min(p.peak_bytes for p in plans))
    fitting = [plan for plan in plans if plan.peak_bytes <= aim]
    return min(fitting, key=lambda plan: plan.seconds).grid.size  # type: ignore[return-value]


def _sizes(shape: tuple[int, int], stages: Sequence[StagePlan]) -> Iterable[tuple[int, int]]:
    """Return the tile sizes that `auto` chooses from: multiples of what a pass computes whole."""
    units = (step.align for stage in stages for step in stage.passes if step.align)
    y, x = max(units, default=(1, 1), key=math.prod)
    sizes = ((max(1, round(e / y)) * y, max(1, round(e / x)) * x) for e in EDGES)
    return {_clip(size, shape): None for size in sizes}


def _clip(size: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    return min(size[0], shape[0]), min(size[1], shape[1])


def _check_memory(plan: Plan) -> None:
    allowed = int(USABLE * plan.limits.memory)
    worst = max(plan.rows(), key=lambda row: row.peak_bytes)
    if worst.peak_bytes > allowed:
        raise DoesNotFit(
            f"pass {worst.name} with tiles of {plan.grid.size[0]} x {plan.grid.size[1]} needs "
            f"about {worst.peak_bytes / 1e9:.1f} GB per worker, but {allowed / 1e9:.1f} GB "
            f"({USABLE:.0%} of the limit of {plan.limits.memory / 1e9:.1f} GB) may be used; "
            f"choose smaller tiles (tiles.size), fewer workers or a larger cluster.memory"
        )
    windows = [plan.grid.largest_window(p.halo, p.align) for _, p in plan.sweeps()]
    if max(windows) > MOST_PIXELS:
        raise DoesNotFit(
            f"tiles of {plan.grid.size[0]} x {plan.grid.size[1]} with what is read around them have"
            f" {max(windows):,} pixels, and up to {MOST_PIXELS:,} are allowed; choose smaller tiles"
            " (tiles.size)"
        )


def _row(plan: Plan, stage: str, step: Pass) -> Cost:
    grid, image = plan.grid, plan.image
    pixels = grid.window_pixels(step.halo, step.align)
    window = grid.largest_window(step.halo, step.align)
    peak = BASE_BYTES + step.fixed_bytes + window * step.bytes_per_pixel
    if step.name == "ingest":
        peak += plan.source.working_bytes(plan.tile_size)
    # the last round of tiles may leave workers idle
    rounds = -(-len(grid) // plan.limits.workers) * plan.limits.workers / len(grid)
    height, width = image.shape
    read = pixels * sum(_width(name, plan) for name in step.reads)
    wide = sum(_width(n, plan, k) * step.planes.get(n, 1) for n, k in step.writes.items())
    written = height * width * wide
    moving = read * (SOURCE_NS if step.name == "ingest" else READ_NS) + written * WRITE_NS
    busy = (step.work_pixels(grid) * step.cost_ns + moving) * 1e-9 + len(grid) * TASK_SECONDS
    return Cost(
        stage=stage,
        name=step.name,
        tiles=len(grid),
        halo=step.halo,
        overhead=pixels / (height * width),
        read_bytes=read,
        written_bytes=written,
        peak_bytes=peak,
        seconds=busy * rounds / plan.limits.workers,
    )


def _width(name: str, plan: Plan, dtype: str | None = None) -> int:
    """Bytes per pixel of an array."""
    if name == "image":
        return np.dtype(plan.image.dtype).itemsize * plan.image.channels
    if name == "mask":
        return 1
    return np.dtype(dtype).itemsize if dtype else 4
