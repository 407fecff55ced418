"""States of mean shift, and its steps in plain words: what the vectors compute for flat weights.

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
NO_WEIGHTS = np.zeros((0, 0, 0), np.int64)
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
def plain_neighbours(planes, window, place, rule, colours, out, at):
    """Write the successors of LANES pixels, one a lattice column further than the other.

    planes   see `plain_successor`
    window   (offset, stride, rows, columns, top, left): first pixel and distance of two rows in a
             plane, size, at most 40 x 40, lattice row and column of the first pixel; all of the
             first window
    place    row and column of the first pixel, modulo 2^16
    rule     (bits, limit, there): see `plain_successor`; the lattice has so many columns
    colours  uint16[C, LANES] of the pixels
    out, at  see `plain_successor`; the states are 2^bits states apart
    """
    offset, stride, rows, columns, top, left = window
    bits, limit, there = rule
    size = state_size(len(planes))
    for lane in range(LANES):
        to = at + (lane << bits) * size
        out[to : to + size] = 0
        out[to + PLACE] = np.uint16(place[0])
        out[to + PLACE + 1] = np.uint16(place[1] + (lane << bits))
        for c in range(len(planes)):
            out[to + COLOUR + c] = colours[c, lane]
        first = max(left + lane, 0)
        begin = offset + lane + first - (left + lane)
        across = min(left + lane + columns, there) - first
        seen = (begin, stride, rows, across, top << bits, first << bits)
        plain_successor(planes, seen, (rows, bits, limit), NO_WEIGHTS, out, to, out, to)


@njit(nogil=True, cache=True)
def rounded(a, n):
    """Return a / n, rounded half up."""
    return (2 * a + n) // (2 * n)
