"""Canonical numbering: 1..N in raster order of each region's first pixel, whatever the tiling.

A tile numbers its regions 1..n by their first pixel inside its core and knows, for each of them, a
tile-independent id (any number that all tiles agree on). Only regions that touch a seam travel:
their id and their first pixel here. `solve` finds each one's first pixel overall; the tile that
holds it owns the region. Counting owned regions per image row and tile, and summing the counts in
raster order, gives every row segment its offset; a region's label is its rank behind that offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit

from segpipe.passes import Record
from segpipe.regions import rim
from segpipe.regions.contours import Ring
from segpipe.tiles import Grid, Tile


def label_type(shape: Sequence[int]) -> str:
    """Return the type that holds the labels of an image of (height, width), whatever is in it.

    >>> label_type((65536, 65535)), label_type((65536, 65536))
    ('uint32', 'uint64')
    """
    return "uint32" if shape[0] * shape[1] < 1 << 32 else "uint64"


def summary(
    regions: np.ndarray,
    ids: np.ndarray | None,
    tile: Tile,
    shape: Sequence[int],
    n: int | None = None,
    travel: np.ndarray | None = None,
) -> Record:
    """Summarise a tile's regions for `solve`.

    Parameters
    ----------
    regions
        (rows, columns) unsigned integers over the tile's core: 0 = none, 1..n by first pixel.
    ids
        int64[n], the tile-independent id of each region; None where only the records of all tiles
        can tell (`join.solve` adds them).
    tile
        The tile.
    shape
        (height, width) of the whole image.
    n
        Number of regions, needed where there are no ids.
    travel
        Numbers of regions that may get the id of another one before `solve`; None: at seams only.

    Returns
    -------
    Record
        ``rows`` int32: regions that begin in each row of the core; for the regions at seams (and
        in `travel`) ``border`` int32 (number here), ``first`` int64 (first pixel here,
        y * width + x), ``id``; what `rim.outline` says.
    """
    first = first_pixels(regions, (n or 0) if ids is None else len(ids))
    width = regions.shape[1]
    rows = np.bincount(first // width, minlength=regions.shape[0]).astype(np.int32)
    border = seam_regions(regions, tile, shape)
    if travel is not None:
        border = np.union1d(border, travel).astype(np.int32)
    y, x = np.divmod(first[border - 1], width)
    at = (y + tile.core.start[0]) * shape[1] + x + tile.core.start[1]
    record = {"rows": rows, "border": border, "first": at} | rim.outline(regions)
    return record if ids is None else {**record, "id": ids[border - 1]}


def seam_regions(regions: np.ndarray, tile: Tile, shape: Sequence[int]) -> np.ndarray:
    """Return the sorted numbers (int32) of the regions that touch a seam of the tile."""
    edges = []
    for axis in range(2):
        if tile.core.start[axis] > 0:
            edges.append(np.take(regions, 0, axis))
        if tile.core.stop[axis] < shape[axis]:
            edges.append(np.take(regions, -1, axis))
    met = np.unique(np.concatenate(edges)) if edges else np.zeros(0, regions.dtype)
    return met[met > 0].astype(np.int32)


@njit(nogil=True, cache=True)
def first_pixels(regions: np.ndarray, n: int) -> np.ndarray:
    """Return the first pixel (linear in the core) of regions that are numbered by first pixel."""
    first = np.zeros(n, np.int64)
    seen = 0
    height, width = regions.shape
    for y in range(height):
        for x in range(width):
            # unsigned indices need no test for negative ones
            if regions[np.uint64(y), np.uint64(x)] > seen:
                first[np.uint64(seen)] = y * width + x
                seen += 1
    return first


@dataclass(frozen=True)
class Numbering:
    """What one tile needs to turn its region numbers into labels and to see its neighbours."""

    table: np.ndarray
    """int64[n + 1], from the tile's region numbers to labels; table[0] = 0."""
    ring: Ring
    """The regions round the tile: own ones by their number."""
    others: np.ndarray
    """int64, labels of the numbers n + 1, … in the ring."""
    same: np.ndarray | None
    """uint32[n + 1], where several of the tile's regions have one label: the number of the first
    of these; None: nowhere."""


@dataclass(frozen=True)
class Ranks:
    """Solution: offsets of every row segment and the labels of the regions at seams."""

    count: int
    """N, the number of regions of the image."""
    offsets: list[np.ndarray]
    """Per tile, int64[rows of the core]: labels given before this row segment."""
    labels: list[np.ndarray]
    """Per tile, int64: label of each of the tile's border regions."""
    owned: list[np.ndarray]
    """Per tile, bool: the region's first pixel lies in this tile."""
    records: Sequence[Record]
    """Per tile, what it sent."""
    grid: Grid
    notes: dict[str, int] = field(default_factory=dict)
    """What the run's record says of it."""

    def for_tile(self, tile: Tile, record: Record) -> Numbering:
        """Return the labels of the tile's regions, and what lies round it."""
        table = self.table(tile, record)
        labels, first = np.unique(self.labels[tile.number], return_index=True)
        numbers = record["border"][first]
        same = None
        if len(labels) < len(record["border"]):
            same = np.arange(len(table), dtype=np.uint32)
            place = np.searchsorted(labels, self.labels[tile.number])
            same[record["border"]] = numbers[place]
        rims = lambda n: (self.records[n], self.labels[n])  # noqa: E731
        sides = rim.ring_labels(self.grid, tile.number, rims)
        own = {"label": labels, "number": numbers}
        return Numbering(table, *rim.as_ring(sides, own, len(table) - 1), same)

    def table(self, tile: Tile, record: Record) -> np.ndarray:
        """Return int64[n + 1] from the tile's region numbers to labels; table[0] = 0."""
        rows, border = record["rows"].astype(np.int64), record["border"]
        counted = np.ones(rows.sum() + 1, np.int64)
        counted[0] = 0
        counted[border[~self.owned[tile.number]]] = 0
        rank = np.cumsum(counted)
        begin = np.cumsum(rows) - rows  # regions that begin before the row
        table = np.zeros(rows.sum() + 1, np.int64)
        table[1:] = rank[1:] + np.repeat(self.offsets[tile.number] - rank[begin], rows)
        table[border] = self.labels[tile.number]
        return table


def solve(records: Sequence[Record], grid: Grid, _former: Any = None) -> Ranks:
    """Rank all regions of the image from the tiles' summaries."""
    border = _BorderRegions.gather(records)
    owner = border.owner()
    owned = owner == np.arange(len(owner))
    offsets, count = _row_offsets(records, border, owned, grid)
    labels = np.zeros(len(owner), np.int64)
    labels[owned] = border.rank_in_row(owned) + border.at_row(offsets)[owned]
    labels = labels[owner]
    cuts = np.cumsum([len(r["border"]) for r in records])[:-1]
    return Ranks(count, offsets, np.split(labels, cuts), np.split(owned, cuts), records, grid)


@dataclass(frozen=True)
class _BorderRegions:
    """The border regions of all tiles, one after the other."""

    tile: np.ndarray
    id: np.ndarray
    first: np.ndarray
    row: np.ndarray
    """Row inside the tile's core in which the region begins here."""
    before: np.ndarray
    """Regions of the tile that begin in the same row, left of this one."""

    @classmethod
    def gather(cls, records: Sequence[Record]) -> _BorderRegions:
        parts: list[tuple[np.ndarray, ...]] = []
        for number, record in enumerate(records):
            border = record["border"].astype(np.int64)
            ends = np.cumsum(record["rows"], dtype=np.int64)
            row = np.searchsorted(ends, border)  # ends[row - 1] < border <= ends[row]
            begin = np.concatenate([[0], ends])[row]
            tile = np.full(len(border), number)
            parts.append((tile, record["id"], record["first"], row, border - begin - 1))
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def owner(self) -> np.ndarray:
        """Index of the entry that holds the region's first pixel of all."""
        order = np.lexsort((self.first, self.id))
        new = np.ones(len(order), bool)
        new[1:] = self.id[order][1:] != self.id[order][:-1]
        owner = np.empty(len(order), np.int64)
        owner[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1] if len(order) else order
        return owner

    def rank_in_row(self, owned: np.ndarray) -> np.ndarray:
        """1, 2, … of the owned entries among what their tile owns in that row."""
        order = np.lexsort((self.before, self.row, self.tile))
        foreign = np.cumsum(~owned[order])
        key = self.tile[order] * (self.row.max(initial=0) + 1) + self.row[order]
        start = np.searchsorted(key, key)  # first entry of the same tile and row
        base = np.concatenate([[0], foreign])[start]
        rank = np.empty(len(order), np.int64)
        rank[order] = self.before[order] + 1 - (foreign - base)
        return rank[owned]

    def at_row(self, offsets: list[np.ndarray]) -> np.ndarray:
        """Offset of each entry's row segment."""
        starts = np.concatenate([[0], np.cumsum([len(o) for o in offsets])])
        return np.concatenate([*offsets, np.zeros(0, np.int64)])[starts[self.tile] + self.row]


def _row_offsets(
    records: Sequence[Record], border: _BorderRegions, owned: np.ndarray, grid: Grid
) -> tuple[list[np.ndarray], int]:
    """Exclusive prefix sums over (image row, tile column) of the regions that each tile owns."""
    bands, across = grid.counts
    cuts = np.searchsorted(border.tile, np.arange(len(records) + 1))
    offsets: list[np.ndarray] = []
    total = 0
    for band in range(bands):
        numbers = range(band * across, (band + 1) * across)
        counts = np.stack([records[n]["rows"].astype(np.int64) for n in numbers], axis=1)
        for column, n in enumerate(numbers):
            mine = slice(cuts[n], cuts[n + 1])
            np.subtract.at(counts[:, column], border.row[mine][~owned[mine]], 1)
        sums = np.cumsum(counts).reshape(counts.shape)
        before = total + sums - counts
        offsets += [np.ascontiguousarray(before[:, c]) for c in range(across)]
        total += int(sums[-1, -1])
    return offsets, total
