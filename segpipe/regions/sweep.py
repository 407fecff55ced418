"""One sweep over a tile adds up what is measured of its regions: places, borders, colours.

Sums are kept for each column of pixels, from the row where a region begins in it to the row where
it ends (a *stretch*), and then go to the region. So almost all work is the same for all pixels of a
row, whatever their region, and runs in vector registers; what has to be looked up goes by
stretches, some twelve times fewer than pixels. The tile is swept in blocks that stay in the cache
and are so low that short integers hold the sums of a stretch.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from segpipe.regions import contours, exact
from segpipe.regions.contours import OUTSIDE, RING, Ring
from segpipe.regions.places import PLACES

HEIGHT, WIDTH = 51, 2048
"""Pixels of a block."""
LONGEST = 255
"""A stretch ends after so many pixels: so many values of one byte add up to less than 2^16."""
COLUMN = {"u1": ("u2", "u4"), "i1": ("i4", "u4"), "u2": ("u4", "u8"), "i2": ("i4", "u8")}
"""Types that hold the sum and the sum of squares of a stretch, by type of the image."""
BOX = PLACES
"""A region's numbers lie side by side: places (`segpipe.regions.places`), first row and column,
last row and column + 1, straight, diagonal and mixed border pixels, stretches that meet pixels of
no region, and for each channel sum, two digits of the sum of squares, least, most."""
BORDERS, CHANNELS, CHANNEL = BOX + 4, BOX + 8, 5
u64 = np.uint64


class Columns(NamedTuple):
    """Sums of the stretches that have begun, by column (and channel)."""

    total: np.ndarray
    squares: np.ndarray
    least: np.ndarray
    most: np.ndarray
    shapes: np.ndarray
    """uint8[4, columns]: straight, diagonal, mixed border pixels; does it meet no region?"""
    limits: np.ndarray
    """Largest and smallest value of the image's type."""


def sweep(
    regions: np.ndarray,
    ring: Ring,
    n: int,
    origin: Sequence[int],
    *,
    shape: bool = False,
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Add up what is measured of the regions of a tile.

    Parameters
    ----------
    regions
        uint32 (rows, columns), numbers 0..n, 0 = none.
    ring
        What lies round it.
    n
        Number of regions.
    origin
        Global (y, x) of the upper left pixel.
    shape
        Also count border pixels.
    image
        (rows, columns, channels), integers of up to 16 bits; None: no colours.

    Returns
    -------
    found
        int64[n + 1, numbers of a region], see `named`; row 0 is empty.
    """
    h, w = regions.shape
    channels = 0 if image is None else image.shape[2]
    pixels = np.zeros((h, 0), np.uint8)
    if image is not None:
        pixels = np.ascontiguousarray(image).reshape(h, w * channels)
    found = np.zeros((n + 1, CHANNELS + CHANNEL * channels), np.int64)
    colours = found[:, CHANNELS:].reshape(n + 1, channels, CHANNEL)
    found[:, BOX : BOX + 2] = colours[:, :, 3] = np.iinfo(np.int64).max
    colours[:, :, 4] = np.iinfo(np.int64).min
    ring = Ring(*(np.ascontiguousarray(part) for part in ring))
    regions = np.ascontiguousarray(regions)
    columns = _columns(min(w, WIDTH), channels, pixels.dtype)
    begin = (int(origin[0]), int(origin[1]))
    most = max(n, *(int(part[part != OUTSIDE].max(initial=0)) for part in ring))
    # numbers of 16 bits are compared twice as fast; the largest stands for `OUTSIDE`
    bits = np.zeros(0, np.uint16 if most < (1 << 16) - 1 else np.uint32)
    _sweep(regions, ring, pixels, begin, shape, bits, columns, found)
    found[0, :PLACES] = 0
    return found


def named(found: np.ndarray, *, shape: bool) -> dict[str, np.ndarray]:
    """Return the parts of rows of `sweep`.

    ``places`` (`segpipe.regions.places`), ``low`` and ``high``, first and last + 1 (row, column);
    with `shape` ``borders``: straight, diagonal and mixed border pixels (`contours.WEIGHTS`),
    stretches that meet pixels of no region; of an image ``colours`` (channels, 3), sums and two
    digits of sums of squares, ``least`` and ``most`` (channels).
    """
    sums = {
        "places": found[:, :PLACES],
        "low": found[:, BOX : BOX + 2],
        "high": found[:, BOX + 2 : BORDERS],
    }
    if shape:
        sums["borders"] = found[:, BORDERS:CHANNELS]
    if found.shape[1] > CHANNELS:
        channels = (found.shape[1] - CHANNELS) // CHANNEL
        colours = found[:, CHANNELS:].reshape(len(found), channels, CHANNEL)
        sums |= {"colours": colours[:, :, :3], "least": colours[:, :, 3], "most": colours[:, :, 4]}
    return sums


def _columns(width: int, channels: int, dtype: np.dtype) -> Columns:
    total, squares = COLUMN[dtype.str[1:]]
    limits = np.iinfo(dtype)
    return Columns(
        np.zeros(width * channels, total),
        np.zeros(width * channels, squares),
        np.full(width * channels, limits.max, dtype),
        np.full(width * channels, limits.min, dtype),
        np.zeros((4, width), np.uint8),
        np.array([limits.max, limits.min]),
    )


@njit(nogil=True, cache=True)
def _sweep(regions, ring, pixels, origin, shape, bits, columns, found):
    """Sweep strip by strip; a strip is cut into blocks, and stretches into `LONGEST` pixels."""
    h, w = regions.shape
    starts = np.empty(WIDTH, np.int64)
    total, squares, least, most, counts, limits = columns
    for left in range(0, w, WIDTH):
        width = min(WIDTH, w - left)
        window = np.empty((HEIGHT + 2 * RING, width + 2 * RING), bits.dtype)
        planes = contours.planes(HEIGHT if shape else 0, width)
        alone = np.empty((HEIGHT if shape else 0, width), np.uint8)
        starts[:] = origin[0]
        for top in range(0, h, HEIGHT):
            height = min(HEIGHT, h - top)
            block, shapes, meeting = window[: height + 2 * RING], alone[:0], alone[:0]
            holes = contours.window(regions, ring, top, left, block)
            if shape:
                shapes = contours.border_shapes(block, planes)
            if shape and holes:
                meeting = alone[:height]
                contours.meets_none(block, meeting)
            last = top + height == h or (top + height) % LONGEST == 0
            _add_block(block, shapes, meeting, pixels, top, left, origin, last, starts, total,
                       squares, least, most, counts, limits, found)  # fmt: skip


@njit(nogil=True, cache=True)
def _add_block(block, shapes, alone, pixels, top, left, origin, last, starts, total, squares, least,
               most, counts, limits, found):  # fmt: skip
    """Add the pixels of a block to their columns, and to their regions where a stretch ends."""
    height, width = block.shape[0] - 2 * RING, block.shape[1] - 2 * RING
    channels = (found.shape[1] - CHANNELS) // CHANNEL
    ending, ends = np.zeros(-(-width // 8) * 8, np.uint8), np.empty(width + 9, np.int64)
    eight = ending.view(np.uint64)
    for k in range(height):
        y = u64(top + k)
        for x in range(width * channels):
            total[u64(x)] += pixels[y, u64(left * channels + x)]
        for x in range(width * channels):
            value = pixels[y, u64(left * channels + x)]
            squares[u64(x)] += value * value
        for x in range(width * channels):
            least[u64(x)] = min(least[u64(x)], pixels[y, u64(left * channels + x)])
            most[u64(x)] = max(most[u64(x)], pixels[y, u64(left * channels + x)])
        if shapes.shape[0]:
            for x in range(width):
                counts[0, u64(x)] += shapes[u64(k), u64(x)] == 1
                counts[1, u64(x)] += shapes[u64(k), u64(x)] == 2
                counts[2, u64(x)] += shapes[u64(k), u64(x)] == 3
        if alone.shape[0]:
            for x in range(width):
                counts[3, u64(x)] |= alone[u64(k), u64(x)]
        here, below = u64(k + RING), u64(k + RING + 1)
        for x in range(width):
            ending[u64(x)] = block[here, u64(x + RING)] != block[below, u64(x + RING)]
        if last and k == height - 1:
            ending[:width] = 1
        n = 0
        for word in range(eight.shape[0]):
            if eight[u64(word)] == 0:  # ends lie together, at the lower sides of regions
                continue
            for x in range(8 * word, 8 * word + 8):
                # written at every pixel and kept where a stretch ends: nothing to mispredict
                ends[u64(n)] = x
                n += ending[u64(x)]
        for e in range(n):
            end = ends[u64(e)]
            column = u64(end)
            i = u64(block[here, column + u64(RING)])
            _add_places(found, i, starts[column], origin[0] + top + k, origin[1] + left + end)
            starts[column] = origin[0] + top + k + 1
            if shapes.shape[0]:
                _add_borders(found, i, counts, column)
            _add_colours(found, i, channels, column, total, squares, least, most, limits)


@njit(nogil=True, cache=True, inline="always")
def _add_places(found, i, first, last, x):
    """Add the pixels of column x in rows first..last."""
    n = last - first + 1
    m = u64(n)
    ys = ((first + last) * n) >> 1
    yy = first * n * last + np.int64((m - u64(1)) * m * (m + m - u64(1)) // u64(6))
    xx, xy = n * x * x, x * ys
    found[i, 0] += n
    found[i, 1] += ys
    found[i, 2] += n * x
    found[i, 3] += yy & exact.MASK
    found[i, 4] += yy >> exact.BITS
    found[i, 5] += xx & exact.MASK
    found[i, 6] += xx >> exact.BITS
    found[i, 7] += xy & exact.MASK
    found[i, 8] += xy >> exact.BITS
    found[i, 9] = min(found[i, 9], first)
    found[i, 10] = min(found[i, 10], x)
    found[i, 11] = max(found[i, 11], last + 1)
    found[i, 12] = max(found[i, 12], x + 1)


@njit(nogil=True, cache=True, inline="always")
def _add_borders(found, i, counts, x):
    found[i, BORDERS] += counts[0, x]
    found[i, BORDERS + 1] += counts[1, x]
    found[i, BORDERS + 2] += counts[2, x]
    found[i, BORDERS + 3] += counts[3, x]
    counts[0, x] = counts[1, x] = counts[2, x] = counts[3, x] = 0


@njit(nogil=True, cache=True, inline="always")
def _add_colours(found, i, channels, x, total, squares, least, most, limits):
    at, k = u64(CHANNELS), x * u64(channels)
    for _ in range(u64(channels)):
        found[i, at] += total[k]
        found[i, at + u64(1)] += np.int64(squares[k] & u64(exact.MASK))
        found[i, at + u64(2)] += np.int64(squares[k] >> u64(exact.BITS))
        found[i, at + u64(3)] = min(found[i, at + u64(3)], np.int64(least[k]))
        found[i, at + u64(4)] = max(found[i, at + u64(4)], np.int64(most[k]))
        total[k], squares[k], least[k], most[k] = 0, 0, limits[0], limits[1]
        at += u64(CHANNEL)
        k += u64(1)
