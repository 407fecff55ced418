"""Borders between regions: who meets whom along how many edges of pixels.

A tile is seen with the ring of pixels round it (`segpipe.regions.rim`), so that what is counted at
a pixel of the core does not depend on where the tile ends.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from segpipe.regions.contours import OUTSIDE, RING, Ring
from segpipe.regions.runs import Runs

u64 = np.uint64


class Pairs(NamedTuple):
    """Who meets whom how often: lists of neighbours, one per region, linked by index."""

    heads: np.ndarray
    """int64[regions], first entry of each list, -1 = none."""
    entries: np.ndarray
    """int64[pairs, 3]: neighbour, edges, next entry."""


def edges(ring: Ring, runs: Runs, n: int, width: int) -> tuple[Pairs, Pairs, np.ndarray]:
    """Count the edges between pixels of different regions.

    Returns
    -------
    inside
        Pairs of regions of the core, each in the list of the smaller number.
    across
        What regions of the core see beyond it; a number above `n` is a region of another tile.
    to_none
        int64[n + 1], edges to pixels of no region.
    """
    to_none = np.zeros(n + 1, np.int64)
    inside = _edges_inside(*runs, width, np.full(n + 1, -1, np.int64), to_none)
    heads = np.full(n + 1, -1, np.int64)
    entries = _edges_across(*ring, *runs, width, heads, to_none)
    return Pairs(*inside), Pairs(heads, entries), to_none


@njit(nogil=True, cache=True)
def _edges_inside(starts, ids, rows, width, heads, to_none):
    # no run begins more than one border to its left and two to the row above
    entries, used = np.empty((3 * ids.shape[0] + 1, 3), np.int64), 0
    for y in range(rows.shape[0] - 1):
        for run in range(rows[y] + 1, rows[y + 1]):
            if ids[u64(run - 1)] == ids[u64(run)]:
                continue  # one run in two pieces
            used = _meet(heads, entries, used, to_none, ids[u64(run - 1)], ids[u64(run)], 1)
        if y == 0:
            continue
        upper, lower = rows[y - 1], rows[y]
        x = (y - 1) * width  # place in the upper row
        while lower < rows[y + 1]:
            here, there = starts[u64(upper + 1)], starts[u64(lower + 1)] - width
            end = min(here, there)
            if ids[u64(upper)] != ids[u64(lower)]:
                used = _meet(
                    heads, entries, used, to_none, ids[u64(upper)], ids[u64(lower)], end - x
                )
            x = end
            lower += there == end
            upper += here == end
    return heads, entries[:used].copy()


@njit(nogil=True, cache=True)
def _edges_across(top, bottom, left, right, starts, ids, rows, width, heads, to_none):
    h = rows.shape[0] - 1
    entries, used = np.empty((2 * (h + width), 3), np.int64), 0
    for y, line in ((0, top[1]), (h - 1, bottom[0])):
        for run in range(rows[y], rows[y + 1]):
            for p in range(starts[run], starts[run + 1]):
                other = line[p - y * width + RING]
                used = _look(heads, entries, used, to_none, ids[run], other)
    for y in range(h):
        used = _look(heads, entries, used, to_none, ids[rows[y]], left[y, 1])
        used = _look(heads, entries, used, to_none, ids[rows[y + 1] - 1], right[y, 0])
    return entries[:used].copy()


@njit(nogil=True, cache=True)
def _meet(heads, entries, used, to_none, a, b, n):
    """Note n edges between two regions of the core."""
    low, high = u64(min(a, b)), u64(max(a, b))
    if low == 0:
        to_none[high] += n
        return used
    return _note(heads, entries, used, low, high, n)


@njit(nogil=True, cache=True)
def _look(heads, entries, used, to_none, here, other):
    """Note the edge of a pixel of the core with one beyond it."""
    if here == 0 or here == other or other == OUTSIDE:
        return used
    if other == 0:
        to_none[here] += 1
        return used
    return _note(heads, entries, used, u64(here), u64(other), 1)


@njit(nogil=True, cache=True)
def _note(heads, entries, used, a, b, n):
    """Add n to entry b in the list of a; return the number of entries."""
    at = heads[a]
    while at >= 0:
        if entries[u64(at), 0] == b:
            entries[u64(at), 1] += n
            return used
        at = entries[u64(at), 2]
    entries[used, 0], entries[used, 1], entries[used, 2] = b, n, heads[a]
    heads[a] = used
    return used + 1


def neighbour_rows(
    inside: Pairs, across: Pairs, to_none: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (region, neighbour's label, edges), by region and then by label.

    `labels` are those of the own regions (0 = 0) and behind them of the others. A neighbour may
    occur twice: inside and beyond the core.
    """
    begin = _lengths(*inside, across.heads, across.entries, to_none)
    region = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    neighbour = np.empty(len(region), np.int64)
    length = np.empty(len(region), np.int64)
    _fill(*inside, *across, to_none, labels, begin, neighbour, length)
    return region, neighbour, length


@njit(nogil=True, cache=True)
def _lengths(heads, entries, far_heads, far_entries, to_none):
    """Where each region's rows begin."""
    n = heads.shape[0]
    count = np.zeros(n + 1, np.int64)
    for i in range(1, n):
        count[i + 1] += to_none[i] > 0
        at = heads[i]
        while at >= 0:
            count[i + 1] += 1
            count[entries[at, 0] + 1] += 1
            at = entries[at, 2]
        at = far_heads[i]
        while at >= 0:
            count[i + 1] += 1
            at = far_entries[at, 2]
    return np.cumsum(count)


@njit(nogil=True, cache=True)
def _fill(
    heads, entries, far_heads, far_entries, to_none, labels, begin, neighbour, length
):  # fmt: skip
    fill = begin.copy()
    for i in range(1, heads.shape[0]):
        if to_none[i]:
            _insert(neighbour, length, begin, fill, i, 0, to_none[i])
        at = heads[i]
        while at >= 0:
            j = entries[at, 0]
            _insert(neighbour, length, begin, fill, i, labels[j], entries[at, 1])
            _insert(neighbour, length, begin, fill, j, labels[i], entries[at, 1])
            at = entries[at, 2]
        at = far_heads[i]
        while at >= 0:
            other = labels[far_entries[at, 0]]
            _insert(neighbour, length, begin, fill, i, other, far_entries[at, 1])
            at = far_entries[at, 2]


@njit(nogil=True, cache=True)
def _insert(neighbour, length, begin, fill, i, label, edges):
    at = fill[i]
    while at > begin[i] and neighbour[at - 1] > label:
        neighbour[at], length[at] = neighbour[at - 1], length[at - 1]
        at -= 1
    neighbour[at], length[at] = label, edges
    fill[i] += 1
