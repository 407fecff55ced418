"""Automatic seeds: the calmest pixel of every square of the global lattice."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

from segpipe.tiles import Box


def calm_seeds(
    image: np.ndarray, valid: np.ndarray | None, origin: tuple[int, ...], core: Box, step: int
) -> np.ndarray:
    """Find the valid pixel of least gradient in every square, as far as it lies in the core.

    Parameters
    ----------
    image, valid
        Window (h, w, C) with `step` pixels round the core, and which of its pixels count.
    origin
        Global (y, x) of the window's first pixel.
    core
        Global box of the tile's core.
    step
        Side of the squares; they begin at the image's first pixel.

    Returns
    -------
    int64[m, 2]: global (y, x), in raster order of the squares. The gradient is the sum over
    channels of the greatest difference to one of the four neighbours; ties go to raster order.
    """
    inside = np.ones(image.shape[:2], bool) if valid is None else valid
    first = [a // step for a in core.start]
    last = [-(-b // step) for b in core.stop]
    counts = (last[0] - first[0], last[1] - first[1])
    places = np.full((*counts, 2), -1, np.int64)
    _calmest(image, inside, np.array(origin), np.array(first), step, places)
    found = places.reshape(-1, 2)
    return found[((found >= core.start) & (found < core.stop)).all(axis=1)]


@njit(nogil=True, cache=True)
def _calmest(image, inside, origin, first, step, places):
    """Write the place of least gradient of every square; squares are cut by the image only."""
    h, w = inside.shape
    for i in range(places.shape[0]):
        for j in range(places.shape[1]):
            top, left = (first[0] + i) * step - origin[0], (first[1] + j) * step - origin[1]
            least = np.inf
            for y in range(top, min(h, top + step)):
                for x in range(left, min(w, left + step)):
                    if inside[y, x]:
                        g = _gradient(image, inside, y, x)
                        if g < least:
                            least = g
                            places[i, j, 0] = y + origin[0]
                            places[i, j, 1] = x + origin[1]


@njit(nogil=True, cache=True)
def _gradient(image, inside, y, x):
    """Sum over channels of the greatest difference to a valid one of the four neighbours."""
    h, w = inside.shape
    total = 0.0
    for c in range(image.shape[2]):
        most = 0.0
        here = np.float64(image[y, x, c])
        if y > 0 and inside[y - 1, x]:
            most = max(most, abs(here - np.float64(image[y - 1, x, c])))
        if y + 1 < h and inside[y + 1, x]:
            most = max(most, abs(here - np.float64(image[y + 1, x, c])))
        if x > 0 and inside[y, x - 1]:
            most = max(most, abs(here - np.float64(image[y, x - 1, c])))
        if x + 1 < w and inside[y, x + 1]:
            most = max(most, abs(here - np.float64(image[y, x + 1, c])))
        total += most
    return total
