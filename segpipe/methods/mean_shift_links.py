"""Parts of an image: 4-neighbours whose modes are closer than both bandwidths belong together."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

u64 = np.uint64  # unsigned indices need no test for negative ones


def parts(
    found: np.ndarray, shift: np.ndarray, valid: np.ndarray | None, limit: int, radius: int
) -> tuple[np.ndarray, int]:
    """Find the parts of a core and number them 1..n by their first pixels; 0 where masked."""
    counted = np.ones(shift.shape[1:], bool) if valid is None else valid
    return _parts(found, shift, counted, limit, radius * radius)


@njit(nogil=True, cache=True)
def _parts(found, shift, counted, limit, radius2):
    """Unite runs of linked pixels row by row under the first of them, then number the roots."""
    h, w = counted.shape
    labels = np.empty((h, w), np.uint32)
    root = np.empty(h * w + 1, np.uint32)
    left, up = np.zeros(w, np.uint8), np.zeros(w, np.uint8)
    above, fresh = np.zeros(w, np.uint8), np.zeros(w, np.uint8)
    meeting = np.zeros(w + 1, np.int64)
    colour = np.zeros(w, np.int32)
    root[0] = runs = 0
    for y in range(h):
        above[:] = left
        _linked(found, shift, counted, y, 0, 1, limit, radius2, colour, left)
        if y:
            _linked(found, shift, counted, y, 1, 0, limit, radius2, colour, up)
        _begun(left, above, up, fresh)
        m = 0
        for x in range(w):  # without branches, which nobody could predict
            runs += 1 - left[u64(x)]
            labels[u64(y), u64(x)] = runs
            root[u64(runs)] = runs * counted[u64(y), u64(x)]
            meeting[u64(m)] = x
            m += fresh[u64(x)]
        for i in range(m):
            x = meeting[i]
            _unite(root, labels[y, x], labels[y - 1, x])
    return labels, _number(labels, root, runs)


@njit(nogil=True, cache=True)
def _linked(found, shift, counted, y, dy, dx, limit, radius2, colour, out):
    """Tell which pixels of a row are linked to the one `dx` to the left or `dy` above."""
    w, y, dy, dx = u64(out.size), u64(y), u64(dy), u64(dx)
    y1 = y - dy
    colour[:] = 0
    for c in range(found.shape[0]):
        for x in range(dx, w):
            d = abs(np.int32(found[u64(c), y, x]) - np.int32(found[u64(c), y1, x - dx]))
            colour[x] += d * d if d < 255 else 65025
    for x in range(dx, w):
        a = np.int32(shift[0, y, x]) - np.int32(shift[0, y1, x - dx]) + np.int32(dy)
        b = np.int32(shift[1, y, x]) - np.int32(shift[1, y1, x - dx]) + np.int32(dx)
        close = (colour[x] < limit) & (a * a + b * b < radius2)
        out[x] = close & counted[y, x] & counted[y1, x - dx]


@njit(nogil=True, cache=True)
def _begun(left, above, up, fresh):
    """Tell where runs of two rows meet; where both go on and met before, they are one already."""
    fresh[0] = up[0]
    for x in range(1, left.size):
        on = left[u64(x)] & above[u64(x)] & up[u64(x - 1)]
        fresh[u64(x)] = up[u64(x)] & (1 - on)


@njit(nogil=True, cache=True)
def _number(labels, root, runs):
    """Turn runs into numbers 1..n of their roots; return n."""
    n = 0
    for run in range(1, runs + 1):
        if root[run] == run:
            n += 1
            root[run] = n
        else:
            root[run] = root[root[run]]
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            labels[u64(y), u64(x)] = root[labels[u64(y), u64(x)]]
    return n


@njit(nogil=True, cache=True)
def _unite(root, a, b):
    """Join two trees of runs under the smaller root; paths are halved on the way."""
    while root[a] != a:
        root[a] = root[root[a]]
        a = root[a]
    while root[b] != b:
        root[b] = root[root[b]]
        b = root[b]
    if a < b:
        root[b] = a
    elif b < a:
        root[a] = b
