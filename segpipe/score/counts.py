"""Count what labels and truth share, and where their borders lie, tile by tile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segpipe import quality
from segpipe.errors import InputError
from segpipe.readers.labels import LabelSource
from segpipe.score.options import UNLABELLED, Options
from segpipe.tiles import Grid, Tile

THREADS = 4
"""Most tiles counted at once: beyond that, reading in one thread is the limit."""
ROWS = 1 << 20
"""Overlaps kept before they are added up."""

Counted = tuple[np.ndarray, np.ndarray]
"""Overlaps and border counts of one annotator."""


def count(
    labels: LabelSource,
    annotators: Sequence[LabelSource],
    radius: int,
    options: Options,
    size: int,
    progress: Callable[[int, int], None],
) -> list[Counted]:
    """Count all tiles: read in raster order here, counted by threads.

    Parameters
    ----------
    labels, annotators
        The segmentation, and what it is scored against; of one size.
    radius
        Tolerance of borders (px).
    options
        What does not count.
    size
        Edge of the tiles (px).
    progress
        Is told how many of how many tiles are done.

    Returns
    -------
    Counts of each annotator.
    """
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
    # overlaps keep pixels of no segment: to classes and objects they are background
    inside = quality.counted(labels, truth, (), (UNLABELLED,) * options.leaves_out, keep)
    edges = quality.border_counts(labels, truth, radius, valid=inside, inner=tile.inner)
    part = None if keep is None else keep[tile.inner]
    return quality.overlaps(labels[tile.inner], truth[tile.inner], part), edges
