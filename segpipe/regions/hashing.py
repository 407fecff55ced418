"""Small hash tables for compiled loops: open addressing over arrays, keys are int64 >= 0."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

EMPTY = -1

u64 = np.uint64


def table(expected: int) -> np.ndarray:
    """Return an empty table int64[n, 2] of (key, value) for about `expected` keys; see `grown`."""
    size = 1 << max(4, int(2 * expected - 1).bit_length())
    return np.full((size, 2), EMPTY, np.int64)


@njit(nogil=True, cache=True, forceinline=True)
def slot(entries, key):
    """Return where `key` is, or where it would go: ``entries[slot, 0]`` is `key` or EMPTY."""
    mask = u64(entries.shape[0] - 1)
    at = (u64(key) * u64(0x9E3779B97F4A7C15)) >> u64(20) & mask
    while entries[at, 0] != key and entries[at, 0] != EMPTY:
        at = (at + u64(1)) & mask
    return at


@njit(nogil=True, cache=True)
def grown(entries):
    """Return a table of twice the size with the same entries."""
    larger = np.full((2 * entries.shape[0], 2), EMPTY, np.int64)
    for i in range(entries.shape[0]):
        if entries[i, 0] != EMPTY:
            at = slot(larger, entries[i, 0])
            larger[at, 0] = entries[i, 0]
            larger[at, 1] = entries[i, 1]
    return larger
