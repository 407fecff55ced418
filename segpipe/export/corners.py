"""The corners of a label image, row by row: vertices of borders, each linked to the next one.

See `segpipe.export.trace` for the words. What has been traced is a tuple ``pool``: ``table`` int32
(vertices, 4), ``labels`` of the vertices, ``twins`` int32 (pairs, 2), ``sizes`` int64, the numbers
of vertices and of pairs. ``ends`` int32 (2, w + 1) goes from row to row: for each x, the vertex
from which the border comes down, and that to which the border goes up.

At a corner, edges are numbered west, south, east, north; a border that comes in by edge k belongs
to pixel ``key[k]``: southwest, southeast, northeast, northwest.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

Y, X, NEXT, ANCHOR = range(4)
"""Columns of the table. ANCHOR: at the first corner of a hole, a vertex of the same piece to its
left; -1 elsewhere."""
WEST, SOUTH, EAST, NORTH = range(4)
RIGHTWARDS, LEFTWARDS, BEGIN = range(3)
"""What goes from corner to corner of a row: the vertex that the border above comes from, the vertex
that the border below goes to, where the run of pixels below began."""


@njit(nogil=True, cache=True)
def trace(rows, top, ends, pool):
    """Visit the rows of corners between rows (h, w) of pixels, the first at y = top.

    Returns the pool, grown if need be.
    """
    width = rows.shape[1]
    for i in range(len(rows) - 1):
        table, labels, twins, sizes = pool
        # the most that a row can have: four visits and two pairs a corner
        if sizes[0] + 4 * (width + 1) > len(table):
            table, labels = grown(table, sizes[0], width), grown(labels, sizes[0], width)
        if sizes[1] + 2 * (width + 1) > len(twins):
            twins = grown(twins, sizes[1], width)
        pool = (table, labels, twins, sizes)
        _row(rows[i], rows[i + 1], top + i, ends, pool)
    return pool


@njit(nogil=True, cache=True)
def grown(array, n, width):
    """Return a larger array that begins with the first n rows of this one."""
    larger = np.empty((2 * len(array) + 4 * (width + 1), *array.shape[1:]), array.dtype)
    larger[:n] = array[:n]
    return larger


@njit(nogil=True, cache=True)
def _row(above, below, y, ends, pool):
    """Visit the corners between two rows of pixels."""
    width, zero = len(above), above.dtype.type(0)
    key, edge = np.empty(4, above.dtype), np.empty(4, np.bool_)
    carried = np.zeros(3, np.int64)
    nw, sw = zero, zero
    for x in range(width + 1):
        ne = above[x] if x < width else zero
        se = below[x] if x < width else zero
        if nw == sw and ne == se:  # nothing, or a vertical border that goes on
            if sw != se:
                carried[BEGIN] = x
            nw, sw = ne, se
            continue
        if nw == ne and sw == se:  # a horizontal border that goes on
            continue
        key[WEST], key[SOUTH], key[EAST], key[NORTH] = sw, se, ne, nw
        edge[WEST], edge[SOUTH], edge[EAST], edge[NORTH] = nw != sw, sw != se, ne != se, nw != ne
        _corner(y, x, key, edge, carried, ends, pool)
        if edge[SOUTH]:
            carried[BEGIN] = x
        nw, sw = ne, se


@njit(nogil=True, cache=True)
def _corner(y, x, key, edge, carried, ends, pool):
    """Make a vertex of every border that comes in here, and link it with those that are known."""
    table, labels, twins, sizes = pool
    before = (carried[RIGHTWARDS], np.int64(-1), np.int64(-1), np.int64(ends[0, x]))
    after = (carried[LEFTWARDS], np.int64(-1), np.int64(-1), np.int64(ends[1, x]))
    left_edge, first = ends[1, carried[BEGIN]], sizes[0]
    v = first
    for k in range(4):
        if not edge[k] or key[k] == 0:
            continue
        out = (k + 1) & 3  # the next edge round the border's own pixel
        while not edge[out]:
            out = (out + 1) & 3
        hole = key[SOUTH] != key[k] and key[EAST] == key[k] and key[WEST] == key[k]
        labels[v] = key[k]
        table[v, Y], table[v, X], table[v, NEXT] = y, x, after[out]
        table[v, ANCHOR] = left_edge if hole else -1
        if k in (WEST, NORTH):
            table[before[k], NEXT] = v
        elif k == SOUTH:
            ends[1, x] = v
        else:
            carried[LEFTWARDS] = v
        if out == SOUTH:
            ends[0, x] = v
        elif out == EAST:
            carried[RIGHTWARDS] = v
        v += 1
    sizes[0] = v
    if edge.all():
        _twins(key, first, twins, sizes)


@njit(nogil=True, cache=True)
def _twins(key, first, twins, sizes):
    """Note visits of the same label; vertices from `first` on belong to the keys that are not 0."""
    if key[WEST] == key[EAST] and key[WEST] != 0:
        twins[sizes[1], 0], twins[sizes[1], 1] = first, first + 1 + (key[SOUTH] != 0)
        sizes[1] += 1
    if key[SOUTH] == key[NORTH] and key[SOUTH] != 0:
        south = first + (key[WEST] != 0)
        twins[sizes[1], 0], twins[sizes[1], 1] = south, south + 1 + (key[EAST] != 0)
        sizes[1] += 1
