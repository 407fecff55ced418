"""Mean shift on integers: trajectories, and the links between pixels whose modes are close.

A *state* is a lattice point (y, x) and a colour of integers; its *successor* is the rounded mean of
the sampled pixels in a window round the point whose colours lie in a ball round the colour. The
successor is a function of the state alone, so the states of many pixels are nodes of one graph, and
each is computed once, whoever comes by: that changes no result.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.mean_shift_vector import COLOURS, COLUMNS, COUNT, LANES, ROWS, vector

BLOCK = (16, 32)
"""Pixels whose trajectories advance together, step by step: windows in flight do not wait."""
TABLE_BITS = 14
"""Size of the hash table of states; what it forgets is computed again."""
UNKNOWN, QUEUED = -1, -2
LIFT = 256
"""Added to a colour difference to keep what is divided positive."""
SHIFT = 40
"""Bits behind the point of the reciprocals 1 / 2n; exact for up to 128 x 128 pixels."""
PACK = 4
"""Colours of 16 bits in a word of a state."""

u64 = np.uint64


def reciprocals(n: int) -> np.ndarray:
    """Return int64[n + 1]: 2^SHIFT / 2i, rounded up."""
    return np.array([0, *(-(-(1 << SHIFT) // (2 * i)) for i in range(1, n + 1))], np.int64)


@njit(nogil=True, cache=True)
def follow(planes, lattice, values, valid, place, rule, weights, inverse, colours, shift):
    """Follow the trajectories of a core's pixels.

    planes   tuple of flat arrays: the sampled pixels; a last one tells masked ones apart
    lattice  (stride, first row, first column, rows, columns): where `planes` lie in the lattice of
             sampled pixels, and how many the image has
    values   (C, h, w) colours of the core; valid (h, w) bool
    place    global (y, x) of the core's first pixel
    rule     (steps, radius, bits, limit): a pixel is sampled if y and x are multiples of 2^bits
    weights  int64[radius + 1, radius + 1, 256] of rows, columns and colours apart, or empty: flat
    inverse  `reciprocals`
    colours  out, (C, h, w);  shift  out, int16 (2, h, w): where the mode lies, from the pixel
    """
    channels, height, width = values.shape
    pixels = BLOCK[0] * BLOCK[1]
    most = pixels * (rule[0] + 1)
    keys = np.zeros((2 * most, 1 + -(-channels // PACK)), np.int64)
    fresh = np.zeros((pixels, keys.shape[1]), np.int64)
    after = np.zeros(2 * most, np.int32)
    table = np.zeros(1 << TABLE_BITS, np.int32)
    node = np.zeros(pixels, np.int32)
    active = np.zeros(pixels, np.int32)
    queue = np.zeros(pixels, np.int32)
    state = np.zeros(len(planes), np.int32)
    out = np.zeros(-(-(COLOURS + len(planes)) // 8) * 8, np.int32)
    total = np.zeros(out.size, np.int64)
    used = 0
    for top in range(0, height, BLOCK[0]):
        for left in range(0, width, BLOCK[1]):
            if used > most:
                used = 0
            bottom, right = min(height, top + BLOCK[0]), min(width, left + BLOCK[1])
            box = (top, bottom, left, right)
            n = _begin(values, valid, place, box, keys, after, node, active, used)
            used += n
            for _ in range(rule[0]):
                m = _ask(node, active, n, after, queue)
                for i in range(m):
                    _step(
                        planes,
                        lattice,
                        keys,
                        queue[i],
                        channels,
                        rule,
                        weights,
                        inverse,
                        state,
                        out,
                        total,
                        fresh,
                        i,
                    )
                used = _link(fresh, m, queue, keys, after, table, used)
                n = _advance(node, active, n, keys, after)
                if n == 0:
                    break
            _write(valid, place, box, keys, node, colours, shift)


@njit(nogil=True, cache=True, forceinline=True)
def _begin(values, valid, place, box, keys, after, node, active, used):
    """Make the first state of every pixel of a block; return their number."""
    n = 0
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            if not valid[y, x]:
                continue
            q = used + n
            keys[q, 0] = (place[0] + y) << 32 | (place[1] + x)
            for k in range(1, keys.shape[1]):
                keys[q, k] = 0
            for c in range(values.shape[0]):
                keys[q, 1 + (c >> 2)] |= np.int64(values[c, y, x]) << ((c & 3) << 4)
            after[q] = UNKNOWN
            i = (y - box[0]) * BLOCK[1] + x - box[2]
            node[i] = q
            active[n] = i
            n += 1
    return n


@njit(nogil=True, cache=True, forceinline=True)
def _ask(node, active, n, after, queue):
    """Queue the states whose successor is not known yet, each once; return their number."""
    m = 0
    for j in range(n):
        q = node[active[j]]
        queue[m] = q
        m += after[q] == UNKNOWN
        after[q] = QUEUED if after[q] == UNKNOWN else after[q]
    return m


@njit(nogil=True, cache=True, forceinline=True)
def _window(at, radius, bits, count):
    """Return the first sampled row (or column) within `radius` of `at`, and how many there are."""
    first = (max(at - radius, 0) + (1 << bits) - 1) >> bits
    return first, min((at + radius) >> bits, count - 1) - first + 1


@njit(nogil=True, cache=True, forceinline=True)
def _step(planes, lattice, keys, q, channels, rule, weights, inverse, state, out, total, fresh, i):
    """Write the successor of state q as fresh state i."""
    stride, first_row, first_column, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    y, x = keys[q, 0] >> 32, keys[q, 0] & 0xFFFFFFFF
    top, rows = _window(y, radius, bits, rows_there)
    left, columns = _window(x, radius, bits, columns_there)
    for c in range(channels):
        state[c] = keys[q, 1 + (c >> 2)] >> ((c & 3) << 4) & 0xFFFF
    offset = (top - first_row) * stride + left - first_column
    corner = (top << bits, left << bits)
    usual = 2 * radius >> bits
    if weights.size:
        near = (corner[0] - y, corner[1] - x, bits)
        _weigh(planes, offset, stride, rows, columns, state, limit, near, weights, total)
        _succeed(corner, keys, q, channels, bits, inverse, state, total, fresh, i)
    elif columns <= LANES:
        vector(planes, offset, stride, rows, columns, usual, state, limit, out)
        _succeed(corner, keys, q, channels, bits, inverse, state, out, fresh, i)
    else:
        _strips(planes, offset, stride, rows, columns, usual, state, limit, out, total)
        _succeed(corner, keys, q, channels, bits, inverse, state, total, fresh, i)


@njit(nogil=True, cache=True)
def _strips(planes, offset, stride, rows, columns, usual, state, limit, out, total):
    """Do what `vector` does for a window of any width."""
    total[:] = 0
    for strip in range(0, columns, LANES):
        here = min(LANES, columns - strip)
        vector(planes, offset + strip, stride, rows, here, usual, state, limit, out)
        for k in range(total.size):
            total[k] += out[k]
        total[COLUMNS] += strip * out[COUNT]


@njit(nogil=True, cache=True)
def _weigh(planes, offset, stride, rows, columns, state, limit, near, weights, total):
    """Do what `vector` does for a window of any width, with weights."""
    total[:] = 0
    for row in range(rows):
        for column in range(columns):
            distance = 0
            for c in range(len(planes)):
                d = np.int32(planes[c][offset + row * stride + column]) - state[c]
                distance += min(abs(d), 255) ** 2
            if distance <= limit:
                dy, dx = abs(near[0] + (row << near[2])), abs(near[1] + (column << near[2]))
                weight = weights[dy, dx, (distance << 8) // (limit + 1)]
                total[COUNT] += weight
                total[ROWS] += weight * row
                total[COLUMNS] += weight * column
                for c in range(len(planes)):
                    d = np.int32(planes[c][offset + row * stride + column]) - state[c]
                    total[COLOURS + c] += weight * d


@njit(nogil=True, cache=True, forceinline=True)
def _succeed(corner, keys, q, channels, bits, inverse, state, sums, fresh, i):
    """Write the rounded means as fresh state i; a state that sees nothing stays."""
    n = np.int64(sums[COUNT])
    if n == 0:
        for k in range(keys.shape[1]):
            fresh[i, k] = keys[q, k]
        return
    y = corner[0] + _rounded(np.int64(sums[ROWS]) << bits, n, inverse)
    x = corner[1] + _rounded(np.int64(sums[COLUMNS]) << bits, n, inverse)
    fresh[i, 0] = y << 32 | x
    for k in range(1, keys.shape[1]):
        fresh[i, k] = 0
    for c in range(channels):
        colour = state[c] + _rounded(sums[COLOURS + c] + LIFT * n, n, inverse) - LIFT
        fresh[i, 1 + (c >> 2)] |= np.int64(colour) << ((c & 3) << 4)


@njit(nogil=True, cache=True, forceinline=True)
def _rounded(a, n, inverse):
    """Return a / n, rounded half up, for a >= 0."""
    if n < inverse.size:
        return (2 * a + n) * inverse[n] >> SHIFT
    return (2 * a + n) // (2 * n)


@njit(nogil=True, cache=True, forceinline=True)
def _link(fresh, m, queue, keys, after, table, used):
    """Find or add the nodes of the new states; return the number of nodes."""
    words = keys.shape[1]
    for i in range(m):
        mixed = u64(0)
        for k in range(words):
            mixed = (mixed ^ u64(fresh[i, k])) * u64(0x9E3779B97F4A7C15)
        slot = mixed >> u64(64 - TABLE_BITS)
        q = table[slot]
        same = q < used
        for k in range(words):
            same &= keys[q, k] == fresh[i, k]
        if not same:
            q = used
            for k in range(words):
                keys[q, k] = fresh[i, k]
            after[q] = UNKNOWN
            table[slot] = q
            used += 1
        after[queue[i]] = q
    return used


@njit(nogil=True, cache=True, forceinline=True)
def _advance(node, active, n, keys, after):
    """Move every pixel on; return how many have not come to rest at a lattice point."""
    moving = 0
    for j in range(n):
        i = active[j]
        q = node[i]
        node[i] = after[q]
        active[moving] = i
        moving += keys[q, 0] != keys[after[q], 0]
    return moving


@njit(nogil=True, cache=True, forceinline=True)
def _write(valid, place, box, keys, node, colours, shift):
    """Write the last states of a block."""
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            if valid[y, x]:
                q = node[(y - box[0]) * BLOCK[1] + x - box[2]]
                shift[0, y, x] = (keys[q, 0] >> 32) - (place[0] + y)
                shift[1, y, x] = (keys[q, 0] & 0xFFFFFFFF) - (place[1] + x)
                for c in range(colours.shape[0]):
                    colours[c, y, x] = keys[q, 1 + (c >> 2)] >> ((c & 3) << 4) & 0xFFFF
