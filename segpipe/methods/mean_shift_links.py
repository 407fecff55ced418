"""Parts of an image: 4-neighbours whose modes are closer than both bandwidths belong together."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit


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
    labels = np.zeros((h, w), np.uint32)
    root = np.zeros(h * w + 1, np.uint32)
    left = np.zeros(w, np.bool_)
    up = np.zeros(w, np.bool_)
    runs = 0
    for y in range(h):
        _linked(found, shift, counted, y, limit, radius2, left, up)
        met = 0
        for x in range(w):
            if not counted[y, x]:
                continue
            if not left[x]:
                runs += 1
                root[runs] = runs
                met = 0
            labels[y, x] = runs
            if up[x] and labels[y - 1, x] != met:
                met = labels[y - 1, x]
                _unite(root, runs, met)
    n = 0
    for run in range(1, runs + 1):
        if root[run] == run:
            n += 1
            root[run] = n
        else:
            root[run] = root[root[run]]
    for y in range(h):
        for x in range(w):
            labels[y, x] = root[labels[y, x]]
    return labels, n


@njit(nogil=True, cache=True)
def _linked(found, shift, counted, y, limit, radius2, left, up):
    """Tell which pixels of a row are linked to the one before and to the one above."""
    w = left.size
    colour = np.zeros(w, np.int32)
    for dy, dx, out in ((0, 1, left), (1, 0, up)):
        out[:] = False
        if y < dy:
            continue
        colour[:] = 0
        for c in range(found.shape[0]):
            for x in range(dx, w):
                d = abs(np.int32(found[c, y, x]) - np.int32(found[c, y - dy, x - dx]))
                colour[x] += d * d if d < 255 else 65025
        for x in range(dx, w):
            a = np.int32(shift[0, y, x]) - np.int32(shift[0, y - dy, x - dx]) + dy
            b = np.int32(shift[1, y, x]) - np.int32(shift[1, y - dy, x - dx]) + dx
            close = (colour[x] < limit) & (a * a + b * b < radius2)
            out[x] = close & counted[y, x] & counted[y - dy, x - dx]


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
