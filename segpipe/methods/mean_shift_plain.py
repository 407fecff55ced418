"""States of mean shift, and a step in plain words: what `mean_shift_vector` does for flat weights.

With other weights, `plain_successor` is the step itself.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

LANES = 16
"""Values of 16 bits that are treated together; planes need as many behind the last pixel."""
GROUP = 8
"""Values of a state that are worked out together: the length of a state is a multiple of it."""
PLACE, COLOUR = 1, 3
"""Where a state of uint16 has its row and column (modulo 2^16) and its colours; first comes 0."""
LIFT = 256
"""Added to a colour difference to keep what is divided positive."""


@njit(nogil=True, cache=True)
def state_size(channels):
    """Return the length of a state for a number of channels."""
    return -(-(COLOUR + channels) // GROUP) * GROUP


@njit(nogil=True, cache=True)
def plain_successor(planes, window, rule, weights, states, at, out, to):
    """Write the rounded means of place and colour over a window's pixels near a colour.

    planes   tuple of C flat arrays: the sampled pixels; int16 of 0..255, or uint16
    window   (offset, stride, rows, columns, y, x): first pixel and distance of two rows in a
             plane; size, at most 128 x 128; place of the first pixel in the image
    rule     (usual, bits, limit): most windows have `usual` rows or one more; a pixel is sampled
             if y and x are multiples of 2^bits; pixels count whose squared distance from the
             colour is at most `limit`, 0 .. 254^2 (per channel, distances beyond 255 count as 255)
    weights  int64[radius + 1, radius + 1, 256] of rows, columns and colours apart, or empty: all 1
    states   flat uint16: [at:] begins the state, of which only the colour matters to flat weights …
    out      … and [to:] its successor; without any pixel, the state itself
    """
    offset, stride, rows, columns, y, x = window
    _usual, bits, limit = rule
    # from the state's place, known modulo 2^16, to the window's first pixel
    above = np.int64(np.int16(np.uint16(y) - states[at + PLACE]))
    before = np.int64(np.int16(np.uint16(x) - states[at + PLACE + 1]))
    weight = np.int64(1)
    n = row_sum = column_sum = np.int64(0)
    total = np.zeros(len(planes), np.int64)
    for row in range(rows):
        for column in range(columns):
            place = offset + row * stride + column
            distance = 0
            for c in range(len(planes)):
                d = np.int32(planes[c][place]) - states[at + COLOUR + c]
                distance += min(abs(d), 255) ** 2
            if distance <= limit:
                if weights.size:
                    dy, dx = abs(above + (row << bits)), abs(before + (column << bits))
                    weight = weights[dy, dx, (distance << 8) // (limit + 1)]
                n += weight
                row_sum += weight * row
                column_sum += weight * column
                for c in range(len(planes)):
                    total[c] += weight * planes[c][place]
    size = state_size(len(planes))
    out[to : to + size] = states[at : at + size]
    if n:
        out[to + PLACE] = np.uint16(y + rounded(row_sum << bits, n))
        out[to + PLACE + 1] = np.uint16(x + rounded(column_sum << bits, n))
        for c in range(len(planes)):
            out[to + COLOUR + c] = rounded(total[c], n)


@njit(nogil=True, cache=True)
def plain_neighbours(planes, window, rule, colours, sums):
    """Sum up LANES windows, one a column further than the other, each near a colour of its own.

    planes   see `plain_successor`
    window   (offset, stride, rows, columns, left): first pixel and distance of two rows in a
             plane, size, column of the first pixel in the image; all of the first window
    rule     (limit, there): see `plain_successor`; the image has so many columns
    colours  uint16[C, LANES]
    sums     out, uint16[3 + C, LANES], modulo 2^16: number of pixels, sums of row and column
             numbers (from 0), of pixel - colour
    """
    offset, stride, rows, columns, left = window
    sums[:] = 0
    for lane in range(LANES):
        for row in range(rows):
            for column in range(columns):
                if not 0 <= left + column + lane < rule[1]:
                    continue
                place = offset + row * stride + column + lane
                distance = 0
                for c in range(len(planes)):
                    d = np.int32(planes[c][place]) - colours[c, lane]
                    distance += min(abs(d), 255) ** 2
                if distance <= rule[0]:
                    sums[0, lane] += 1
                    sums[1, lane] += row
                    sums[2, lane] += column
                    for c in range(len(planes)):
                        sums[3 + c, lane] += planes[c][place] - colours[c, lane]


@njit(nogil=True, cache=True)
def rounded(a, n):
    """Return a / n, rounded half up."""
    return (2 * a + n) // (2 * n)
