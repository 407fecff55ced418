"""Levels from a histogram (multi-Otsu, globally optimal) and classes from levels or local means."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

u64 = np.uint64


def otsu_bins(counts: np.ndarray, classes: int) -> np.ndarray:
    """Cut a histogram into classes of least variance inside.

    Parameters
    ----------
    counts
        int64[bins], of up to 2^47 values.
    classes
        How many, 2 or more.

    Returns
    -------
    int64[classes - 1], ascending: the last bin of each class but the highest. Fewer if fewer bins
    are occupied than classes are asked for.

    Notes
    -----
    Otsu's criterion, the sum over classes of (sum of bins)^2 / (number of values), is that of
    k-means in one dimension: its optimal cuts move monotonically with the end of the histogram, so
    dynamic programming by halving finds the best of all cuts in O(classes * bins * log bins). Ties
    go to the lowest cut. A function of integers alone: whoever adds up the tiles, it is the same.

    References
    ----------
    N. Otsu, A threshold selection method from gray-level histograms, IEEE TSMC 9(1), 1979,
    10.1109/TSMC.1979.4310076. H. Wang, M. Song, Ckmeans.1d.dp, R Journal 3(2), 2011,
    10.32614/RJ-2011-015.

    Examples
    --------
    >>> otsu_bins(np.array([4, 4, 0, 0, 3, 3, 0, 5]), 2).tolist()
    [1]
    >>> otsu_bins(np.array([4, 4, 0, 0, 3, 3, 0, 5]), 3).tolist()
    [1, 5]
    """
    occupied = np.flatnonzero(counts)
    classes = min(classes, len(occupied))
    if classes < 2:
        return np.zeros(0, np.int64)
    weight = np.concatenate([[0], np.cumsum(counts[occupied])])
    total = np.concatenate([[0], np.cumsum(counts[occupied] * occupied)])
    return occupied[_cuts(weight, total, classes)]


@njit(nogil=True, cache=True)
def _cuts(weight, total, classes):
    """Return the last entry of each class but the highest; weight, total: prefix sums [n + 1]."""
    n = weight.size - 1
    best = np.empty(n + 1, np.float64)
    for j in range(1, n + 1):
        best[j] = _share(weight, total, 0, j)
    begin = np.zeros((classes, n + 1), np.int32)
    for k in range(1, classes):
        former = best.copy()
        # ranges of ends still to do, and between which cuts their own must lie
        todo = [(k + 1, n, k, n - 1)]
        while todo:
            low, high, first, last = todo.pop()
            if low > high:
                continue
            middle = (low + high) // 2
            top, at = -1.0, first
            for i in range(first, min(last, middle - 1) + 1):
                value = former[i] + _share(weight, total, i, middle)
                if value > top:
                    top, at = value, i
            best[middle] = top
            begin[k, middle] = at
            todo.append((low, middle - 1, first, at))
            todo.append((middle + 1, high, at, last))
    cuts = np.empty(classes - 1, np.int64)
    end = n
    for k in range(classes - 1, 0, -1):
        end = begin[k, end]
        cuts[k - 1] = end - 1
    return cuts


@njit(nogil=True, cache=True)
def _share(weight, total, i, j):
    """Square of the sum over the number of values of entries i .. j - 1."""
    s = np.float64(total[j] - total[i])
    return s * s / np.float64(weight[j] - weight[i])


@njit(nogil=True, cache=True)
def by_levels(gray, valid, levels, codes):
    """codes[h, w] = 1 + number of levels below the value; 0 where not valid."""
    for y in range(gray.shape[0]):
        for x in range(gray.shape[1]):
            value = gray[u64(y), u64(x)]
            code = np.uint8(1)
            for level in levels:
                code += np.uint8(value > level)
            codes[u64(y), u64(x)] = code if valid[u64(y), u64(x)] else np.uint8(0)


@njit(nogil=True, cache=True)
def by_local_mean(gray, valid, radius, offset, inner, codes):
    """Compare pixels with the mean of the valid ones in the square round them.

    gray[h, w] int32, valid[h, w] bool over a window; inner = (row, row + 1 of the last, column,
    column + 1 of the last) of the core; codes over the core: 2 above mean - offset, else 1; 0 where
    not valid. Sums are integers; a sum of columns slides down, its prefix sums give the boxes.
    """
    top, bottom, left, right = inner
    h, w = gray.shape
    sums = np.zeros(w, np.int64)
    numbers = np.zeros(w, np.int64)
    for y in range(max(0, top - radius), min(h, top + radius)):
        _add(gray[y], valid[y], 1, sums, numbers)
    prefix = np.zeros(w + 1, np.int64)
    counts = np.zeros(w + 1, np.int64)
    for y in range(top, bottom):
        if y + radius < h:
            _add(gray[y + radius], valid[y + radius], 1, sums, numbers)
        if y - radius > 0:
            _add(gray[y - radius - 1], valid[y - radius - 1], -1, sums, numbers)
        for x in range(w):
            prefix[u64(x + 1)] = prefix[u64(x)] + sums[u64(x)]
            counts[u64(x + 1)] = counts[u64(x)] + numbers[u64(x)]
        for x in range(left, right):
            a, b = max(0, x - radius), min(w, x + radius + 1)
            n = counts[u64(b)] - counts[u64(a)]
            s = prefix[u64(b)] - prefix[u64(a)]
            above = (gray[y, x] + offset) * n > s
            codes[y - top, x - left] = (1 + np.uint8(above)) if valid[y, x] else 0


@njit(nogil=True, cache=True)
def _add(values, valid, sign, sums, numbers):
    for x in range(sums.size):
        if valid[u64(x)]:
            sums[u64(x)] += sign * np.int64(values[u64(x)])
            numbers[u64(x)] += sign
