"""Borders of labels as linked vertices, row by row: what bands of rows are cut into cannot matter.

A *corner* (y, x) is where pixels (y-1, x-1), (y-1, x), (y, x-1) and (y, x) meet; outside the image
is label 0. Every pixel edge between two labels is walked once for each of them, with the label to
the right as seen on a screen::

      right  ->            a pixel's border: along its top to the right, down, along its
    +--------+             bottom to the left, up
    |        |  down
    +--------+             A ring is a list of vertices that each know the next one.
      <-  left

A corner is a vertex of a ring where the ring turns, and where three or four borders meet: so the
rings of two neighbours have the same vertices along the border they share. Where a label touches
itself across a corner, its rings stay with their own pixel; `segpipe.export.rings` decides which of
them belong together.

The kernel keeps, from one row of corners to the next, the vertex at the upper end of each vertical
edge and nothing else. Time: about 1.5 ns a pixel and 10 ns a vertex; memory: 16 bytes and a label a
vertex of the labels that have not ended.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from segpipe.export.corners import ANCHOR, NEXT, X, Y, trace


@dataclass(frozen=True)
class Vertices:
    """Borders of some labels."""

    table: np.ndarray
    """int32 (n, 4): y, x, index of the next vertex, anchor; label by label, the vertices of each
    from top to bottom, left to right."""
    begins: np.ndarray
    """int64 (labels + 1,): first vertex of each label, and the number of vertices."""
    twins: np.ndarray
    """int32 (m, 2): the two visits of a label that touches itself across a corner."""


class Tracer:
    """Takes an image's rows of labels from top to bottom, gives the borders of finished labels."""

    def __init__(self, width: int, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.row = 0
        self._above = np.zeros(width, dtype)
        self._ends = np.full((2, width + 1), -1, np.int32)
        self._table = np.empty((4 * (width + 1) + 1024, 4), np.int32)
        self._labels = np.empty(len(self._table), dtype)
        self._twins = np.empty((2 * (width + 1) + 1024, 2), np.int32)
        self._sizes = np.zeros(2, np.int64)

    def add(self, band: np.ndarray) -> None:
        """Take the next rows of labels, (rows, width)."""
        if len(band) == 0:
            return
        pool = (self._table, self._labels, self._twins, self._sizes)
        # the first row of corners lies between the last row of the band before and this one
        first = np.stack([self._above, band[0]])
        pool = trace(first, self.row, self._ends, pool)
        pool = trace(band, self.row + 1, self._ends, pool)
        self._table, self._labels, self._twins, self._sizes = pool
        self._above = band[-1].copy()
        self.row += len(band)

    def end(self) -> None:
        """Take the row of background below the image."""
        self.add(np.zeros((1, len(self._above)), self._above.dtype))

    def take(self, known: np.ndarray, fresh: int, ranks: np.ndarray) -> Vertices:
        """Take the borders of some labels out.

        Parameters
        ----------
        known
            Sorted labels, all that have occurred and were not taken.
        fresh
            Index in `known` from which on labels follow each other without a gap, mostly.
        ranks
            int32, for each of `known`: -1 if it goes on, else its place among those taken.

        Raises
        ------
        ValueError
            A label is not in `known`, or its border is still open.
        """
        n, pairs = self._sizes
        table, labels, twins = self._table[:n], self._labels[:n], self._twins[:pairs]
        places = np.empty(n, np.int32)
        missing = _places(labels, known, fresh, ranks, places)
        if missing:
            raise ValueError(f"label {labels[missing - 1]} is in the image but not in the table")
        renamed, begins = _rename(places, int(ranks.max(initial=-1)) + 1)
        taken = np.empty((begins[-1], 4), np.int32)
        _move(table, labels, places, renamed, taken)
        if (taken[:, NEXT] < 0).any():
            raise ValueError("a label goes on below the last row that the table says")
        _follow(self._ends, renamed, places)
        go = places[twins[:, 0]] >= 0
        kept = renamed[twins[~go]]
        found = Vertices(taken, begins, renamed[twins[go]])
        self._twins[: len(kept)] = kept
        self._sizes[:] = n - len(taken), len(kept)
        self._shrink()
        return found

    def _shrink(self) -> None:
        """Give memory back after a band with many vertices."""
        n = int(self._sizes[0])
        room = 2 * n + 4 * len(self._ends[0]) + 1024
        if len(self._table) > 4 * room:
            self._table, self._labels = self._table[:room].copy(), self._labels[:room].copy()


@njit(nogil=True, cache=True)
def _places(labels, known, fresh, ranks, places):
    """Write the rank of each vertex's label, -1 for labels that go on.

    Returns 0, or 1 + the index of a vertex whose label is not known.
    """
    count = len(known)
    last, rank = labels.dtype.type(0), np.int32(-1)
    for v in range(len(labels)):
        label = labels[v]
        if label != last:
            at = -1
            if fresh < count and label >= known[fresh]:
                at = fresh + np.int64(label - known[fresh])
            if at < 0 or at >= count or known[at] != label:
                at = np.searchsorted(known, label)
                if at >= count or known[at] != label:
                    return v + 1
            last, rank = label, ranks[at]
        places[v] = rank
    return 0


@njit(nogil=True, cache=True)
def _rename(places, count):
    """Return the vertices' new indices, sorted by label if they go; and where labels begin."""
    begins = np.zeros(count + 1, np.int64)
    for v in range(len(places)):
        begins[places[v] + 1] += 1
    kept, begins[0] = 0, 0
    for i in range(count):
        begins[i + 1] += begins[i]
    ends = begins.copy()
    renamed = np.empty(len(places), np.int32)
    for v in range(len(places)):
        if places[v] >= 0:
            renamed[v] = ends[places[v]]
            ends[places[v]] += 1
        else:
            renamed[v] = kept
            kept += 1
    return renamed, begins


@njit(nogil=True, cache=True)
def _move(table, labels, places, renamed, taken):
    """Copy what is taken, close the gaps, follow the new indices."""
    for v in range(len(table)):
        to, target = renamed[v], table
        if places[v] >= 0:
            target = taken
        else:
            labels[to] = labels[v]
        follower, anchor = table[v, NEXT], table[v, ANCHOR]
        target[to, Y], target[to, X] = table[v, Y], table[v, X]
        target[to, NEXT] = renamed[follower] if follower >= 0 else -1
        target[to, ANCHOR] = renamed[anchor] if anchor >= 0 else -1


@njit(nogil=True, cache=True)
def _follow(ends, renamed, places):
    """Let the ends of open borders follow their vertices."""
    for side in range(2):
        for x in range(ends.shape[1]):
            v = ends[side, x]
            if v >= 0:
                ends[side, x] = -1 if places[v] >= 0 else renamed[v]
