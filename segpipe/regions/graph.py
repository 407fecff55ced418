"""The region adjacency graph of a tile: which segments meet, along how many pixels, how sharply.

Every pair of 4-neighbours belongs to the tile whose core holds the left or upper pixel of the two;
so the interfaces of all tiles add up to those of the image, whatever the tiles.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from segpipe.regions.hashing import EMPTY, grown, slot, table
from segpipe.tiles import Tile

u64 = np.uint64


class Interfaces(NamedTuple):
    """Edges of a graph of n nodes; all arrays have one entry per edge, ends[:, 0] < ends[:, 1]."""

    ends: np.ndarray
    """int64[m, 2]"""
    contrast: np.ndarray
    """int64[m]: sum over the pixel pairs of the distance of their colours."""
    length: np.ndarray
    """int64[m]: number of pixel pairs."""
    last: np.ndarray
    """int64[m]: largest global index of a pixel pair, which makes the order of edges total."""


def number(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give labels the numbers 1..n by first pixel; 0 stays 0.

    Parameters
    ----------
    labels
        (h, w) unsigned integers.

    Returns
    -------
    numbers
        uint32[h, w].
    found
        int64[n], the label of each number.

    Examples
    --------
    >>> numbers, found = number(np.array([[0, 90, 7], [7, 90, 90]]))
    >>> numbers.tolist(), found.tolist()
    ([[0, 1, 2], [2, 1, 1]], [90, 7])
    """
    return _number(np.ascontiguousarray(labels), table(1024))


@njit(nogil=True, cache=True)
def _number(labels, entries):
    """Look every run of equal labels up once."""
    h, w = labels.shape
    numbers = np.zeros((h, w), np.uint32)
    found = np.empty(entries.shape[0], np.int64)
    count = 0
    for y in range(h):
        before = np.int64(0)
        mine = np.uint32(0)
        for x in range(w):
            label = np.int64(labels[u64(y), u64(x)])
            if label != before:
                before = label
                mine = np.uint32(0)
                if label != 0:
                    at = slot(entries, label)
                    if entries[at, 0] == EMPTY:
                        if 2 * (count + 1) >= entries.shape[0]:
                            entries = grown(entries)
                            longer = np.empty(entries.shape[0], np.int64)
                            longer[:count] = found[:count]
                            found = longer
                            at = slot(entries, label)
                        entries[at, 0] = label
                        entries[at, 1] = count + 1
                        found[count] = label
                        count += 1
                    mine = np.uint32(entries[at, 1])
            numbers[u64(y), u64(x)] = mine
    return numbers, found[:count].copy()


def interfaces(numbers: np.ndarray, planes: np.ndarray, tile: Tile, width: int) -> Interfaces:
    """Return the interfaces that belong to a tile.

    Parameters
    ----------
    numbers
        uint32[h, w] over the tile's window (1 pixel of halo or more): 0 = no segment.
    planes
        int16[C, h, w], colours of the same pixels.
    tile
        The tile.
    width
        Width of the whole image, for the global index of a pixel pair.

    Notes
    -----
    About 10 bytes and 10 operations a pixel, and some 40 for each pixel at a border.
    """
    rows, columns = tile.inner
    bounds = (rows.start, rows.stop, columns.start, columns.stop)
    origin = (tile.window.start[0], tile.window.start[1], width)
    nodes = int(numbers.max()) if numbers.size else 0
    ends, sums = _collect(numbers, planes, bounds, origin, nodes + 1, table(4 * nodes + 16))
    return Interfaces(ends, sums[:, 0].copy(), sums[:, 1].copy(), sums[:, 2].copy())


@njit(nogil=True, cache=True)
def _collect(numbers, planes, bounds, origin, base, entries):
    """Add up the pixel pairs of every pair of segments."""
    h, w = numbers.shape
    ends = np.empty((entries.shape[0] // 2, 2), np.int64)
    sums = np.zeros((entries.shape[0] // 2, 3), np.int64)
    count = 0
    for y in range(bounds[0], bounds[1]):
        for x in range(bounds[2], bounds[3]):
            a = np.int64(numbers[u64(y), u64(x)])
            if a == 0:
                continue
            for down in range(2):
                ny = y + down
                nx = x + 1 - down
                if ny >= h or nx >= w:
                    continue
                b = np.int64(numbers[u64(ny), u64(nx)])
                if b == a or b == 0:
                    continue
                key = min(a, b) * base + max(a, b)
                at = slot(entries, key)
                if entries[at, 0] == EMPTY:
                    if count == ends.shape[0]:
                        entries = grown(entries)
                        ends, sums = _longer(ends, sums)
                        at = slot(entries, key)
                    entries[at, 0] = key
                    entries[at, 1] = count
                    ends[count, 0] = min(a, b)
                    ends[count, 1] = max(a, b)
                    count += 1
                e = entries[at, 1]
                sums[e, 0] += _distance(planes, y, x, ny, nx)
                sums[e, 1] += 1
                index = 2 * ((origin[0] + y) * origin[2] + origin[1] + x) + down
                sums[e, 2] = max(sums[e, 2], index)
    return ends[:count].copy(), sums[:count].copy()


@njit(nogil=True, cache=True)
def _longer(ends, sums):
    """Return both arrays with room for twice as many edges."""
    n = ends.shape[0]
    more_ends = np.empty((2 * n, 2), np.int64)
    more_sums = np.zeros((2 * n, 3), np.int64)
    more_ends[:n] = ends
    more_sums[:n] = sums
    return more_ends, more_sums


@njit(nogil=True, cache=True, forceinline=True)
def _distance(planes, y, x, ny, nx):
    """Return the distance of two colours, rounded down: an IEEE root, the same everywhere."""
    square = np.int64(0)
    for c in range(planes.shape[0]):
        d = np.int64(planes[u64(c), u64(y), u64(x)]) - np.int64(planes[u64(c), u64(ny), u64(nx)])
        square += d * d
    return np.int64(np.sqrt(np.float64(square)))
