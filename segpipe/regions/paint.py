"""From runs to pixels: paint a value per run, number regions by their first pixel.

Runs are those of `components`: `starts` (linear index of first pixels), `rows` (first run of each
row). Rectangles are (row, row + 1 of the last, column, column + 1 of the last). Painting takes
1 byte read, 4 written and about 4 operations a pixel; the rest goes by runs.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

u64 = np.uint64


@njit(nogil=True, cache=True)
def meets(starts, rows, marked, bounds):
    """Tell if a marked run meets the rectangle (row, row + 1 of its last, column, column alike)."""
    w = starts[rows[1]]
    for y in range(bounds[0], bounds[1]):
        for run in range(rows[y], rows[y + 1]):
            if (
                marked[run]
                and starts[run] < y * w + bounds[3]
                and starts[run + 1] > y * w + bounds[2]
            ):
                return True
    return False


@njit(nogil=True, cache=True)
def paint(codes, rows, values, bounds, out):
    """Write each run's value to its pixels in the rectangle `bounds`; out has its shape."""
    change = np.zeros(codes.shape[1], np.uint8)
    for y in range(bounds[0], bounds[1]):
        for x in range(1, codes.shape[1]):
            change[u64(x)] = codes[u64(y), u64(x)] != codes[u64(y), u64(x - 1)]
        run = u64(rows[y])
        for x in range(bounds[2]):
            run += u64(change[u64(x)])
        for x in range(bounds[2], bounds[3]):
            run += u64(change[u64(x)])
            out[u64(y - bounds[0]), u64(x - bounds[2])] = values[run]


@njit(nogil=True, cache=True)
def number_runs(starts, rows, owner, limit, bounds):
    """Return uint32[runs], owners (< limit) in `bounds` numbered 1.. by first pixel; the order."""
    w = starts[rows[1]]
    rank = np.zeros(limit, np.uint32)
    labels = np.zeros(owner.size, np.uint32)
    order = np.empty(limit, np.int32)
    count = 0
    for y in range(bounds[0], bounds[1]):
        low = y * w + bounds[2]
        high = y * w + bounds[3]
        for run in range(rows[y], rows[y + 1]):
            own = owner[u64(run)]
            if own < 0 or starts[u64(run)] >= high or starts[u64(run + 1)] <= low:
                continue
            if rank[u64(own)] == 0:
                order[count] = own
                count += 1
                rank[u64(own)] = count
            labels[u64(run)] = rank[u64(own)]
    return labels, order[:count].copy()


@njit(nogil=True, cache=True)
def fill(starts, values, out):
    """Write each run's value to its pixels; out has the shape of the image the runs cover."""
    flat = out.reshape(-1)
    for run in range(values.size):
        value = values[u64(run)]
        for i in range(starts[u64(run)], starts[u64(run + 1)]):
            flat[u64(i)] = value
