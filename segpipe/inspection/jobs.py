"""The tasks of an inspection: scores, seams, and windows segmented again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.inspection.subject import Subject, sample, table_scores
from segpipe.passes import ImageInfo, Record, run_in_memory
from segpipe.quality import seams
from segpipe.quality.contrast import boundary_strength, contrast
from segpipe.store.arrays import Region
from segpipe.store.folder import Folder
from segpipe.tasks import Work
from segpipe.tiles import Box

TASK_PIXELS = 1 << 26
"""Tiles whose seams are counted in one task."""


@dataclass(frozen=True)
class _Look:
    """What the jobs share: they write nothing, what they find lies in the record."""

    subject: Subject

    @property
    def folder(self) -> Folder:
        """The run folder."""
        return self.subject.folder

    @property
    def key(self) -> str:
        """Digest of all that decides the labels."""
        return self.subject.key

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing."""
        return []


@dataclass(frozen=True)
class ScoreJob(_Look):
    """Score a label image from its table and a sample of pixels: a single task."""

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""
        return f"{self.subject.stage}-scores"

    def __len__(self) -> int:
        return 1

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
                seen = subject.pixels(box), subject.labels(box)
                sums += contrast(*seen, background=subject.background(box))
                pixels += box.size
        found["boundary_strength"] = boundary_strength(sums)
        found["contrast"] = sums.tolist()
        found["background"] = subject.partial
        found["sampled_pixels"] = pixels
        work.record = pack(found)
        return work


@dataclass(frozen=True)
class SeamJob(_Look):
    """Count how often labels change on the seams of all tiles, some tiles a task."""

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""
        return f"{self.subject.stage}-seams"

    @property
    def tiles(self) -> int:
        """Tiles per task."""
        return max(1, TASK_PIXELS // math.prod(self.subject.grid.size))

    def __len__(self) -> int:
        return -(-len(self.subject.grid) // self.tiles)

    def work(self, number: int, _part: Any) -> Work:
        """Read the labels along the lines of one tile after the other."""
        work, grid, counts = Work(), self.subject.grid, []
        for i in range(number * self.tiles, min((number + 1) * self.tiles, len(grid))):
            boxes = seams.line_boxes(grid.tile(i), grid)
            with work.timed("read"):  # strips: a third less to decode than the whole tile
                strips = [None if box is None else self.subject.labels(box) for box in boxes]
            counts.append(seams.line_counts(strips))
        work.record = {"counts": np.stack(counts)}
        return work


@dataclass(frozen=True)
class AgainJob(_Look):
    """Segment some windows twice, with seams half a tile apart: one task a window."""

    windows: tuple[Box, ...]

    @property
    def name(self) -> str:
        """Name of the job, unique in the run."""
        return f"{self.subject.stage}-seam-check"

    @property
    def key(self) -> str:
        """Digest of all that decides the labels, and the windows."""
        return f"{self.subject.key} {self.windows}"

    def __len__(self) -> int:
        return len(self.windows)

    def work(self, number: int, _part: Any) -> Work:
        """Read a window of the image and segment it with two grids."""
        work, box = Work(), self.windows[number]
        arrays: dict[str, np.ndarray] = {}
        with work.timed("read"):
            for item in self.subject.inputs:
                arrays |= {name: pixels for name, (pixels, _sum) in item.read(box).items()}
        with work.timed("compute"):
            found = segmented_again(self.subject, arrays)
        work.record = pack(found | {"start": list(box.start), "stop": list(box.stop)})
        return work


def segmented_again(subject: Subject, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what `seams.moved_seams` finds; or ``refused``, why the method cannot do a window."""
    assert subject.method is not None
    assert subject.info is not None
    rows, columns, channels = arrays["image"].shape
    info, method = subject.info, subject.method
    area = frozenset({"area"})
    cut = ImageInfo((rows, columns), channels, info.dtype, info.rgb, info.masked, area)

    def segment(size: tuple[int, int]) -> np.ndarray:
        return run_in_memory(method.passes(cut), arrays, size)[0]["labels"]

    try:
        return seams.moved_seams(segment, (rows, columns))
    except ValueError as error:  # parameters that fit the image need not fit a part of it
        return {"refused": str(error)}


def pack(values: Mapping[str, Any]) -> Record:
    """Return values as a record."""
    return {"found": np.frombuffer(json.dumps(values).encode(), np.uint8)}


def unpack(record: Record) -> dict[str, Any]:
    """Return the values of a record."""
    return dict(json.loads(record["found"].tobytes()))
