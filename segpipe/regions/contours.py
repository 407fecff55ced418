"""Which pixels of a row lie on the border of their region, and what length each stands for.

Everything here looks at whole rows at once, byte by byte, so that it runs in vector registers.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

OUTSIDE = np.uint32(2**32 - 1)
"""Stands in the ring where the image has ended."""
RING = 2
"""Pixels of the ring: whether a pixel lies on a border depends on its neighbours, and the weight of
a border pixel on which of its neighbours lie on the border too."""
WEIGHTS = np.array([1.0, math.sqrt(2.0), (1.0 + math.sqrt(2.0)) / 2.0])
"""Length that a border pixel of each shape (straight, diagonal, mixed) stands for, as in
``skimage.measure.perimeter`` (Benkrid, Crookes, "Design and FPGA implementation of a perimeter
estimator", 2000)."""
u64 = np.uint64
u8 = np.uint8


class Ring(NamedTuple):
    """Regions round a tile: own ones by number, others by numbers above, `OUTSIDE`."""

    top: np.ndarray
    """uint32[2, width + 4], the rows above, corners included."""
    bottom: np.ndarray
    left: np.ndarray
    """uint32[height, 2]."""
    right: np.ndarray


class Planes(NamedTuple):
    """Memory for the steps from a `window` to the shapes of borders: (rows, columns) each."""

    east: np.ndarray
    south: np.ndarray
    falling: np.ndarray
    rising: np.ndarray
    border: np.ndarray
    shapes: np.ndarray
    """Without the ring, as the next one."""
    diagonal: np.ndarray


@njit(nogil=True, cache=True)
def planes(height, width):
    """Return memory for windows of up to so many rows, and of so many columns."""
    with_ring = (height + 2 * RING, width + 2 * RING)
    return Planes(
        np.empty(with_ring, u8),
        np.empty(with_ring, u8),
        np.empty(with_ring, u8),
        np.empty(with_ring, u8),
        np.empty(with_ring, u8),
        np.empty((height, width), u8),
        np.empty((height, width), u8),
    )


@njit(nogil=True, cache=True)
def window(regions, ring, top, left, block):
    """Fill a block of a tile with the `RING` round it; return whether a pixel is of no region.

    `block` may have fewer bits than the regions if these have no more, and so has `OUTSIDE`.
    """
    h, w = regions.shape
    above, below, before, behind = ring
    width = block.shape[1] - 2 * RING
    first, last = max(RING - left, 0), min(RING - left + w, width + 2 * RING)
    none = False
    for k in range(block.shape[0]):
        y = top + k - RING
        if y < 0 or y >= h:
            for x in range(block.shape[1]):
                block[k, x] = above[y + RING, left + x] if y < 0 else below[y - h, left + x]
                none |= block[k, x] == 0
            continue
        for x in range(first):
            block[k, x] = before[y, x]
            none |= block[k, x] == 0
        for x in range(last - first):
            region = regions[u64(y), u64(left + first - RING + x)]
            block[u64(k), u64(first + x)] = region
            none |= region == 0
        for x in range(last, block.shape[1]):
            block[k, x] = behind[y, x - last]
            none |= block[k, x] == 0
    return none


@njit(nogil=True, cache=True)
def border_shapes(block, planes):
    """Return the shape of the border at each pixel of a `window`, uint8.

    1 straight, 2 diagonal, 3 mixed, 0 inside a region and where no length is counted.
    """
    h = block.shape[0]
    east, south, border = planes.east[:h], planes.south[:h], planes.border[:h]
    falling, rising = planes.falling[:h], planes.rising[:h]
    shapes, diagonal = planes.shapes[: h - 2 * RING], planes.diagonal[: h - 2 * RING]
    _compare(block, east, south, falling, rising)
    _mark(east, south, border)
    _count_straight(east, south, border, shapes)
    _count_diagonal(falling, rising, border, diagonal)
    _classify(border, shapes, diagonal)
    return shapes


@njit(nogil=True, cache=True)
def _compare(block, east, south, falling, rising):
    """Compare pixels with those to the right, below, below right; the right one with that below."""
    for y in range(u64(block.shape[0] - 1)):
        below = y + u64(1)
        for x in range(block.shape[1] - 1):
            own, beside = block[y, u64(x)], block[y, u64(x + 1)]
            east[y, u64(x)] = own == beside
            south[y, u64(x)] = own == block[below, u64(x)]
            falling[y, u64(x)] = own == block[below, u64(x + 1)]
            rising[y, u64(x)] = beside == block[below, u64(x)]


@njit(nogil=True, cache=True)
def _mark(east, south, border):
    """Mark the pixels that have another region among their four neighbours."""
    for y in range(u64(1), u64(east.shape[0] - 1)):
        for x in range(1, east.shape[1] - 1):
            straight = east[y, u64(x)] & east[y, u64(x - 1)]
            inner = straight & south[y - u64(1), u64(x)] & south[y, u64(x)]
            border[y, u64(x)] = inner ^ u8(1)


@njit(nogil=True, cache=True)
def _count_straight(east, south, border, found):
    """Count the straight neighbours of the same region that lie on the border."""
    for y in range(u64(RING), u64(east.shape[0] - RING)):
        above, below = y - u64(1), y + u64(1)
        for x in range(RING, east.shape[1] - RING):
            found[y - u64(RING), u64(x - RING)] = (
                (east[y, u64(x)] & border[y, u64(x + 1)])
                + (east[y, u64(x - 1)] & border[y, u64(x - 1)])
                + (south[above, u64(x)] & border[above, u64(x)])
                + (south[y, u64(x)] & border[below, u64(x)])
            )


@njit(nogil=True, cache=True)
def _count_diagonal(falling, rising, border, found):
    """Count the diagonal neighbours of the same region that lie on the border."""
    for y in range(u64(RING), u64(border.shape[0] - RING)):
        above, below = y - u64(1), y + u64(1)
        for x in range(RING, border.shape[1] - RING):
            found[y - u64(RING), u64(x - RING)] = (
                (falling[y, u64(x)] & border[below, u64(x + 1)])
                + (falling[above, u64(x - 1)] & border[above, u64(x - 1)])
                + (rising[y, u64(x - 1)] & border[below, u64(x - 1)])
                + (rising[above, u64(x)] & border[above, u64(x + 1)])
            )


@njit(nogil=True, cache=True)
def _classify(border, straight, diagonal):
    """Put the shape in the place of the straight neighbours."""
    for y in range(u64(straight.shape[0])):
        for x in range(straight.shape[1]):
            s, d = straight[y, u64(x)], diagonal[y, u64(x)]
            plain = ((s == 2) | (s == 3)) & (d <= 2)
            slant = ((s == 0) & (d == 2)) | ((s == 1) & (d == 3))
            mixed = (s == 1) & ((d == 1) | (d == 2))
            shape = plain + 2 * slant + 3 * mixed
            straight[y, u64(x)] = border[y + u64(RING), u64(x + RING)] * shape


@njit(nogil=True, cache=True)
def meets_none(block, found):
    """Note where a pixel of a `window` has an edge to a pixel of no region."""
    for y in range(u64(found.shape[0])):
        k = y + u64(RING)
        for x in range(found.shape[1]):
            found[y, u64(x)] = (
                (block[k - u64(1), u64(x + RING)] == 0)
                | (block[k + u64(1), u64(x + RING)] == 0)
                | (block[k, u64(x + RING - 1)] == 0)
                | (block[k, u64(x + RING + 1)] == 0)
            )
