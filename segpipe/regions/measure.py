"""Sums per region, exact across tiles: area, box, centroid and mean of every channel.

Every sum is an integer (floating images in units of 2^-16), so the order of tiles cannot matter. A
region that ends inside a tile is measured by the tile; only regions at seams travel, as partial
sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from segpipe.passes import Record

UNIT = 1 << 16
"""Steps per unit in which the values of floating images are summed."""
AREA, ROWS, COLUMNS, TOP, LEFT, BOTTOM, RIGHT, CHANNELS = range(8)
"""Columns of the table of sums; the channels' sums follow from `CHANNELS` on."""


def sums(regions: np.ndarray, image: np.ndarray, n: int, origin: Sequence[int]) -> np.ndarray:
    """Sum up a tile's regions.

    Parameters
    ----------
    regions
        (rows, columns) region numbers 0..n, 0 = none.
    image
        (rows, columns, channels).
    n
        Number of regions.
    origin
        Global (y, x) of the upper left pixel.

    Returns
    -------
    int64[n, 7 + channels]: area, sums of rows and columns, box (half-open), sums of channels.
    """
    out = np.zeros((n + 1, CHANNELS + image.shape[2]), np.int64)
    out[:, TOP:BOTTOM] = np.iinfo(np.int64).max
    unit = UNIT if image.dtype.kind == "f" else 1
    _sums(regions, image, unit, np.array(origin, np.int64), out)
    return out[1:]


@njit(nogil=True, cache=True)
def _sums(regions, image, unit, origin, out):  # type: ignore[no-untyped-def]
    """Accumulate run by run: prefix sums of a row give each run's share in one subtraction."""
    height, width, channels = image.shape
    begins = np.empty(width + 1, np.int64)
    prefix = np.zeros(width + 1, np.int64)
    for y in range(height):
        row = regions[y]
        n = _runs(row, begins)
        for k in range(n):
            if row[begins[k]]:
                _place(out[row[begins[k]]], origin[0] + y, origin[1], begins[k], begins[k + 1])
        for c in range(channels):
            _prefix(image[y, :, c], unit, prefix)
            for k in range(n):
                out[row[begins[k]], CHANNELS + c] += prefix[begins[k + 1]] - prefix[begins[k]]


@njit(nogil=True, cache=True)
def _runs(row, begins):  # type: ignore[no-untyped-def]
    """Write where the runs of equal values begin, and the end of the last; return their number."""
    n = 0
    begins[0] = 0
    for x in range(1, row.shape[0]):
        if row[x] != row[x - 1]:
            n += 1
            begins[n] = x
    begins[n + 1] = row.shape[0]
    return n + 1


@njit(nogil=True, cache=True)
def _place(sums, y, left, begin, end):  # type: ignore[no-untyped-def]
    """Add a run of pixels to area, sums of places and box."""
    n, first = end - begin, left + begin
    sums[AREA] += n
    sums[ROWS] += n * y
    sums[COLUMNS] += n * (2 * first + n - 1) // 2
    sums[TOP] = min(sums[TOP], y)
    sums[LEFT] = min(sums[LEFT], first)
    sums[BOTTOM] = max(sums[BOTTOM], y + 1)
    sums[RIGHT] = max(sums[RIGHT], first + n)


@njit(nogil=True, cache=True)
def _prefix(values, unit, prefix):  # type: ignore[no-untyped-def]
    """prefix[i + 1] = sum of the first i + 1 values, in steps of 1 / unit."""
    total = np.int64(0)
    for i in range(values.shape[0]):
        if unit == 1:
            total += np.int64(values[i])
        elif values[i] == values[i]:  # NaN does not count
            total += np.int64(math.floor(np.float64(values[i]) * unit + 0.5))
        prefix[i + 1] = total


def split(found: np.ndarray, labels: np.ndarray, border: np.ndarray) -> tuple[np.ndarray, Record]:
    """Split a tile's sums into rows that are final here and the record of those at seams.

    Returns ``(label, sums…)`` rows and the record ``{"sums": (label, sums…) rows}``.
    """
    rows = np.column_stack([labels, found])
    outside = np.zeros(len(rows), bool)
    outside[border - 1] = True
    return rows[~outside], {"sums": rows[outside]}


def combine(rows: np.ndarray) -> np.ndarray:
    """Add up the rows of each label; sorted by label."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if not len(rows):
        return rows
    start = np.flatnonzero(np.r_[True, rows[1:, 0] != rows[:-1, 0]])
    out = np.add.reduceat(rows, start, axis=0)
    first, last = slice(1 + TOP, 1 + BOTTOM), slice(1 + BOTTOM, 1 + CHANNELS)
    out[:, first] = np.minimum.reduceat(rows[:, first], start, axis=0)
    out[:, last] = np.maximum.reduceat(rows[:, last], start, axis=0)
    out[:, 0] = rows[start, 0]
    return out


def columns(rows: np.ndarray, *, floating: bool) -> dict[str, np.ndarray]:
    """Return the table's columns, named as in scikit-image's ``regionprops_table``."""
    area = rows[:, 1 + AREA]
    table = {"label": rows[:, 0], "area": area}
    for i, place in enumerate((TOP, LEFT, BOTTOM, RIGHT)):
        table[f"bbox-{i}"] = rows[:, 1 + place]
    table["centroid-0"] = rows[:, 1 + ROWS] / area
    table["centroid-1"] = rows[:, 1 + COLUMNS] / area
    unit = UNIT if floating else 1
    for i in range(rows.shape[1] - 1 - CHANNELS):
        table[f"intensity_mean-{i}"] = rows[:, 1 + CHANNELS + i] / (area * unit)
    return table
