"""Histograms of regions of 8-bit images: their percentiles without sorting anything.

A pixel is counted where its region, channel and value meet. Channels are counted together where
memory allows, as one alone would wait for its own last count in even areas.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

from segpipe.regions.runs import Runs

VALUES = 256
BYTES = 8
"""Bytes of counts per pixel; where regions are smaller than that allows, sorting is cheap."""
u64 = np.uint64


def together(areas: np.ndarray, channels: int) -> int:
    """Return how many channels are counted together; 0: counts would need too much memory.

    `areas` is int64[n + 1], with 0 for region 0.
    """
    size = VALUES * _type(areas).itemsize * len(areas)
    return min(channels, BYTES * int(areas.sum()) // size)


def histograms(runs: Runs, areas: np.ndarray, image: np.ndarray, channels: slice) -> np.ndarray:
    """Count the values of each region.

    Parameters
    ----------
    runs
        The regions.
    areas
        int64[n + 1], pixels of each, 0 for region 0.
    image
        (rows, columns, C), uint8, int8 or bool.
    channels
        Which to count.

    Returns
    -------
    uint16 or uint32 (n + 1, channels, 256); of int8, value v is counted at v + 128.
    """
    chosen = image[:, :, channels]
    counts = np.zeros((len(areas), chosen.shape[2], VALUES), _type(areas))
    pixels = np.ascontiguousarray(image).view(np.uint8).reshape(-1, image.shape[2])
    flip = 128 if image.dtype.kind == "i" else 0
    _count(runs.starts, runs.ids, pixels, channels.start, np.uint8(flip), counts)
    return counts


def _type(areas: np.ndarray) -> np.dtype:
    return np.dtype(np.uint16 if areas.max() < 1 << 16 else np.uint32)


@njit(nogil=True, cache=True)
def _count(starts, ids, pixels, first, flip, counts):
    channels = counts.shape[1]
    for run in range(ids.shape[0]):
        i = ids[u64(run)]
        if i == 0:
            continue
        begin, end = starts[u64(run)], starts[u64(run + 1)]
        if channels == 3:  # its own loop, or the compiler would not unroll it
            for p in range(begin, end):
                counts[u64(i), 0, pixels[u64(p), u64(first)] ^ flip] += 1
                counts[u64(i), 1, pixels[u64(p), u64(first + 1)] ^ flip] += 1
                counts[u64(i), 2, pixels[u64(p), u64(first + 2)] ^ flip] += 1
        else:
            for p in range(begin, end):
                for c in range(channels):
                    counts[u64(i), u64(c), pixels[u64(p), u64(first + c)] ^ flip] += 1


@njit(nogil=True, cache=True)
def ranked(counts, chosen, low, high):
    """Return the bins int32[2, m, channels, k] in which the pixels of given ranks lie.

    `low` and `high` are int64[m, k], ranks from 0, each rising; `chosen` int64[m] are regions.
    """
    m, k, channels = low.shape[0], low.shape[1], counts.shape[1]
    found = np.empty((2, m, channels, k), np.int32)
    for row in range(m):
        for c in range(channels):
            bins = counts[chosen[row], c]
            seen, a, b = np.int64(0), 0, 0
            for value in range(VALUES):
                n = bins[u64(value)]
                if n == 0:
                    continue
                seen += n
                while a < k and low[row, a] < seen:
                    found[0, row, c, a] = value
                    a += 1
                while b < k and high[row, b] < seen:
                    found[1, row, c, b] = value
                    b += 1
                if b == k:
                    break
    return found
