"""Merging of small regions inside a tile: its graph, what it leaves open, its numbers."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from segpipe.passes import Record
from segpipe.regions.finish import relabel
from segpipe.regions.merge_left import take_left
from segpipe.regions.merge_rounds import Graph, Merged, free
from segpipe.regions.rank import first_pixels
from segpipe.tiles import Tile

u64 = np.uint64  # unsigned indices need no test for negative ones


def sums(parts: np.ndarray, values: np.ndarray, n: int) -> np.ndarray:
    """Return int64[n, 1 + C]: pixels and sums of values (C, h, w) of the parts 1..n."""
    place = np.arange(-1, n)
    return _sums(parts, values, place, n)


def sums_of(parts: np.ndarray, values: np.ndarray, n: int, chosen: np.ndarray) -> np.ndarray:
    """Return the rows of `sums` of some parts: what lies in no other is not even read."""
    place = np.full(n + 1, -1)
    place[chosen] = np.arange(len(chosen))
    return _sums(parts, values, place, len(chosen))


def _sums(parts: np.ndarray, values: np.ndarray, place: np.ndarray, rows: int) -> np.ndarray:
    out = np.zeros((rows, 1 + len(values)), np.int64)
    if rows:
        _add(parts, values, place, out)
    return out


@njit(nogil=True, cache=True)
def _add(parts, values, place, out):
    """Add run by run; place[part] is the row of `out`, or -1."""
    h, w = parts.shape
    begin, total = np.zeros(w + 1, np.int64), np.zeros(w + 1, np.int64)
    for y in range(h):
        runs = _runs(parts, y, begin)
        wanted = False
        for k in range(runs):
            row = place[u64(parts[u64(y), u64(begin[k])])]
            if row >= 0:
                wanted = True
                out[u64(row), u64(0)] += begin[k + 1] - begin[k]
        for c in range(values.shape[0] if wanted else 0):
            so_far = np.int64(0)
            for x in range(w):  # runs are short: sums up to every pixel need no branches
                so_far += values[u64(c), u64(y), u64(x)]
                total[u64(x + 1)] = so_far
            for k in range(runs):
                first = u64(begin[k])
                row = place[u64(parts[u64(y), first])]
                if row >= 0:
                    out[u64(row), u64(1 + c)] += total[u64(begin[k + 1])] - total[first]


@njit(nogil=True, cache=True)
def _runs(parts, y, begin):
    """List where the runs of a row begin, and its end; return their number."""
    width = parts.shape[1]
    begin[0] = 0
    n = 1
    for x in range(1, width):
        begin[u64(n)] = x
        n += parts[u64(y), u64(x)] != parts[u64(y), u64(x - 1)]
    begin[n] = width
    return n


def graph(
    parts: np.ndarray,
    values: np.ndarray,
    tile: Tile,
    shape: Sequence[int],
    border: tuple[np.ndarray, np.ndarray, np.ndarray],
    min_size: int,
) -> tuple[Graph, np.ndarray]:
    """Return the graph of a tile's parts, and int64[n + 1], the node of each part (0: -1).

    Node p - 1 is part p, but parts that are one beyond the tile share the node of the first.
    """
    numbers, border_ids, border_sums = border
    n = int(parts.max(initial=0))
    y, x = np.divmod(first_pixels(parts, n), parts.shape[1])
    ids = (y + tile.core.start[0]) * shape[1] + x + tile.core.start[1]
    totals = sums(parts, values, n)
    ids[numbers - 1], totals[numbers - 1] = border_ids, border_sums
    node = np.arange(-1, n)
    _, first, same = np.unique(border_ids, return_index=True, return_inverse=True)
    node[numbers] = numbers[first[same]] - 1
    at_seam = np.zeros(n, bool)
    at_seam[node[numbers]] = True
    edges = _edges(parts, node, totals[:, 0] < min_size)
    return free(ids, totals, edges, at_seam), node


@njit(nogil=True, cache=True)
def _edges(parts, node, small):
    """Return int32[m, 2], nodes that touch, one of them small; some repeated."""
    h, w = parts.shape
    room = 1024
    edges = np.empty((room, 2), np.int32)
    m = 0
    row, above = np.zeros(w, np.int32), np.full(w, -1, np.int32)
    for y in range(h):
        if m + 2 * w > room:
            room = 2 * (m + 2 * w)
            more = np.empty((room, 2), np.int32)
            more[:m] = edges[:m]
            edges = more
        for x in range(w):
            row[u64(x)] = node[u64(parts[u64(y), u64(x)])]
        before = before_up = last = last_up = np.int32(-1)
        for x in range(w):
            a, up = row[u64(x)], above[u64(x)]
            # along a common border the same pair comes again and again
            if a != before and (a != up or before != before_up):
                edges[u64(m), u64(0)], edges[u64(m), u64(1)] = a, before
                m += (a >= 0) & (before >= 0) and (small[a] or small[before])
            if a != up and (a != last or up != last_up):
                edges[u64(m), u64(0)], edges[u64(m), u64(1)] = a, up
                m += (a >= 0) & (up >= 0) and (small[a] or small[up])
                last, last_up = a, up
            before, before_up = a, up
        row, above = above, row
    return edges[:m].copy()


def leave(
    tile: Graph, merged: Merged, node: np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, Record]:
    """Split what a tile decided from what it leaves.

    Returns
    -------
    table
        uint32[n + 1]: the piece that each part belongs to; a part that is left is one of its own.
    record
        See `take_left`; and ``piece``, ``name``, ``is_left``: the ids of all pieces that may be one
        with another, in this tile or beyond.
    """
    ends = merged.ends()
    left = merged.left
    mine = node[1:]
    key = np.where(left[mine], mine, ends[mine])
    piece_of = np.zeros(len(ends) + 1, np.uint32)
    piece_of[key] = 1
    piece_of = np.cumsum(piece_of, dtype=np.uint32)
    table = np.zeros(len(node), np.uint32)
    table[1:] = piece_of[key]

    beside, record = take_left(tile, merged)
    stays = np.flatnonzero(left)
    at_seam = np.unique(node[numbers])
    ended = np.unique(ends[np.concatenate([beside, at_seam[~left[at_seam]]])])
    named = np.concatenate([stays, ended])
    return table, record | {
        "piece": piece_of[named].astype(np.int32),
        "name": merged.ids[named],
        "is_left": np.arange(len(named)) < len(stays),
    }


def number(
    pieces: np.ndarray, piece: np.ndarray, name: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unite pieces of one name and number the regions 1..n by first pixel; return their ids too.

    Regions without a name are inside the tile; their id is -1.
    """
    n = int(pieces.max(initial=0))
    names, first, same = np.unique(name, return_index=True, return_inverse=True)
    table = np.arange(n + 1, dtype=np.uint32)
    table[piece] = piece[first[same]]
    order, count = _order(pieces, table)
    ids = np.full(count, -1, np.int64)
    ids[order[piece[first]] - 1] = names
    return relabel(pieces, order[table]), ids


@njit(nogil=True, cache=True)
def _order(pieces, table):
    """Give the values of ``table[pieces]`` numbers in the order in which they come."""
    order = np.zeros(table.size, np.uint32)
    count = 0
    h, w = pieces.shape
    for y in range(h):
        for x in range(w):
            piece = table[pieces[y, x]]
            if piece and not order[piece]:
                count += 1
                order[piece] = count
    return order, count
