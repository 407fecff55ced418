"""Runs: pixels of one region side by side in a row. Most of what is measured goes by runs."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

u64 = np.uint64
LONGEST = 1 << 16
"""The squares of so many bytes add up to less than 2^32."""


class Runs(NamedTuple):
    """The runs of a tile, row by row."""

    starts: np.ndarray
    """int64[runs + 1], linear index of each run's first pixel; a run ends where the next begins,
    and after `LONGEST` pixels."""
    ids: np.ndarray
    """uint32[runs], the region, 0 = none."""
    rows: np.ndarray
    """int64[height + 1], first run of each row."""


def find_runs(regions: np.ndarray) -> Runs:
    """Return the runs of a tile.

    >>> find_runs(np.array([[1, 1, 2], [2, 2, 2]], np.uint32)).starts.tolist()
    [0, 2, 3, 6]
    """
    return Runs(*_find_runs(regions))


@njit(nogil=True, cache=True)
def _find_runs(regions):
    h, w = regions.shape
    # memory that is never touched costs nothing
    starts = np.empty(h * w + 1, np.int64)
    rows = np.empty(h + 1, np.int64)
    n = 0
    for y in range(h):
        rows[y] = n
        row = regions[y]
        starts[u64(n)] = y * w
        n += 1
        for x in range(1, w):
            # written at every pixel and kept where a run begins: nothing to mispredict
            starts[u64(n)] = y * w + x
            n += (row[u64(x)] != row[u64(x - 1)]) | (x & (LONGEST - 1) == 0)
    rows[h], starts[n] = n, h * w
    ids = np.empty(n, np.uint32)
    for y in range(h):
        for run in range(rows[y], rows[y + 1]):
            ids[u64(run)] = regions[u64(y), u64(starts[u64(run)] - y * w)]
    return starts[: n + 1].copy(), ids, rows
