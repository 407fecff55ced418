"""From linked vertices to polygons: valid rings, holes in their pieces, well-known binary.

A label is a MultiPolygon: one polygon for each of its 4-connected pieces, in the order of their
first corner (row, then column), holes likewise. Every ring begins at its own first corner and turns
counterclockwise if it is an outline, clockwise if it is a hole (x to the right, y upwards). So the
bytes depend on the labels and the transform alone.

Where a piece touches itself across a corner, its border passes there twice. Both passes lie on one
ring then (the two other pixels are neighbours across the corner, so one border encloses them), and
exchanging their followers cuts it into two rings that do not touch themselves, as OGC's Simple
Features wants it; two pieces of one label that meet at a corner remain two polygons.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from segpipe.export.corners import ANCHOR, NEXT, X, Y
from segpipe.export.trace import Vertices

Transform = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): x = a * column + b * row + c, y = d * column + e * row + f."""
PIXELS: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Coordinates of pixel corners: x = column, y = row, downwards."""
HEAD = 9
"""Bytes of byte order, type and number of parts in well-known binary."""
POLYGON, MULTIPOLYGON = 3, 6


@dataclass(frozen=True)
class Shapes:
    """Polygons of some labels."""

    wkb: np.ndarray
    """uint8: MultiPolygons in well-known binary, one after the other."""
    offsets: np.ndarray
    """int64 (n + 1,): where each of them begins, and the end of the last."""
    bounds: np.ndarray
    """float64 (n, 4): smallest x and y, largest x and y."""
    areas: np.ndarray
    """int64 (n,): pixels inside."""


def shapes(vertices: Vertices, transform: Transform) -> Shapes:
    """Return the polygons of labels from their borders; `transform` takes (column, row).

    Raises
    ------
    ValueError
        A label has no pixel.

    Notes
    -----
    Time: about 60 ns a vertex.
    """
    table, begins = vertices.table, vertices.begins
    if (begins[1:] == begins[:-1]).any():
        raise ValueError("a label is in the table but not in the image")
    count = len(begins) - 1
    _untangle(table, vertices.twins)
    ring_of, starts, sizes, areas = _rings(table)
    # rings come sorted by label and first corner, and an outline before its holes
    order = np.argsort(_outlines(table, ring_of, starts, areas), kind="stable")
    starts, sizes, areas = starts[order], sizes[order], areas[order]
    owner = np.searchsorted(begins, starts, "right") - 1
    offsets, places = _layout(owner, areas > 0, sizes, count)
    wkb, bounds = np.empty(offsets[-1], np.uint8), np.empty((count, 4))
    holes = _holes(areas)
    matrix = np.array(transform)
    _write(table, starts, sizes, holes, places, owner, matrix, wkb, bounds)
    _write_heads(wkb, offsets, np.bincount(owner[areas > 0], minlength=count))
    inside = np.zeros(count, np.int64)
    np.add.at(inside, owner, areas)
    return Shapes(wkb, offsets, bounds, inside)


@njit(nogil=True, cache=True)
def _untangle(table, twins):
    """Cut rings that pass a corner twice."""
    if len(twins) == 0:
        return
    ring_of = np.full(len(table), -1, np.int32)
    for begin in twins.ravel():
        v = begin
        while ring_of[v] < 0:
            ring_of[v] = begin
            v = table[v, NEXT]
    for i in range(len(twins)):
        a, b = twins[i]
        if ring_of[a] == ring_of[b]:
            table[a, NEXT], table[b, NEXT] = table[b, NEXT], table[a, NEXT]


@njit(nogil=True, cache=True)
def _rings(table):
    """Return ring of each vertex; first corner, number of vertices and signed area of each ring."""
    ring_of = np.full(len(table), -1, np.int32)
    starts = np.empty(len(table) // 4, np.int32)  # no ring has less than four
    sizes, areas = np.empty(len(starts), np.int32), np.empty(len(starts), np.int64)
    count = 0
    for begin in range(len(table)):
        if ring_of[begin] >= 0:
            continue
        v, size, area = begin, 0, 0
        while ring_of[v] < 0:
            ring_of[v] = count
            follower = table[v, NEXT]
            area += np.int64(table[v, X]) * (table[follower, Y] - table[v, Y])
            size += 1
            v = follower
        starts[count], sizes[count], areas[count] = begin, size, area
        count += 1
    return ring_of, starts[:count], sizes[:count], areas[:count]


@njit(nogil=True, cache=True)
def _outlines(table, ring_of, starts, areas):
    """Return the ring that is the outline of each ring's piece.

    To the left of a hole's first corner lies its piece; that run of pixels begins at a ring whose
    first corner is before the hole's: the outline, or another hole, and so on.
    """
    outlines = np.full(len(starts), -1, np.int32)
    for begin in range(len(starts)):
        ring = begin
        while areas[ring] < 0 and outlines[ring] < 0:
            ring = ring_of[table[starts[ring], ANCHOR]]
        found = ring if outlines[ring] < 0 else outlines[ring]
        ring = begin
        while outlines[ring] < 0:
            outlines[ring] = found
            if areas[ring] < 0:
                ring = ring_of[table[starts[ring], ANCHOR]]
    return outlines


@njit(nogil=True, cache=True)
def _layout(owner, outline, sizes, count):
    """Return where each label begins in the binary (and the end), and where each ring does."""
    total = np.zeros(count + 1, np.int64)
    places = np.empty(len(owner), np.int64)
    at = np.int64(0)
    for ring in range(len(owner)):
        if ring == 0 or owner[ring] != owner[ring - 1]:
            total[owner[ring]] = at
            at += HEAD
        if outline[ring]:
            at += HEAD
        places[ring] = at
        at += 4 + 16 * (np.int64(sizes[ring]) + 1)
    total[count] = at
    return total, places


def _holes(areas):
    """Return how many holes follow each ring if it is an outline, -1 for holes."""
    outlines = np.flatnonzero(areas > 0)
    holes = np.full(len(areas), -1, np.int64)
    holes[outlines] = np.diff(np.append(outlines, len(areas))) - 1
    return holes


@njit(nogil=True, cache=True)
def _write(table, starts, sizes, holes, places, owner, transform, wkb, bounds):
    """Write the rings' points, before each outline the head of its polygon; find the bounds."""
    a, b, c, d, e, f = transform
    backwards = a * e - b * d < 0  # the y axis points the other way
    point = np.empty(2, np.float64)
    raw = point.view(np.uint8)
    bounds[:, :2] = np.inf
    bounds[:, 2:] = -np.inf
    for ring in range(len(starts)):
        at, n = places[ring], np.int64(sizes[ring])
        if holes[ring] >= 0:
            _head(wkb, at - HEAD, POLYGON, holes[ring] + 1)
        _number(wkb, at, n + 1)
        box = bounds[owner[ring]]
        v = starts[ring]
        for k in range(n + 1):
            y, x = np.float64(table[v, Y]), np.float64(table[v, X])
            point[0], point[1] = a * x + b * y + c, d * x + e * y + f
            to = at + 4 + 16 * (n - k if backwards else k)
            for i in range(16):
                wkb[to + i] = raw[i]
            box[0], box[1] = min(box[0], point[0]), min(box[1], point[1])
            box[2], box[3] = max(box[2], point[0]), max(box[3], point[1])
            v = table[v, NEXT]


@njit(nogil=True, cache=True)
def _write_heads(wkb, offsets, pieces):
    for i in range(len(pieces)):
        _head(wkb, offsets[i], MULTIPOLYGON, pieces[i])


@njit(nogil=True, cache=True)
def _head(wkb, at, kind, parts):
    wkb[at] = 1  # little-endian
    _number(wkb, at + 1, kind)
    _number(wkb, at + 5, parts)


@njit(nogil=True, cache=True)
def _number(wkb, at, value):
    for i in range(4):
        wkb[at + i] = (value >> (8 * i)) & 255
