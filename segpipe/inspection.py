"""The look at a finished result: conditions of a good segmentation, and whether tiles show.

Three kinds of tasks: one reads the table of segments and a few windows of pixels, some read the
labels along all seams, and a few segment a window again with the seams elsewhere. What they cost
beside the segmentation is bounded: a sample is a sample of known size, drawn with a fixed seed, and
the same for every tiling.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.engine import Workload
from segpipe.jobs import ArrayInput
from segpipe.passes import ImageInfo, Method, Record, run_in_memory
from segpipe.quality import conditions, seams
from segpipe.store.arrays import Region, as_pixels
from segpipe.store.columns import batches, column_names
from segpipe.store.folder import Folder
from segpipe.tasks import Report, Work
from segpipe.tiles import Box, Grid

SEED = 20120711
"""Of everything that is drawn at random."""
DRAWN = 64
"""Segments drawn; the pixels round them are the sample of image and labels."""
EDGE = 512
"""Edge of the cells of the sample (px): a chunk, as most tiles are stored."""
WORST = 16
"""Segments that vary most inside, kept for the report."""
TASK_PIXELS = 1 << 26
"""Tiles whose seams are counted in one task."""
WINDOWS = 4
"""Windows that are segmented again, at most."""
WINDOW_EDGES = (1536, 1280, 1024, 768, 640, 512, 384, 256, 192, 128)
MEASURES = ("label", "area", "perimeter", "centroid-", "intensity_mean-", "intensity_std-")
"""Beginnings of the names of columns that are scored."""
SECONDS, SHARE, LEAST = 2.0, 0.03, 0.25
"""What segmenting windows again may cost: at most so many seconds of one core and so large a share
of the run, but a quarter of a second in any case."""


@dataclass(frozen=True)
class Subject:
    """The labels of one stage, and what belongs to them."""

    stage: str
    folder: Folder
    """The run folder."""
    image: Folder
    """Where the OME-Zarr image lies."""
    table: str
    segments: int
    grid: Grid
    key: str
    """Digest of all that decides the labels."""
    method: Method | None = None
    """None: nothing is segmented again."""
    info: ImageInfo | None = None
    inputs: tuple[ArrayInput, ...] = ()
    """What the method reads: the image, and its mask if it has one."""
    seconds: float = math.inf
    """What the run takes, roughly."""

    def labels(self, box: Box) -> np.ndarray:
        """Return the labels in a box."""
        return Region(self.image, f"labels/{self.stage}/0", box).read()

    def pixels(self, box: Box) -> np.ndarray:
        """Return the image in a box."""
        return as_pixels(Region(self.image, "0", box).read())


Do = Callable[[str, Sequence[Workload]], list[list[Report]]]
"""Runs jobs under a title; returns the reports of each."""


def inspect(subjects: Sequence[Subject], do: Do) -> dict[str, dict[str, Any]]:
    """Look at the labels of some stages.

    Returns
    -------
    dict
        ``conditions`` and ``seams``, each by stage, as ``run.json`` says them.
    """
    jobs = [job for s in subjects for job in (ScoreJob(s), SeamJob(s))]
    done = do("inspect", [Workload(job) for job in jobs])
    found: dict[str, dict[str, Any]] = {"conditions": {}, "seams": {}}
    for subject, scored, counted in zip(subjects, done[::2], done[1::2], strict=True):
        found["conditions"][subject.stage] = _unpack(scored[0].record)
        counts = np.concatenate([report.record["counts"] for report in counted])
        found["seams"][subject.stage] = seams.summary(counts, subject.grid)
    again = [
        AgainJob(s, tuple(windows(s, found["conditions"][s.stage], found["seams"][s.stage])))
        for s in subjects
        if s.method is not None
    ]
    if any(len(job) for job in again):
        for job, reports in zip(again, do("seam-check", [Workload(j) for j in again]), strict=True):
            parts = [_unpack(report.record) for report in reports]
            found["seams"][job.subject.stage]["check"] = _checked(parts)
    return found


def windows(
    subject: Subject, scored: Mapping[str, Any], counted: Mapping[str, Any]
) -> Iterator[Box]:
    """Yield the windows to segment again: at the worst seam, and at crossings near segments."""
    edge, most = _affordable(subject)
    places = [tuple(seam["where"]) for seam in counted["worst"][:1]]
    places += [_crossing(place["at"], subject.grid, edge) for place in scored["drawn"]]
    seen: set[Box] = set()
    for place in places:
        box = around(place, edge, subject.grid.shape)
        if box not in seen and len(seen) < most:
            seen.add(box)
            yield box


def around(place: Sequence[float], edge: int, shape: Sequence[int]) -> Box:
    """Return a box of `edge` pixels round a place, moved into the image, or cut to it.

    >>> around((5, 90), 20, (100, 100))
    Box(start=(0, 80), stop=(20, 100))
    """
    size = [min(edge, n) for n in shape]
    start = [
        min(max(0, int(c) - s // 2), n - s) for c, s, n in zip(place, size, shape, strict=True)
    ]
    return Box(tuple(start), tuple(a + s for a, s in zip(start, size, strict=True)))


@dataclass(frozen=True)
class ScoreJob:
    """Score a label image from its table and a sample of pixels: a single task."""

    subject: Subject

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""
        return f"{self.subject.stage}-scores"

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.subject.folder

    @property
    def key(self) -> str:
        """Digest of all that decides the labels."""
        return self.subject.key

    def __len__(self) -> int:
        return 1

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the scores lie in the record."""
        return []

    def work(self, _number: int, _part: Any) -> Work:
        """Read the table, then the pixels round some of its segments."""
        work, subject = Work(), self.subject
        with work.timed("compute"):
            found = table_scores(
                subject.folder, subject.table, subject.grid.shape, subject.segments
            )
        with work.timed("read"):
            sums, pixels = np.zeros((2, 2), np.int64), 0
            for box in sample(found["drawn"], subject.grid.shape):
                sums += conditions.contrast(subject.pixels(box), subject.labels(box))
                pixels += box.size
        found["boundary_strength"] = conditions.boundary_strength(sums)
        found["contrast"] = sums.tolist()
        found["sampled_pixels"] = pixels
        work.record = _pack(found)
        return work


@dataclass(frozen=True)
class SeamJob:
    """Count how often labels change on the seams of all tiles, some tiles a task."""

    subject: Subject

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""
        return f"{self.subject.stage}-seams"

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.subject.folder

    @property
    def key(self) -> str:
        """Digest of all that decides the labels."""
        return self.subject.key

    @property
    def tiles(self) -> int:
        """Tiles per task."""
        return max(1, TASK_PIXELS // math.prod(self.subject.grid.size))

    def __len__(self) -> int:
        return -(-len(self.subject.grid) // self.tiles)

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the counts lie in the record."""
        return []

    def work(self, number: int, _part: Any) -> Work:
        """Read the labels of one tile after the other."""
        work, grid, counts = Work(), self.subject.grid, []
        for i in range(number * self.tiles, min((number + 1) * self.tiles, len(grid))):
            tile = grid.tile(i, halo=1)
            with work.timed("read"):
                labels = self.subject.labels(Box(tile.core.start, tile.window.stop))
            rows, columns = tile.core.shape
            with work.timed("compute"):
                counts.append(seams.line_counts(labels, (rows, columns), _pair(grid.size)))
        work.record = {"counts": np.stack(counts)}
        return work


@dataclass(frozen=True)
class AgainJob:
    """Segment some windows twice, with seams half a tile apart: one task a window."""

    subject: Subject
    windows: tuple[Box, ...]

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""
        return f"{self.subject.stage}-seam-check"

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.subject.folder

    @property
    def key(self) -> str:
        """Digest of all that decides the labels, and the windows."""
        return f"{self.subject.key} {self.windows}"

    def __len__(self) -> int:
        return len(self.windows)

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: what was found lies in the record."""
        return []

    def work(self, number: int, _part: Any) -> Work:
        """Read a window of the image and segment it with two grids."""
        work, box = Work(), self.windows[number]
        arrays: dict[str, np.ndarray] = {}
        with work.timed("read"):
            for item in self.subject.inputs:
                arrays |= {name: pixels for name, (pixels, _sum) in item.read(box).items()}
        with work.timed("compute"):
            found = segmented_again(self.subject, arrays)
        work.record = _pack(found | {"start": list(box.start), "stop": list(box.stop)})
        return work


def segmented_again(subject: Subject, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what `seams.moved_seams` finds; or ``refused``, why the method cannot do a window."""
    assert subject.method is not None
    assert subject.info is not None
    rows, columns, channels = arrays["image"].shape
    info, method = subject.info, subject.method
    cut = ImageInfo((rows, columns), channels, info.dtype, info.rgb, info.masked)

    def segment(size: tuple[int, int]) -> np.ndarray:
        return run_in_memory(method.passes(cut), arrays, size)[0]["labels"]

    try:
        return seams.moved_seams(segment, (rows, columns))
    except ValueError as error:  # parameters that fit the image need not fit a part of it
        return {"refused": str(error)}


def table_scores(folder: Folder, table: str, shape: Sequence[int], segments: int) -> dict[str, Any]:
    """Score a table of segments, and name some of them: drawn at random, and the least uniform.

    Returns
    -------
    dict
        `conditions.scores`, and ``drawn`` and ``worst``: lists of ``label``, ``area``, ``at`` (y, x
        of the centroid) and ``sd``.
    """
    rng = np.random.default_rng(SEED)
    wanted = np.unique(rng.integers(1, max(segments, 1) + 1, DRAWN))
    sums, drawn, worst = None, [], []
    columns = [n for n in column_names(folder, table) if n.startswith(MEASURES)]
    for rows in batches(folder, table, columns):
        part = conditions.Sums.of(rows, _pair(shape))
        sums = part if sums is None else sums + part
        if not {"label", "centroid-0", "centroid-1"} <= set(rows):
            continue
        drawn += _named(rows, np.flatnonzero(np.isin(rows["label"], wanted)))
        within = rows["area"] * sum(rows[n] ** 2 for n in rows if n.startswith("intensity_std-"))
        if within.any():
            # of equals the first: labels rise
            worst += _named(rows, np.argsort(-within, kind="stable")[:WORST])
            worst = sorted(worst, key=lambda s: (-s["area"] * s["sd"] ** 2, s["label"]))[:WORST]
    found: dict[str, Any] = dict.fromkeys(conditions.NAMES)
    if sums is not None:
        found |= conditions.scores(sums)
    # in the order of the draw the first few are a fair sample too, sorted they are not
    drawn = [drawn[i] for i in np.random.default_rng(SEED).permutation(len(drawn))]
    return found | {"drawn": drawn, "worst": worst}


def sample(drawn: Iterable[Mapping[str, Any]], shape: Sequence[int]) -> list[Box]:
    """Return the cells of a lattice of `EDGE` pixels that hold the drawn segments; all, if few."""
    cells = Grid(_pair(shape), (EDGE, EDGE))
    if len(cells) <= DRAWN:
        return [cells.core(i) for i in range(len(cells))]
    across = cells.counts[1]
    numbers = {int(y) // EDGE * across + int(x) // EDGE for y, x in (d["at"] for d in drawn)}
    return [cells.core(i) for i in sorted(numbers)]


def _named(rows: Mapping[str, np.ndarray], places: np.ndarray) -> list[dict[str, Any]]:
    deviations = [rows[n][places] for n in rows if n.startswith("intensity_std-")]
    sd = np.sqrt(sum((d**2 for d in deviations), np.zeros(len(places))))
    columns = (rows[n][places].tolist() for n in ("label", "area", "centroid-0", "centroid-1"))
    return [
        {"label": label, "area": area, "at": [y, x], "sd": s}
        for label, area, y, x, s in zip(*columns, sd.tolist(), strict=True)
    ]


def _affordable(subject: Subject) -> tuple[int, int]:
    """Return edge and number of the windows that may be segmented again."""
    assert subject.method is not None
    assert subject.info is not None
    passes = subject.method.passes(subject.info)
    halo = max(step.halo for step in passes)
    allowed = min(SECONDS, max(LEAST, SHARE * subject.seconds))
    largest = max(min(2 * max(subject.grid.size), WINDOW_EDGES[0]), WINDOW_EDGES[-1])
    # where tiles of half a window are all halo, seams could not matter
    edges = [e for e in WINDOW_EDGES if e <= largest and e >= 3 * halo] or [largest]
    costs = {e: sum(_seconds(e, step.halo, step.cost_ns) for step in passes) for e in edges}
    edge = next((e for e in edges if costs[e] <= allowed), edges[-1])
    return edge, int(np.clip(allowed // max(costs[edge], 1e-9), 1, WINDOWS))


def _seconds(edge: int, halo: int, cost_ns: float) -> float:
    """Time to map a window twice in tiles of half and of three quarters of its edge."""
    return sum(
        Grid((edge, edge), (tile, tile)).window_pixels(halo) * cost_ns * 1e-9
        for tile in (edge // 2, 3 * edge // 4)
    )


def _crossing(at: Sequence[float], grid: Grid, edge: int) -> tuple[float, ...]:
    """Return the seam's, or the crossing's, point nearest to a place, if it is close to it."""
    found = []
    for place, size, n in zip(at, grid.size, grid.shape, strict=True):
        near = round(place / size) * size
        found.append(near if 0 < near < n and abs(near - place) < edge // 3 else place)
    return tuple(found)


def _checked(parts: list[dict[str, Any]]) -> dict[str, Any]:
    refused = [part for part in parts if "refused" in part]
    found = seams.merged_check([part for part in parts if "refused" not in part])
    return found | ({"refused": refused} if refused else {})


def _pack(values: Mapping[str, Any]) -> Record:
    return {"found": np.frombuffer(json.dumps(values).encode(), np.uint8)}


def _unpack(record: Record) -> dict[str, Any]:
    return dict(json.loads(record["found"].tobytes()))


def _pair(numbers: Sequence[int]) -> tuple[int, int]:
    rows, columns = numbers
    return rows, columns
