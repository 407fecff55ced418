"""Edges of the graph of pixels for Felzenszwalb-Huttenlocher: their weights and their order.

An edge is a uint32: 4 pixel + direction, to one of the four later neighbours. Its weight is the
distance of the two values, in steps fine enough for large regions, rounded down.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

NOTHING, CORE, BEYOND = 0, 1, 2
"""Kinds of pixels: none; of the core; of another tile."""
FRACTION = 64
"""Steps of a weight per step of the values. A region of n pixels takes in what exceeds its largest
weight by k / n at most: with coarse weights, large ones would take in nothing more."""
DIGIT = 11
NO_EDGE = (1 << 2 * DIGIT) - 1
"""Weights have two digits."""
HEAVIEST = NO_EDGE - 1
DIRECTIONS = 4
"""From a pixel to later ones: right, below left, below, below right."""

i64 = np.int64
u64 = np.uint64


@njit(nogil=True, cache=True)
def weigh(planes, kind, weights):
    """Write the distance of the two values of every edge with an end in the core, rounded down."""
    channels, h, w = planes.shape
    total = np.empty((DIRECTIONS, w), np.int64)
    for y in range(h):
        below = u64(min(y + 1, h - 1))
        total[:] = 0
        for c in range(channels):
            here = planes[c, y]
            under = planes[c, below]
            for x in range(w - 1):
                a = i64(here[u64(x)])
                b = i64(here[u64(x + 1)])
                v = i64(under[u64(x)])
                d = i64(under[u64(x + 1)])
                total[u64(0), u64(x)] += (a - b) * (a - b)
                total[u64(1), u64(x + 1)] += (b - v) * (b - v)
                total[u64(2), u64(x)] += (a - v) * (a - v)
                total[u64(3), u64(x)] += (a - d) * (a - d)
        for x in range(w):
            mine = kind[u64(y), u64(x)]
            if mine == NOTHING:
                continue
            at = u64(y * w + x)
            if _inner(mine, kind, y, x + 1):
                weights[at, u64(0)] = _root(total[u64(0), u64(x)])
            if _inner(mine, kind, y + 1, x - 1):
                weights[at, u64(1)] = _root(total[u64(1), u64(x)])
            if _inner(mine, kind, y + 1, x):
                weights[at, u64(2)] = _root(total[u64(2), u64(x)])
            if _inner(mine, kind, y + 1, x + 1):
                weights[at, u64(3)] = _root(total[u64(3), u64(x)])


@njit(nogil=True, cache=True, forceinline=True)
def _inner(mine, kind, y, x):
    """Tell if there is a pixel, and it or mine is in the core."""
    if y == kind.shape[0] or x < 0 or x == kind.shape[1]:
        return False
    theirs = kind[u64(y), u64(x)]
    return theirs != NOTHING and (mine == CORE or theirs == CORE)


@njit(nogil=True, cache=True, forceinline=True)
def _root(square):
    return min(i64(np.sqrt(np.float64(square * FRACTION**2))), HEAVIEST)  # exact: below 2^52


@njit(nogil=True, cache=True)
def sort(weights):
    """Return the edges (4 pixel + direction, uint32) in ascending order: digit by digit."""
    flat = weights.reshape(-1)
    mask = np.uint32((1 << DIGIT) - 1)
    low = np.zeros(1 << DIGIT, np.int64)
    high = np.zeros(1 << DIGIT, np.int64)
    edges = 0
    for e in range(flat.size):
        weight = flat[u64(e)]
        if weight != NO_EDGE:
            low[u64(weight & mask)] += 1
            high[u64(weight >> np.uint32(DIGIT))] += 1
            edges += 1
    _begin(low)
    _begin(high)
    once = np.empty(edges, np.uint32)
    for e in range(flat.size):
        weight = flat[u64(e)]
        if weight != NO_EDGE:
            digit = u64(weight & mask)
            once[u64(low[digit])] = e
            low[digit] += 1
    order = np.empty(edges, np.uint32)
    for i in range(edges):
        e = once[u64(i)]
        digit = u64(flat[u64(e)] >> np.uint32(DIGIT))
        order[u64(high[digit])] = e
        high[digit] += 1
    return order


@njit(nogil=True, cache=True)
def _begin(counts):
    """Turn counts into the places where their entries begin."""
    begin = i64(0)
    for digit in range(counts.size):
        n = counts[digit]
        counts[digit] = begin
        begin += n
