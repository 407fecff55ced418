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
    """Accumulate run by run: one table update per run of equal regions, not per pixel."""
    height, width = regions.shape
    channels = image.shape[2]
    for y in range(height):
        x = 0
        while x < width:
            region = regions[y, x]
            begin = x
            while x < width and regions[y, x] == region:
                x += 1
            if region == 0:
                continue
            n, top, left = x - begin, origin[0] + y, origin[1] + begin
            row = out[region]
            row[AREA] += n
            row[ROWS] += n * top
            row[COLUMNS] += n * (2 * left + n - 1) // 2
            row[TOP] = min(row[TOP], top)
            row[LEFT] = min(row[LEFT], left)
            row[BOTTOM] = max(row[BOTTOM], top + 1)
            row[RIGHT] = max(row[RIGHT], left + n)
            for c in range(channels):
                total = np.int64(0)
                for i in range(begin, x):
                    if unit == 1:
                        total += np.int64(image[y, i, c])
                    else:
                        total += np.int64(math.floor(np.float64(image[y, i, c]) * unit + 0.5))
                row[CHANNELS + c] += total


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
