"""Halving an image for its pyramid: mean for images, nearest for labels.

Levels are anchored at the global origin: pixel (i, j) of the next level comes from pixels (2i, 2j)
to (2i + 1, 2j + 1), as far as they exist. So any aligned block can be halved alone.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def coarser(planes: np.ndarray) -> np.ndarray:
    """Halve what is stored: an image (C, H, W) by the mean, labels (H, W) by the nearest."""
    return halve_mean(planes) if planes.ndim == 3 else halve_nearest(planes)


def halve_mean(planes: np.ndarray) -> np.ndarray:
    """Halve (C, H, W) by the mean of each 2 x 2 (integers rounded half up).

    >>> halve_mean(np.array([[[1, 2, 9], [3, 4, 10]]], np.uint8)).tolist()
    [[[3, 10]]]
    """
    if planes.dtype == np.float16:  # Numba knows none
        return halve_mean(planes.astype(np.float32)).astype(np.float16)
    channels, height, width = planes.shape
    half = np.empty((channels, -(-height // 2), -(-width // 2)), planes.dtype)
    if planes.dtype.kind == "f":
        _halve_floats(planes, half)
    else:
        _halve_integers(planes, half)
    return half


def halve_nearest(labels: np.ndarray) -> np.ndarray:
    """Halve (H, W) by the upper left pixel of each 2 x 2."""
    return np.ascontiguousarray(labels[::2, ::2])


@njit(nogil=True, cache=True)
def _halve_integers(planes: np.ndarray, half: np.ndarray) -> None:
    channels, height, width = planes.shape
    for c in range(channels):
        for i in range(half.shape[1]):
            above, below = planes[c, 2 * i], planes[c, min(2 * i + 1, height - 1)]
            row = half[c, i]
            # an edge pixel without partner counts twice: the mean is the same
            for j in range(width // 2):
                total = np.int64(above[2 * j]) + above[2 * j + 1] + below[2 * j] + below[2 * j + 1]
                row[j] = (total + 2) >> 2
            if width % 2:
                row[-1] = (np.int64(above[-1]) + below[-1] + 1) >> 1


@njit(nogil=True, cache=True)
def _halve_floats(planes: np.ndarray, half: np.ndarray) -> None:
    channels, height, width = planes.shape
    for c in range(channels):
        for i in range(half.shape[1]):
            above, below = planes[c, 2 * i], planes[c, min(2 * i + 1, height - 1)]
            for j in range(half.shape[2]):
                k = min(2 * j + 1, width - 1)
                half[c, i, j] = 0.25 * ((above[2 * j] + above[k]) + (below[2 * j] + below[k]))
