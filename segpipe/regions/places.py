"""Where a region lies: area, box, sums of places and of their squares, as integers."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from segpipe.regions import exact

AREA, ROWS, COLUMNS, YY, XX, XY, PLACES = 0, 1, 2, 3, 5, 7, 9
"""Columns of the sums; the sums of squares have two digits each (`exact`)."""


def check_size(shape: Sequence[int]) -> None:
    """Refuse images whose sums of places could overflow: about 2 million pixels on both edges."""
    h, w = shape
    if h * w * max(h, w) >= 1 << 63 or max(h, w) >= 1 << 21:
        raise ValueError(
            f"an image of {h} x {w} pixels is too large to be measured exactly: edges must be "
            f"below {1 << 21} pixels; cut it"
        )


@njit(nogil=True, cache=True)
def ellipse(sums, low, high, out):
    """Write eccentricity, axis lengths (major, minor) and orientation as scikit-image has them.

    They are those of the ellipse with the region's second moments.
    """
    for i in range(sums.shape[0]):
        s = sums[i]
        n = s[AREA]
        size = max(high[i, 0] - low[i, 0], high[i, 1] - low[i, 1])
        yy = _moment(n, s, YY, s[ROWS], s[ROWS], size)
        xx = _moment(n, s, XX, s[COLUMNS], s[COLUMNS], size)
        xy = _moment(n, s, XY, s[ROWS], s[COLUMNS], size)
        long = (xx + yy) / 2 + math.hypot((xx - yy) / 2, xy)
        short = max(0.0, (xx * yy - xy * xy) / long) if long > 0 else 0.0
        short = min(short, long)
        out[i, 0] = math.sqrt(1 - short / long) if long > 0 else 0.0
        out[i, 1] = 4 * math.sqrt(long)
        out[i, 2] = 4 * math.sqrt(short)
        if xx == yy:
            out[i, 3] = math.pi / 4 if xy > 0 else -math.pi / 4
        else:
            out[i, 3] = 0.5 * math.atan2(2 * xy, yy - xx)


@njit(nogil=True, cache=True)
def _moment(n, s, at, a, b, size):
    """Second central moment over area: (n * sum - a * b) / n^2."""
    if n * size < 1 << 32:  # then the difference is below 2^62, and what wraps round comes back
        return np.float64(n * (s[at] + (s[at + 1] << 32)) - a * b) / (np.float64(n) * n)
    squares = np.array([s[at], s[at + 1], 0])
    exact.carry(squares)
    f, e = exact.spread(n, squares, _digits(a), _digits(b))
    return math.ldexp(f, e) / (np.float64(n) * n)


@njit(nogil=True, cache=True)
def _digits(value):
    return np.array([value & exact.MASK, value >> 32])
