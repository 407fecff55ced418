"""Agglomeration of a region graph by mean boundary contrast, exact for parts of a graph.

Rule. The two regions whose interface has the smallest key merge, again and again, until the mean
contrast of every interface exceeds a threshold. Key: (mean contrast in steps of 2^-20, rounded
down; largest index of a pixel pair). Keys differ, so the order is total.

Merging in parts. The key is *reducible*: when a and b merge, the interface of their union with a
third region has a key not below the smaller of the two it replaces (a mean lies between its parts,
and equal means keep the larger index). For reducible keys the result does not depend on the order
as long as only *mutual best* pairs merge: pairs each of which is the other's best partner.

Open regions. In a tile, a region at a seam is *open*: it may have better partners outside. Pairs of
which one is open wait; so do those whose best partner waits. A closed region all of whose
interfaces exceed the threshold is *final*: what it meets can only be means of such interfaces. Only
what waits, and the interfaces between such regions, travel; merging goes on there with everything
known and gives what the whole graph gives.

Lu, R., Zlateski, A., Seung, H. S. (2021), Large-scale image segmentation based on distributed
clustering algorithms, arXiv:2106.10795.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numba import njit

from segpipe.regions.graph import Interfaces
from segpipe.regions.hashing import EMPTY, grown, slot, table

STEPS = 20
"""Mean contrasts are compared in steps of 2^-STEPS."""

FEW = 16
"""Rounds treat all interfaces; they end when fewer than one in FEW merges in a round."""
NOBODY = -1
u64 = np.uint64


def agglomerate(
    n: int, edges: Interfaces, limit: int, waits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Interfaces]:
    """Merge regions as far as it is certain.

    Parameters
    ----------
    n
        Number of regions, 0..n-1.
    edges
        Interfaces between them; `ends` hold their numbers.
    limit
        Mean contrast up to which regions merge, in steps of 2^-STEPS.
    waits
        bool[n]: True for open regions.

    Returns
    -------
    root
        int64[n]: the smallest region of the merged region that each belongs to.
    undecided
        bool[n]: at a root, True when what is outside may yet change it.
    left
        Interfaces between undecided regions; `ends` are roots.

    Notes
    -----
    Rounds of mutual best pairs while many merge, then one by one: O(m log m) for m interfaces.

    Examples
    --------
    >>> chain = Interfaces(*map(np.array, ([[0, 1], [1, 2]], [5, 50], [1, 1], [0, 1])))
    >>> agglomerate(3, chain, 10 << STEPS, np.zeros(3, bool))[0].tolist()
    [0, 0, 2]
    """
    root = np.arange(n)
    while True:
        best = _best(n, edges.contrast, edges.length, edges.last, edges.ends, limit)
        into = _mutual(edges.ends, best, waits)
        if not len(into) or len(into) * FEW < len(edges.ends):
            break
        moved = np.arange(n)
        moved[into[:, 1]] = into[:, 0]
        root = moved[root]
        edges = contract(edges, moved)
    moved, undecided, edges = _one_by_one(n, edges, limit, waits)
    root = moved[root]
    keep = undecided[edges.ends].all(axis=1)
    return root, undecided & (root == np.arange(n)), Interfaces(*(c[keep] for c in edges))


def _one_by_one(
    n: int, edges: Interfaces, limit: int, waits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Interfaces]:
    """Merge what is left in ascending order of keys: as cheap for one region as for many."""
    ends = edges.ends.reshape(-1).copy()
    columns = [column.copy() for column in edges[1:]]
    alive, waits, moved = np.ones(len(edges.ends), np.bool_), waits.copy(), np.arange(n)
    contrast, length, last = columns
    _merge(moved, waits, ends, contrast, length, last, alive, limit)
    least = np.full(n, n)
    np.minimum.at(least, moved, np.arange(n))
    rows = np.sort(least[moved[ends]].reshape(-1, 2), axis=1)[alive]
    left = Interfaces(rows, *(column[alive] for column in columns))
    doubt = np.zeros(n, bool)
    doubt[least[moved[np.flatnonzero(waits)]]] = True
    return least[moved], doubt, left


@njit(nogil=True, cache=True, forceinline=True)
def _mean(contrast, length):
    """Return the mean in steps of 2^-STEPS, rounded down, without leaving 64 bits."""
    whole = contrast // length
    return (whole << STEPS) + ((contrast - whole * length) << STEPS) // length


@njit(nogil=True, cache=True)
def _merge(root, waits, ends, contrast, length, last, alive, limit):
    """Merge in place. Interface e has the ends 2 e and 2 e + 1, each in the list of its region."""
    n = root.size
    head = np.full(n, NOBODY, np.int64)
    after = np.full(ends.size, NOBODY, np.int64)
    degree = np.zeros(n, np.int64)
    where = np.full((16 << max(0, int(np.ceil(np.log2(alive.size / 8 + 1)))), 2), EMPTY, np.int64)
    heap = [(np.int64(-1), np.int64(-1), np.int64(-1))]
    for e in range(alive.size):
        for end in (2 * e, 2 * e + 1):
            after[end] = head[ends[end]]
            head[ends[end]] = end
            degree[ends[end]] += 1
        at = slot(where, min(ends[2 * e], ends[2 * e + 1]) * n + max(ends[2 * e], ends[2 * e + 1]))
        where[at, 0] = min(ends[2 * e], ends[2 * e + 1]) * n + max(ends[2 * e], ends[2 * e + 1])
        where[at, 1] = e
        mean = _mean(contrast[e], length[e])
        if mean <= limit:
            heap.append((mean, last[e], np.int64(e)))
    used = alive.size
    heapify(heap)
    heappop(heap)  # the first entry only gave the list its type
    while heap:
        key, pair, e = heappop(heap)  # type: ignore[assignment]
        if not alive[e] or last[e] != pair or _mean(contrast[e], length[e]) != key:
            continue
        a = ends[2 * e]
        b = ends[2 * e + 1]
        if waits[a] or waits[b]:
            waits[a] = waits[b] = True
            continue
        if degree[a] < degree[b]:
            a, b = b, a  # lists move from the shorter
        alive[e] = False
        root[b] = a
        end = head[b]
        while end >= 0:
            following = after[end]
            f = end // 2
            if alive[f]:
                c = ends[2 * f + 1 - end % 2]
                if 2 * (used + 1) >= where.shape[0]:
                    where = grown(where)
                at = slot(where, min(a, c) * n + max(a, c))
                g = where[at, 1]
                if where[at, 0] != EMPTY and alive[g]:
                    alive[f] = False
                    contrast[g] += contrast[f]
                    length[g] += length[f]
                    last[g] = max(last[g], last[f])
                    mean = _mean(contrast[g], length[g])
                    if mean <= limit:
                        heappush(heap, (mean, last[g], g))
                else:
                    used += where[at, 0] == EMPTY
                    where[at, 0] = min(a, c) * n + max(a, c)
                    where[at, 1] = f
                    ends[end] = a
                    after[end] = head[a]
                    head[a] = end
                    degree[a] += 1
            end = following
    for leaf in range(n):
        top = leaf
        while root[top] != top:
            top = root[top]
        at = leaf
        while root[at] != top:
            root[at], at = top, root[at]


@njit(nogil=True, cache=True)
def _best(n, contrast, length, last, ends, limit):
    """Return each region's edge of least key, or NOBODY if all are above the limit."""
    best = np.full(n, NOBODY, np.int64)
    mean = np.empty(contrast.size, np.int64)
    for e in range(contrast.size):
        mean[e] = _mean(contrast[e], length[e])
        if mean[e] > limit:
            continue
        for side in range(2):
            a = ends[e, side]
            b = best[a]
            if b == NOBODY or mean[e] < mean[b] or (mean[e] == mean[b] and last[e] < last[b]):
                best[a] = e
    return best


@njit(nogil=True, cache=True)
def _mutual(ends, best, waits):
    """Return the pairs (smaller, larger) that are each other's best and do not wait."""
    pairs = np.empty((best.size // 2 + 1, 2), np.int64)
    m = 0
    for a in range(best.size):
        e = best[a]
        if e != NOBODY and ends[e, 0] == a and best[ends[e, 1]] == e:
            b = ends[e, 1]
            if not waits[a] and not waits[b]:
                pairs[m, 0] = a
                pairs[m, 1] = b
                m += 1
    return pairs[:m].copy()


def contract(edges: Interfaces, moved: np.ndarray) -> Interfaces:
    """Move the ends of edges and add up those that have become parallel."""
    ends = np.sort(moved[edges.ends], axis=1)
    return Interfaces(*_add_up(ends, *edges[1:], len(moved), table(len(ends))))


def summed(edges: Interfaces, n: int) -> Interfaces:
    """Add up parallel edges of a graph of n nodes and drop loops."""
    return contract(edges, np.arange(n))


@njit(nogil=True, cache=True)
def _add_up(ends, contrast, length, last, n, entries):
    """Write every pair of ends once, in order of appearance."""
    out_ends = np.empty_like(ends)
    out = np.empty((ends.shape[0], 3), np.int64)
    count = 0
    for e in range(ends.shape[0]):
        a = ends[e, 0]
        b = ends[e, 1]
        if a == b:
            continue
        at = slot(entries, a * n + b)
        if entries[at, 0] == EMPTY:
            entries[at, 0] = a * n + b
            entries[at, 1] = count
            out_ends[count, 0] = a
            out_ends[count, 1] = b
            out[count, 0] = contrast[e]
            out[count, 1] = length[e]
            out[count, 2] = last[e]
            count += 1
        else:
            k = entries[at, 1]
            out[k, 0] += contrast[e]
            out[k, 1] += length[e]
            out[k, 2] = max(out[k, 2], last[e])
    sums = out[:count]
    return out_ends[:count].copy(), sums[:, 0].copy(), sums[:, 1].copy(), sums[:, 2].copy()
