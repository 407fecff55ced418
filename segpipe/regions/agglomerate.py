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

import numpy as np
from numba import njit

from segpipe.regions.graph import Interfaces
from segpipe.regions.hashing import EMPTY, slot, table

STEPS = 20
"""Mean contrasts are compared in steps of 2^-STEPS."""

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

    Examples
    --------
    >>> chain = Interfaces(*map(np.array, ([[0, 1], [1, 2]], [5, 50], [1, 1], [0, 1])))
    >>> agglomerate(3, chain, 10 << STEPS, np.zeros(3, bool))[0].tolist()
    [0, 0, 2]
    """
    root = np.arange(n)
    waits = waits.copy()
    while True:
        best = _best(n, edges.contrast, edges.length, edges.last, edges.ends, limit)
        into = _mutual(edges.ends, best, waits)
        if not len(into):
            break
        moved = np.arange(n)
        moved[into[:, 1]] = into[:, 0]
        root = moved[root]
        edges = _contract(edges, moved)
    mine = root == np.arange(n)
    undecided = mine & (waits | (best != NOBODY))
    keep = undecided[edges.ends].all(axis=1)
    return root, undecided, Interfaces(*(column[keep] for column in edges))


@njit(nogil=True, cache=True)
def _best(n, contrast, length, last, ends, limit):
    """Return each region's edge of least key, or NOBODY if all are above the limit."""
    best = np.full(n, NOBODY, np.int64)
    mean = np.empty(contrast.size, np.int64)
    for e in range(contrast.size):
        whole = contrast[e] // length[e]  # in two steps, to stay within 64 bits
        mean[e] = (whole << STEPS) + ((contrast[e] - whole * length[e]) << STEPS) // length[e]
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


def _contract(edges: Interfaces, moved: np.ndarray) -> Interfaces:
    """Move the ends of edges and add up those that have become parallel."""
    ends = np.sort(moved[edges.ends], axis=1)
    return Interfaces(*_add_up(ends, *edges[1:], len(moved), table(len(ends))))


def summed(edges: Interfaces, n: int) -> Interfaces:
    """Add up parallel edges of a graph of n nodes and drop loops."""
    return _contract(edges, np.arange(n))


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
