"""The landscape that objects are flooded in: fields of a network to altitudes, in one sweep.

Most pixels are background, so work that is not the same for all pixels of a row (and so cannot run
in vector registers) is done for the others alone.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.watershed_altitude import NEAR
from segpipe.methods.watershed_kernels import CORE

LEVELS = 255
"""Fields are whole 255ths."""
UNIT = 64
"""Steps of altitude of one 255th: plateaus are ordered by the mean round a pixel, in these."""
TALL = 2 * NEAR + 1
"""Rows that a mean is taken over."""
COUNT_BITS = 7
"""A pixel is its altitude, of 15 bits, above a 1: sums of TALL^2 of them fit 32 bits."""
ONES = (1 << COUNT_BITS) - 1

u32 = np.uint32
u64 = np.uint64


@njit(nogil=True, cache=True)
def landscape(fields, depth, border, foreground, place, altitude, kind):
    """Fill altitude and kind of a core and one pixel round it, as `watershed_kernels.flood` wants.

    Parameters
    ----------
    fields
        uint8 (h, w, K) in 255ths, background first, of the core and `NEAR` + 1 pixels round it.
    depth
        int64, planes whose maximum is the depth.
    border
        (plane, 256ths of it that are taken off the depth).
    foreground
        Least share of what is not background.
    place
        (row and column in `fields`, row and column in `altitude`) of the first pixel, and the
        (rows, columns) that are filled.
    altitude, kind
        uint32 and uint8 (rows + 2, columns + 2), filled with `NONE` and `OUTSIDE`. The leading 16
        bits are the lower the deeper; the others are the mean of these round a pixel.
    """
    (top, left), (row, column), (rows, columns) = place
    h, w, k = fields.shape
    planes = np.empty((k, w), np.uint8)
    most = np.empty((2, w), np.uint8)
    recent = np.zeros((TALL, w), np.uint32)
    total = np.zeros(w, np.uint32)
    sums = np.zeros(w + 1, np.uint32)
    coming = max(0, top - NEAR)
    for y in range(rows):
        while coming <= top + y + NEAR:
            slot = recent[coming % TALL]
            for x in range(w):  # the row that leaves
                total[u64(x)] -= slot[u64(x)]
            if coming < h:
                _levels(fields[coming], depth, border, foreground, planes, most, slot)
                for x in range(w):
                    total[u64(x)] += slot[u64(x)]
            else:
                slot[:] = 0
            coming += 1
        running = u32(0)
        for x in range(w):
            running = u32(running + total[u64(x)])  # wraps round; differences do not
            sums[u64(x + 1)] = running
        here = recent[(top + y) % TALL]
        for x in range(columns):
            own = here[u64(left + x)]
            if own == 0:
                continue
            before = u64(max(0, left + x - NEAR))
            behind = u64(min(w, left + x + NEAR + 1))
            found = u32(sums[behind] - sums[before])
            mean = (found >> u32(COUNT_BITS)) // (found & u32(ONES))
            leading = own >> u32(COUNT_BITS)
            altitude[u64(row + y), u64(column + x)] = leading << u32(16) | mean
            kind[u64(row + y), u64(column + x)] = CORE
    kind[0] = kind[-1] = 0
    kind[:, 0] = kind[:, -1] = 0


@njit(nogil=True, cache=True)
def _levels(fields, depth, border, foreground, planes, most, found):
    """Put altitude and a 1 of the pixels of a row that are foreground into `found`, 0 of others."""
    plane, share = border
    for k in range(len(planes)):
        for x in range(len(found)):
            planes[k, u64(x)] = fields[u64(x), k]
    most[:] = 0
    for k in range(1, len(planes)):
        _larger(planes[k], most[0])
    for k in depth:
        _larger(planes[k], most[1])
    weight, least = u32(share), u32(foreground)
    background, rim = planes[0], planes[plane]
    for x in range(len(found)):
        # all planes are 0 where there is no pixel
        inside = (LEVELS - background[u64(x)] >= least) & (most[0, u64(x)] > 0)
        level = u32(LEVELS) - most[1, u64(x)] + (rim[u64(x)] * weight >> u32(8))
        found[u64(x)] = inside * (level * u32(UNIT << COUNT_BITS) + u32(1))


@njit(nogil=True, cache=True)
def _larger(values, most):
    for x in range(len(values)):
        most[u64(x)] = max(most[u64(x)], values[u64(x)])


@njit(nogil=True, cache=True)
def areas(parts, n):
    """Return int64[n], the number of pixels of each part but 0."""
    found = np.zeros(n, np.int64)
    for y in range(parts.shape[0]):
        for x in range(parts.shape[1]):
            part = u64(parts[u64(y), u64(x)])
            if part:
                found[part] += 1
    return found
