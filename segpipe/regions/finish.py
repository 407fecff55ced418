"""The last pass of every method that yields regions: canonical labels and the table of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import measure, rank
from segpipe.tiles import Grid, Tile


def label_pass(image: ImageInfo) -> Pass:
    """Return the pass that turns ``regions`` (per-tile numbers) into ``labels`` 1..N.

    The pass before it must write ``regions``, send `rank.summary` as its record and solve with
    `rank.solve`. Labels are uint32, or uint64 for images of 2^32 pixels and more.
    """
    pixels = image.shape[0] * image.shape[1]
    return Pass(
        name="label",
        map=partial(_label, image),
        reads=("regions", "image"),
        writes={"labels": "uint32" if pixels < 1 << 32 else "uint64"},
        solve=partial(_solve, image),
        table="segments",
        bytes_per_pixel=12 + image.channels * np.dtype(image.dtype).itemsize,
        cost_ns=6.0,
    )


def _label(image: ImageInfo, window: Window, table: Any) -> Output:
    regions, pixels = window.core("regions"), window.core("image")
    dtype = np.uint32 if window.grid.shape[0] * window.grid.shape[1] < 1 << 32 else np.uint64
    found = measure.sums(regions, pixels, len(table) - 1, window.tile.core.start)
    border = rank.seam_regions(regions, window.tile, window.grid.shape)
    rows, record = measure.split(found, table[1:], border)
    columns = measure.columns(rows, floating=pixels.dtype.kind == "f")
    return Output({"labels": relabel(regions, table.astype(dtype))}, record, columns)


@njit(nogil=True, cache=True)
def relabel(regions: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return ``table[regions]``."""
    labels = np.empty(regions.shape, table.dtype)
    for y in range(regions.shape[0]):
        for x in range(regions.shape[1]):
            # an unsigned index needs no test for negative ones
            labels[y, x] = table[np.uint64(regions[y, x])]
    return labels


@dataclass(frozen=True)
class Segments:
    """Solution of the last pass: how many segments there are, and the rows across seams."""

    count: int
    columns: Mapping[str, np.ndarray]

    def for_tile(self, tile: Tile, record: Record) -> None:
        """Nothing travels back to the tiles."""


def _solve(image: ImageInfo, records: Sequence[Record], grid: Grid, ranks: Any) -> Segments:
    """Add up the partial sums of the regions that lie across seams."""
    width = 1 + measure.CHANNELS + image.channels
    rows = [record["sums"].reshape(-1, width) for record in records]
    combined = measure.combine(np.concatenate(rows))
    floating = np.dtype(image.dtype).kind == "f"
    return Segments(ranks.count, measure.columns(combined, floating=floating))
