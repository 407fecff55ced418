"""Kernels of region growing: what is near a seed; automatic seeds, the calmest of a lattice."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

from segpipe.tiles import Box


@njit(nogil=True, cache=True)
def within(image, valid, value, tolerance):
    """Return uint8[h, w], 1 where no channel of a valid pixel differs from a value by more.

    `image` is (h, w, C), `valid` bool[h, w] or None, `value` (C,) of the image's type.
    """
    h, w, channels = image.shape
    found = np.ones((h, w), np.uint8)
    for y in range(h):
        for c in range(channels):
            wanted = np.float64(value[c])
            for x in range(w):
                found[y, x] &= abs(np.float64(image[y, x, c]) - wanted) <= tolerance
        if valid is not None:
            for x in range(w):
                found[y, x] &= valid[y, x]
    return found


@njit(nogil=True, cache=True)
def claim(owner, regions, best):
    """Let every pixel of uint32[h, w] go to the best seed of its region, if that comes first."""
    for y in range(owner.shape[0]):
        for x in range(owner.shape[1]):
            owner[y, x] = min(owner[y, x], best[np.uint64(regions[y, x])])


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
