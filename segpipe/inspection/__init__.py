"""The look at a finished result: conditions of a good segmentation, and whether tiles show.

Three kinds of tasks: one reads the table of segments and a few windows of pixels, some read the
labels along all seams, and a few segment a window again with the seams elsewhere. What they cost
beside the segmentation is bounded: a sample is a sample of known size, drawn with a fixed seed, and
the same for every tiling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.engine import Workload
from segpipe.inspection.jobs import AgainJob, ScoreJob, SeamJob, unpack
from segpipe.inspection.subject import Subject, table_scores
from segpipe.passes import Pass
from segpipe.quality import seams
from segpipe.tasks import Report
from segpipe.tiles import Box, Grid

__all__ = [
    "ScoreJob",
    "SeamJob",
    "Subject",
    "check_seams",
    "inspect",
    "looked",
    "table_scores",
    "windows",
]

WINDOWS = 4
"""Windows that are segmented again, at most."""
WINDOW_EDGES = (1536, 1280, 1024, 768, 640, 512, 384, 256, 192, 128)
SECONDS, SHARE, LEAST = 2.0, 0.03, 0.25
"""What segmenting windows again may cost: at most so many seconds of one core and so large a share
of the run, but a quarter of a second in any case."""


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
    found = looked(subjects, do("inspect", [Workload(job) for job in jobs]))
    check_seams(subjects, found, do)
    return found


def looked(
    subjects: Sequence[Subject], done: Sequence[Sequence[Report]]
) -> dict[str, dict[str, Any]]:
    """Put together what a `ScoreJob` and a `SeamJob` of each subject have reported."""
    found: dict[str, dict[str, Any]] = {"conditions": {}, "seams": {}}
    for subject, scored, counted in zip(subjects, done[::2], done[1::2], strict=True):
        found["conditions"][subject.stage] = unpack(scored[0].record)
        counts = np.concatenate([report.record["counts"] for report in counted])
        found["seams"][subject.stage] = seams.summary(counts, subject.grid)
    return found


def check_seams(
    subjects: Sequence[Subject], found: Mapping[str, Mapping[str, Any]], do: Do
) -> None:
    """Segment some windows again, and add to `found` whether labels change with the seams."""
    again = [
        AgainJob(s, tuple(windows(s, found["conditions"][s.stage], found["seams"][s.stage])))
        for s in subjects
        if s.method is not None
    ]
    if any(len(job) for job in again):
        for job, reports in zip(again, do("seam-check", [Workload(j) for j in again]), strict=True):
            parts = [unpack(report.record) for report in reports]
            found["seams"][job.subject.stage]["check"] = _checked(parts)


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
    costs = {e: sum(_seconds(e, step) for step in passes) for e in edges}
    edge = next((e for e in edges if costs[e] <= allowed), edges[-1])
    return edge, int(np.clip(allowed // max(costs[edge], 1e-9), 1, WINDOWS))


def _seconds(edge: int, step: Pass) -> float:
    """Time to map a window twice in tiles of half and of three quarters of its edge."""
    return sum(
        step.work_pixels(Grid((edge, edge), (tile, tile))) * step.cost_ns * 1e-9
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
