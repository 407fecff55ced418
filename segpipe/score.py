"""Score label images in files against ground truth, tile by tile.

What is counted in a tile are integers that add up (`segpipe.quality`): the scores are the same for
any tile size. Held are a few tiles and the table of who shares pixels with whom; label images in
.npz and .mat files are held whole.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import segpipe
from segpipe import quality
from segpipe.errors import InputError
from segpipe.readers.labels import LabelSource
from segpipe.score_labels import RunLabels, open_all
from segpipe.tiles import Grid, Tile

TILE = 2048
"""Edge of a tile (px); at the usual tolerance windows are 12 % larger for a 16384 px image."""
THREADS = 4
"""Most tiles counted at once: beyond that, reading in one thread is the limit."""
ROWS = 1 << 20
"""Overlaps kept before they are added up."""

Counted = tuple[np.ndarray, np.ndarray]
"""Overlaps and border counts of one annotator."""


@dataclass(frozen=True)
class Options:
    """What to score, and how."""

    radius: int | None = None
    """Tolerance of borders in pixels; None: 0.0025 of the diagonal."""
    share: float = quality.SHARE
    """Share of a segment that makes it lie inside an object."""
    ignore: tuple[int, ...] = ()
    """Values of the truth whose pixels do not count."""
    ignore_labels: tuple[int, ...] = ()
    """Values of the labels whose pixels do not count."""
    classes: bool = False
    """Dice and Jaccard of classes: those that the table of a run gives its segments, else the
    labels are the classes."""
    instances: bool = False
    """Labels are objects, 0 is background: PQ and AP."""
    thresholds: tuple[float, ...] = quality.THRESHOLDS
    """Thresholds of IoU for AP."""

    def __post_init__(self) -> None:
        if self.radius is not None and self.radius < 0:
            raise InputError(f"the tolerance must be 0 pixels or more, got {self.radius}")
        if not 0 <= self.share <= 1:
            raise InputError(f"the share of a segment must be 0 to 1, got {self.share}")
        for iou in self.thresholds:
            if not 0 < iou <= 1:
                raise InputError(f"IoU thresholds are more than 0 and at most 1, got {iou}")


def score_files(
    labels: str,
    truths: Sequence[str],
    options: Options | None = None,
    *,
    stage: str | None = None,
    tile: int = TILE,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Score a segmentation against the ground truth of one or more annotators.

    Parameters
    ----------
    labels
        Run folder, or what `open_labels` reads.
    truths
        What `open_labels` reads; each may hold several annotators.
    options
        What to score, and how.
    stage
        Which label image of a run, when there are several.
    tile
        Edge of the tiles in pixels; it never changes the result.
    progress
        Is told how many of how many tiles are done.

    Returns
    -------
    dict
        What was compared, ``mean`` over the annotators of every score of `quality.METRICS`, and
        for each of ``annotators`` its scores and the counts behind them. JSON can hold it.

    Raises
    ------
    InputError
        Something cannot be read, sizes differ, or no pixel counts.
    """
    options = options or Options()
    with ExitStack() as stack:
        found, annotators = open_all(labels, truths, stage)
        for source in [found, *annotators]:
            stack.callback(source.close)
        radius = quality.tolerance(found.info.shape) if options.radius is None else options.radius
        counts = _count(found, annotators, radius, options, tile, progress)
        known = found.classes() if options.classes and isinstance(found, RunLabels) else None
        pairs = zip(annotators, counts, strict=True)
        results = [_scores(source.name, each, options, known) for source, each in pairs]
    return {
        "segpipe": segpipe.__version__,
        "labels": found.name,
        "shape": list(found.info.shape),
        "tolerance": radius,
        "options": dataclasses.asdict(options),
        "classes_of": ("segments" if known else "labels") if options.classes else None,
        "mean": {
            name: float(np.mean([one["scores"][name] for one in results]))
            for name in results[0]["scores"]
        },
        "annotators": results,
    }


@dataclass
class _Tally:
    """Sum of what the tiles count for one annotator."""

    rows: list[np.ndarray] = field(default_factory=list)
    edges: np.ndarray = field(default_factory=lambda: np.zeros(4, np.int64))

    def add(self, rows: np.ndarray, edges: np.ndarray) -> None:
        self.rows.append(rows)
        self.edges += edges
        # adding up when as much is new as is summed costs no more than a few sorts in all
        if sum(map(len, self.rows[1:])) > max(ROWS, len(self.rows[0])):
            self.rows = [quality.combine(np.concatenate(self.rows))]

    @property
    def counted(self) -> Counted:
        return quality.combine(np.concatenate(self.rows)), self.edges


def _count(
    labels: LabelSource,
    annotators: Sequence[LabelSource],
    radius: int,
    options: Options,
    size: int,
    progress: Callable[[int, int], None],
) -> list[Counted]:
    """Count all tiles: read in raster order here, counted by threads."""
    grid = Grid(labels.info.shape, (size, size))
    tallies = [_Tally() for _ in annotators]
    threads = min(THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:

        def submitted() -> Iterator[list[Future[Counted]]]:
            for tile in grid.tiles(radius + 1):
                ours = _read(labels, tile)
                windows = [(ours, _read(source, tile)) for source in annotators]
                yield [pool.submit(_count_tile, tile, pair, radius, options) for pair in windows]

        for done, futures in enumerate(_ahead(submitted(), threads), 1):
            for tally, future in zip(tallies, futures, strict=True):
                tally.add(*future.result())
            progress(done, len(grid))
    return [tally.counted for tally in tallies]


def _ahead(items: Iterator[Any], count: int) -> Iterator[Any]:
    """Yield items when `count` more are begun: as many are in memory, and one."""
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _read(source: LabelSource, tile: Tile) -> tuple[np.ndarray, np.ndarray | None]:
    """Read labels and validity of a tile's window."""
    values, valid = source.read(tile.window)
    if valid is not None and values.dtype.kind == "f":
        values = np.where(valid, values, 0)
    try:
        return quality.as_labels(values), valid
    except ValueError as error:
        raise InputError(f"{source.name}: {error}") from error


def _count_tile(tile: Tile, pair: Any, radius: int, options: Options) -> Counted:
    """Count overlaps in a tile's core and borders with the help of its window."""
    (labels, known), (truth, valid) = pair
    if known is not None:
        valid = known if valid is None else known & valid
    keep = quality.counted(labels, truth, options.ignore, options.ignore_labels, valid)
    edges = quality.border_counts(labels, truth, radius, valid=keep, inner=tile.inner)
    part = None if keep is None else keep[tile.inner]
    return quality.overlaps(labels[tile.inner], truth[tile.inner], part), edges


def _scores(
    name: str,
    counts: Counted,
    options: Options,
    known: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Compute all scores against one annotator."""
    rows, edges = counts
    try:
        table = quality.tabulate(rows)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    scores = quality.region_scores(table, edges, options.share)
    more: dict[str, Any] = {}
    if options.classes:
        values, found = quality.class_scores(_by_class(rows, known, name) if known else table)
        scores |= values
        more["classes"] = _class_rows(found)
    if options.instances:
        values, matches = quality.instance_scores(table, options.thresholds)
        scores |= values
        more["thresholds"] = [_match_row(one) for one in matches]
    return {
        "truth": name,
        "segments": len(table.labels),
        "regions": len(table.truths),
        "pixels": table.total,
        "ignored": int(rows[:, -1].sum()) - table.total,
        "border_pixels": dict(zip(quality.BORDER_COUNTS, edges.tolist(), strict=True)),
        "scores": scores,
        **more,
    }


def _by_class(
    rows: np.ndarray, known: tuple[np.ndarray, np.ndarray], name: str
) -> quality.Contingency:
    """Put the class of each segment in its place.

    Pixels of no segment are class 0, the background; where segments have that class themselves,
    they are outside of what was segmented and do not count.
    """
    labels, classes = known
    rows = (rows[rows[:, 0] != 0] if (classes == 0).any() else rows).copy()
    inside = rows[:, 0] != 0
    rows[inside, 0] = classes[np.searchsorted(labels, rows[inside, 0])]
    try:
        return quality.tabulate(quality.combine(rows))
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def _class_rows(found: quality.Classes) -> list[dict[str, Any]]:
    columns = {
        "class": found.values,
        "dice": found.dice,
        "jaccard": found.jaccard,
        "pixels_both": found.both,
        "pixels_labels": found.labels,
        "pixels_truth": found.truth,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _match_row(found: quality.Matches) -> dict[str, Any]:
    names = ("iou", "true_positives", "false_positives", "false_negatives")
    values = (*names, "precision", "recall", "f1", "ap", "mean_iou")
    return {name: getattr(found, name) for name in values}


def write_json(result: dict[str, Any], path: str) -> None:
    """Write the result to a file."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another file") from error
