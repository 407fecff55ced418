"""Rims of tiles: what the tiles round a tile have along their borders.

Each tile sends the two outermost rows and columns of its core, as runs, with the record of `rank`;
when labels are known, the ring of two pixels round a tile is put together from those of its
neighbours. So borders between regions can be measured without reading a pixel twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from segpipe.passes import Record
from segpipe.regions.contours import OUTSIDE, RING, Ring
from segpipe.tiles import Box, Grid

UNKNOWN = -2
"""Label of a region that ends inside another tile: none of ours, whatever it is."""
BEYOND = -1
"""Label of pixels outside the image."""


def outline(regions: np.ndarray) -> Record:
    """Return the two outermost rows and columns of a core as runs: numbers and lengths."""
    strips = [regions[:RING], regions[-RING:], regions[:, :RING].T, regions[:, -RING:].T]
    line = np.concatenate([strip.ravel() for strip in strips])
    starts = np.flatnonzero(np.r_[True, line[1:] != line[:-1]])
    lengths = np.diff(np.r_[starts, len(line)])
    return {"rim": line[starts].astype(np.uint32), "rim_runs": lengths.astype(np.int32)}


def _strips(core: Box) -> list[Box]:
    """Return the boxes that `outline` covers."""
    (top, left), (bottom, right) = core.start, core.stop
    return [
        Box((top, left), (min(top + RING, bottom), right)),
        Box((max(bottom - RING, top), left), (bottom, right)),
        Box((top, left), (bottom, min(left + RING, right))),
        Box((top, max(right - RING, left)), (bottom, right)),
    ]


def ring_labels(
    grid: Grid, number: int, rims: Callable[[int], tuple[Record, np.ndarray]]
) -> list[np.ndarray]:
    """Return labels int64 round tile `number`: above, below, left, right (see `contours.Ring`).

    `rims` gives the record of a tile and the labels of its border regions.
    """
    core = grid.core(number)
    (top, left), (bottom, right) = core.start, core.stop
    sides = [
        Box((top - RING, left - RING), (top, right + RING)),
        Box((bottom, left - RING), (bottom + RING, right + RING)),
        Box((top, left - RING), (bottom, left)),
        Box((top, right), (bottom, right + RING)),
    ]
    found = [np.full(side.shape, BEYOND, np.int64) for side in sides]
    for other in _around(grid, number):
        record, labels = rims(other)
        table = np.full(int(record["rim"].max()) + 1, UNKNOWN, np.int64)
        table[0] = 0
        here = record["border"] < len(table)  # others lie inside that tile
        table[record["border"][here]] = labels[here]
        line = np.repeat(table[record["rim"]], record["rim_runs"])
        begin = 0
        for k, strip in enumerate(_strips(grid.core(other))):
            values = line[begin : begin + strip.size]
            begin += strip.size
            pixels = values.reshape(strip.shape) if k < 2 else values.reshape(strip.shape[::-1]).T
            for side, out in zip(sides, found, strict=True):
                _paste(strip, pixels, side, out)
    return found


def _around(grid: Grid, number: int) -> Iterator[int]:
    """Numbers of the tiles that lie within the ring of a tile."""
    core = grid.core(number)
    ranges = [
        range(max(0, a - RING) // size, (min(n, b + RING) - 1) // size + 1)
        for a, b, n, size in zip(core.start, core.stop, grid.shape, grid.size, strict=True)
    ]
    for row, column in itertools.product(*ranges):
        other = row * grid.counts[1] + column
        if other != number:
            yield other


def _paste(source: Box, pixels: np.ndarray, target: Box, out: np.ndarray) -> None:
    """Copy what two boxes have in common."""
    start = tuple(max(a, b) for a, b in zip(source.start, target.start, strict=True))
    stop = tuple(min(a, b) for a, b in zip(source.stop, target.stop, strict=True))
    if start[0] < stop[0] and start[1] < stop[1]:
        common = Box(start, stop)
        out[common.within(target)] = pixels[common.within(source)]


def as_ring(
    sides: list[np.ndarray], own: Mapping[str, np.ndarray], n: int
) -> tuple[Ring, np.ndarray]:
    """Return the ring by region numbers, and the labels of the numbers behind n.

    `own` are the ``label`` (rising) and ``number`` of the tile's border regions; 1..n are the
    tile's regions.
    """
    line = np.concatenate([side.ravel() for side in sides])
    known, place = np.unique(line, return_inverse=True)
    ids = np.zeros(len(known), np.uint32)
    at = np.searchsorted(own["label"], known)
    mine = np.zeros(len(known), bool)
    inside = at < len(own["label"])
    mine[inside] = own["label"][at[inside]] == known[inside]
    ids[mine] = own["number"][at[mine]]
    others = ~mine & (known > 0)
    ids[others] = n + 1 + np.arange(others.sum())
    ids[known == BEYOND] = OUTSIDE
    ids[known == UNKNOWN] = OUTSIDE - 1
    cuts = np.cumsum([side.size for side in sides])[:-1]
    parts = np.split(ids[place.ravel()], cuts)
    return (
        Ring(*(part.reshape(side.shape) for part, side in zip(parts, sides, strict=True))),
        known[others],
    )
