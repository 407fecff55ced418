"""The last pass of every method that yields regions: canonical labels and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numba import njit

from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import colours, columns, rank
from segpipe.regions.columns import STANDARD, Wanted
from segpipe.regions.measure_tile import Seen, tile_rows
from segpipe.regions.modes import Modes, mode_sums
from segpipe.tiles import Grid, Tile

COSTS = {"area": 2.0, "shape": 1.0, "neighbours": 5.0}
CHANNEL_COSTS = {
    "colour": {"8 bits": 0.5, "more bits": 0.7, "float": 8.0},
    "percentiles": {"8 bits": 3.0, "more bits": 30.0, "float": 45.0},
}
"""Rough time of each group of measurements (ns/px), of some for each channel: the percentiles of
8-bit images are counted, those of others sorted (``tests/bench/bench_measure.py --dtype``)."""


@dataclass(frozen=True)
class Votes:
    """Planes of an array of bytes, each of which speaks for a class."""

    array: str
    planes: tuple[int, ...]
    classes: tuple[int, ...]


def label_pass(
    image: ImageInfo,
    *,
    classes: str | None = None,
    votes: Votes | None = None,
    modes: Modes | None = None,
    cut: Callable[[Window], np.ndarray] | None = None,
) -> Pass:
    """Return the pass that turns ``regions`` (per-tile numbers) into ``labels`` 1..N.

    The pass before it must write ``regions``, send `rank.summary` as its record and solve with
    `rank.solve`. Labels are uint32, or uint64 for images of 2^32 pixels and more. What is measured
    on the way is ``image.measure``. With `classes`, the pass before must also write ``classes``
    (unsigned, 0 = none, else 1 + class), constant in every region; the table gets a column of that
    name. With `votes`, the class whose plane sums up to most in a region, and the mean of that
    plane (255 = 1), become columns ``class`` and ``score``. With `modes`, those of the segments
    become columns (see `segpipe.regions.modes`). With `cut`, a pure function of the window of image
    and mask, ``regions`` are found a second time and need not be written: for methods that take
    less for that than storing and reading them takes.
    """
    groups = frozenset(STANDARD if image.measure is None else image.measure | {"area"})
    wanted = Wanted(
        image.shape,
        image.channels,
        image.dtype,
        groups,
        image.transform,
        classes=classes,
        votes=votes.classes if votes else (),
        modes=modes.dtype if modes else None,
    )
    colourful = bool(wanted.groups & {"colour", "percentiles"})
    deep = 9 * ("percentiles" in wanted.groups)
    return Pass(
        name="label",
        map=partial(_label, wanted, votes, modes, cut),
        reads=(
            *(("regions",) if cut is None else ()),
            *(("image",) if colourful or cut else ()),
            *(("mask",) if image.masked and cut else ()),
            *(("classes",) if wanted.classes else ()),
            *((votes.array,) if votes else ()),
            *((modes.filtered, modes.shift) if modes else ()),
        ),
        writes={"labels": rank.label_type(image.shape)},
        solve=_solve,
        tables=columns.tables(wanted),
        bytes_per_pixel=16
        + 10 * bool(cut)
        + deep
        + image.channels * np.dtype(image.dtype).itemsize,
        cost_ns=6.0 * bool(cut) + _cost(wanted),
    )


def _cost(wanted: Wanted) -> float:
    """Return the rough time of measuring (ns/px)."""
    dtype = np.dtype(wanted.dtype)
    depth = "float" if dtype.kind == "f" else "8 bits" if dtype.itemsize == 1 else "more bits"
    of_channel = sum(CHANNEL_COSTS[g][depth] for g in wanted.groups & CHANNEL_COSTS.keys())
    return of_channel * wanted.channels + sum(COSTS[g] for g in wanted.groups & COSTS.keys())


def _label(
    wanted: Wanted,
    votes: Votes | None,
    modes: Modes | None,
    cut: Callable[[Window], np.ndarray] | None,
    window: Window,
    numbering: rank.Numbering,
) -> Output:
    regions = window.core("regions") if cut is None else cut(window)
    image = window.core("image") if "image" in window.arrays else None
    labels = relabel(regions, numbering.table.astype(rank.label_type(window.grid.shape)))
    if numbering.same is not None:
        regions = relabel(regions, numbering.same)
    seen = Seen(
        regions,
        numbering.table,
        numbering.ring,
        numbering.others,
        window.tile.core.start,
        _classes(window, len(numbering.table)),
        _votes(votes, window, regions, len(numbering.table)),
        _modes(modes, window, regions, len(numbering.table)),
    )
    border = rank.seam_regions(regions, window.tile, window.grid.shape)
    values = None if image is None else colours.measurable(image)
    return Output({"labels": labels}, tables=tile_rows(seen, values, border, wanted))


def _classes(window: Window, n: int) -> np.ndarray | None:
    """Return the class of each of a tile's regions, int64[n]; None if there are none."""
    if "classes" not in window.arrays:
        return None
    found = np.zeros(n, np.int64)
    found[window.core("regions")] = window.core("classes")
    return found - 1


def _votes(votes: Votes | None, window: Window, regions: np.ndarray, n: int) -> np.ndarray | None:
    """Return what the pixels of each of a tile's regions say, int64[n, classes]."""
    if votes is None:
        return None
    return colours.plane_sums(regions, window.core(votes.array), np.asarray(votes.planes), n)


def _modes(
    modes: Modes | None, window: Window, regions: np.ndarray, n: int
) -> dict[str, np.ndarray] | None:
    """Return the sums of the modes of a tile's regions; None if there are none."""
    if modes is None:
        return None
    return mode_sums(regions, window.core(modes.filtered), window.core(modes.shift), n)


def relabel(regions: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return ``table[regions]``."""
    # NumPy asks for huge pages, Numba does not: memory fresh from the kernel took four times as
    # long as the rest
    labels = np.empty(regions.shape, table.dtype)
    _look_up(regions, table, labels)
    return labels


@njit(nogil=True, cache=True)
def _look_up(regions: np.ndarray, table: np.ndarray, labels: np.ndarray) -> None:
    for y in range(regions.shape[0]):
        for x in range(regions.shape[1]):
            # an unsigned index needs no test for negative ones
            labels[y, x] = table[np.uint64(regions[y, x])]


@dataclass(frozen=True)
class Segments:
    """Solution of the last pass: how many segments there are."""

    count: int
    starts: np.ndarray
    """int64[rows of tiles + 1], the first label that begins in each; at last, count + 1."""

    def for_tile(self, tile: Tile, record: Record) -> None:
        """Nothing travels back to the tiles."""


def _solve(_records: Sequence[Record], grid: Grid, ranks: rank.Ranks) -> Segments:
    """Say where the labels of each row of tiles begin."""
    first = [int(offsets[0]) for offsets in ranks.offsets[:: grid.counts[1]]]
    return Segments(ranks.count, 1 + np.array([*first, ranks.count], np.int64))
