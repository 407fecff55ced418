"""Who is small and whom the small ones touch, by runs of pixels (see `components`)."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.regions.absorb import run_at

u64 = np.uint64


@njit(nogil=True, cache=True)
def look(starts, rows, owner, core, seams, looked, pixels, at_seam):
    """Count the pixels in the core of the owners looked at, and mark those at seams.

    core = (row, row + 1 of the last, column, column + 1 of the last); seams: above, below, left,
    right.
    """
    if not looked.any():
        return
    w = starts[rows[1]]
    for y in range(core[0], core[1]):
        low = y * w + core[2]
        high = y * w + core[3]
        edge = (seams[0] and y == core[0]) or (seams[1] and y == core[1] - 1)
        for run in range(rows[y], rows[y + 1]):
            own = owner[u64(run)]
            if own < 0 or not looked[u64(own)]:
                continue
            begin = max(low, starts[u64(run)])
            end = min(high, starts[u64(run + 1)])
            if begin >= end:
                continue
            pixels[u64(own)] += end - begin
            if edge or (seams[2] and begin == low) or (seams[3] and end == high):
                at_seam[u64(own)] = True


@njit(nogil=True, cache=True)
def touching(starts, rows, owner, core, small):
    """Return int32[m, 2]: a small owner in the core, one that touches it there; some repeated."""
    w = starts[rows[1]]
    pairs = np.empty((64, 2), np.int32)
    m = 0
    if not small.any():
        return pairs[:0].copy()
    for y in range(core[0], core[1]):
        low = y * w + core[2]
        high = y * w + core[3]
        for run in range(rows[y], rows[y + 1]):
            own = owner[u64(run)]
            if own < 0 or not small[u64(own)]:
                continue
            begin = max(low, starts[u64(run)])
            end = min(high, starts[u64(run + 1)])
            if begin >= end:
                continue
            if starts[run] >= low and run > rows[y]:
                pairs, m = _pair(pairs, m, own, owner[run - 1])
            if starts[run + 1] <= high and run + 1 < rows[y + 1]:
                pairs, m = _pair(pairs, m, own, owner[run + 1])
            for side in (-1, 1):
                if not 0 <= y + side < rows.size - 1:
                    continue
                other = run_at(starts, rows[y + side], rows[y + side + 1], begin + side * w)
                while other < rows[y + side + 1] and starts[other] < end + side * w:
                    pairs, m = _pair(pairs, m, own, owner[other])
                    other += 1
    return pairs[:m].copy()


@njit(nogil=True, cache=True)
def inherit(owner, small, heir):
    """Put the heirs of small owners in their places."""
    if not small.any():
        return
    for run in range(owner.size):
        own = owner[u64(run)]
        if own >= 0 and small[u64(own)]:
            owner[u64(run)] = heir[u64(own)]


@njit(nogil=True, cache=True)
def _pair(pairs, m, own, other):
    """Add a pair unless it is none or there was nothing else since; return pairs, their number."""
    if other < 0 or other == own:
        return pairs, m
    if m and pairs[m - 1, 0] == own and pairs[m - 1, 1] == other:
        return pairs, m
    if m == pairs.shape[0]:
        more = np.empty((2 * m, 2), np.int32)
        more[:m] = pairs
        pairs = more
    pairs[m, 0] = own
    pairs[m, 1] = other
    return pairs, m + 1
