"""Mean shift on integers: trajectories, and the links between pixels whose modes are close.

A *state* is a lattice point (y, x) and a colour of integers; its *successor* is the rounded mean of
the sampled pixels in a window round the point whose colours lie in a ball round the colour. The
successor is a function of the state alone, so the states of many pixels are nodes of one graph, and
each is computed once, whoever comes by: that changes no result.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.mean_shift_vector import (
    COLOURS,
    COLUMNS,
    COUNT,
    LANES,
    ROWS,
    sums_size,
    vector,
)

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
    _, height, width = values.shape
    pixels = BLOCK[0] * BLOCK[1]
    most = pixels * (rule[0] + 1)
    room = 2 * most + 1  # a last one to write to in vain
    keys = np.zeros((room, 1 + -(-len(planes) // PACK)), np.int64)
    fresh = np.zeros((pixels, keys.shape[1]), np.int64)
    after = np.zeros(room, np.int32)
    table = np.zeros(1 << TABLE_BITS, np.int32)
    node = np.zeros(pixels, np.int32)
    active = np.zeros(pixels, np.int32)
    queue = np.zeros(pixels, np.int32)
    quick = weights.size == 0 and (2 * rule[1] >> rule[2]) < LANES
    used = 0
    for top in range(0, height, BLOCK[0]):
        for left in range(0, width, BLOCK[1]):
            if used > most:
                used = 0
            bottom, right = min(height, top + BLOCK[0]), min(width, left + BLOCK[1])
            box = (top, bottom, left, right)
            n = _begin(values, valid, place, box, keys, after, node, active, used)
            used += pixels
            for _ in range(rule[0]):
                m = _ask(node, active, n, after, queue)
                if quick:
                    _move(planes, lattice, keys, queue, m, rule, inverse, fresh)
                else:
                    _move_slowly(planes, lattice, keys, queue, m, rule, weights, fresh)
                used = _link(fresh, m, queue, keys, after, table, used)
                n = _advance(node, active, n, keys, after)
                if n == 0:
                    break
            _write(place, box, keys, node, colours, shift)


@njit(nogil=True, cache=True)
def _begin(values, valid, place, box, keys, after, node, active, used):
    """Make the first state of every pixel of a block; return the number of those that count."""
    for i in range(node.size):  # those of a block that is cut, too: nothing old may be found
        after[u64(used + i)] = UNKNOWN
    n = 0
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            i = (y - box[0]) * BLOCK[1] + x - box[2]
            q = u64(used + i)
            keys[q, u64(0)] = (place[0] + y) << 32 | (place[1] + x)
            for k in range(1, keys.shape[1]):
                keys[q, u64(k)] = 0
            node[u64(i)] = q
            active[u64(n)] = i
            n += valid[u64(y), u64(x)]
    for c in range(values.shape[0]):
        word, bits = u64(1 + (c >> 2)), (c & 3) << 4
        for y in range(box[0], box[1]):
            for x in range(box[2], box[3]):
                q = u64(used + (y - box[0]) * BLOCK[1] + x - box[2])
                keys[q, word] |= np.int64(values[u64(c), u64(y), u64(x)]) << bits
    return n


@njit(nogil=True, cache=True)
def _ask(node, active, n, after, queue):
    """Queue the states whose successor is not known yet, each once; return their number."""
    m = 0
    for j in range(n):
        q = u64(node[u64(active[u64(j)])])
        next_one = after[q]
        queue[u64(m)] = q
        m += next_one == UNKNOWN
        after[q] = QUEUED if next_one == UNKNOWN else next_one
    return m


@njit(nogil=True, cache=True, forceinline=True)
def _window(at, radius, bits, count):
    """Return the first sampled row (or column) within `radius` of `at`, and how many there are."""
    first = (max(at - radius, 0) + (1 << bits) - 1) >> bits
    return first, min((at + radius) >> bits, count - 1) - first + 1


@njit(nogil=True, cache=True)
def _move(planes, lattice, keys, queue, m, rule, inverse, fresh):
    """Write the successors of the queued states; a state that sees nothing stays.

    For flat weights and windows of up to LANES columns; free of branches.
    """
    stride, first_row, first_column, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    state = np.zeros(len(planes), np.int32)
    out = np.zeros(sums_size(len(planes)), np.int32)
    for i in range(m):
        q = u64(queue[u64(i)])
        key = keys[q, u64(0)]
        top, rows = _window(key >> 32, radius, bits, rows_there)
        left, columns = _window(key & 0xFFFFFFFF, radius, bits, columns_there)
        for c in range(len(planes)):
            state[u64(c)] = keys[q, u64(1 + (c >> 2))] >> ((c & 3) << 4) & 0xFFFF
        offset = (top - first_row) * stride + left - first_column
        vector(planes, offset, stride, rows, columns, 2 * radius >> bits, state, limit, out)
        found = np.int64(out[COUNT])
        n = found if found else np.int64(1)
        part = inverse[u64(n)]
        y = (top << bits) + ((2 * (np.int64(out[ROWS]) << bits) + n) * part >> SHIFT)
        x = (left << bits) + ((2 * (np.int64(out[COLUMNS]) << bits) + n) * part >> SHIFT)
        fresh[u64(i), u64(0)] = y << 32 | x if found else key
        for k in range(-(-len(planes) // PACK)):
            fresh[u64(i), u64(1 + k)] = 0
        for c in range(len(planes)):
            colour = (
                state[u64(c)]
                + ((2 * (out[u64(COLOURS + c)] + LIFT * n) + n) * part >> SHIFT)
                - LIFT
            )
            fresh[u64(i), u64(1 + (c >> 2))] |= np.int64(colour) << ((c & 3) << 4)


@njit(nogil=True, cache=True)
def _move_slowly(planes, lattice, keys, queue, m, rule, weights, fresh):
    """Do what `_move` does with weights, or for wide windows."""
    stride, first_row, first_column, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    state = np.zeros(len(planes), np.int32)
    out = np.zeros(sums_size(len(planes)), np.int32)
    total = np.zeros(out.size, np.int64)
    for i in range(m):
        q = queue[i]
        y, x = keys[q, 0] >> 32, keys[q, 0] & 0xFFFFFFFF
        top, rows = _window(y, radius, bits, rows_there)
        left, columns = _window(x, radius, bits, columns_there)
        for c in range(len(planes)):
            state[c] = keys[q, 1 + (c >> 2)] >> ((c & 3) << 4) & 0xFFFF
        offset = (top - first_row) * stride + left - first_column
        if weights.size:
            near = ((top << bits) - y, (left << bits) - x, bits)
            _weigh(planes, offset, stride, rows, columns, state, limit, near, weights, total)
        else:
            usual = 2 * radius >> bits
            _strips(planes, offset, stride, rows, columns, usual, state, limit, out, total)
        n = total[COUNT]
        for k in range(keys.shape[1]):
            fresh[i, k] = 0 if n else keys[q, k]
        if n:
            y = (top << bits) + _rounded(total[ROWS] << bits, n)
            x = (left << bits) + _rounded(total[COLUMNS] << bits, n)
            fresh[i, 0] = y << 32 | x
            for c in range(len(planes)):
                colour = state[c] + _rounded(total[COLOURS + c], n)
                fresh[i, 1 + (c >> 2)] |= np.int64(colour) << ((c & 3) << 4)


@njit(nogil=True, cache=True)
def _rounded(a, n):
    """Return a / n, rounded half up."""
    return (2 * a + n) // (2 * n)


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


@njit(nogil=True, cache=True)
def _link(fresh, m, queue, keys, after, table, used):
    """Find or add the nodes of the new states; return the number of nodes."""
    words = keys.shape[1]
    for e in range(m):
        i = u64(e)
        mixed = u64(0)
        for k in range(words):
            mixed = (mixed ^ u64(fresh[i, u64(k)])) * u64(0x9E3779B97F4A7C15)
        slot = mixed >> u64(64 - TABLE_BITS)
        q = u64(table[slot])
        same = q < u64(used)
        for k in range(words):
            same &= keys[q, u64(k)] == fresh[i, u64(k)]
        # written in any case: a wrong guess would cost more
        q = q if same else u64(used)
        for k in range(words):
            keys[q, u64(k)] = fresh[i, u64(k)]
        after[u64(used)] = UNKNOWN
        table[slot] = q
        used += 1 - same
        after[u64(queue[i])] = q
    return used


@njit(nogil=True, cache=True)
def _advance(node, active, n, keys, after):
    """Move every pixel on; return how many have not come to rest at a lattice point."""
    moving = 0
    for j in range(n):
        i = active[u64(j)]
        q = u64(node[u64(i)])
        to = u64(after[q])
        node[u64(i)] = to
        active[u64(moving)] = i
        moving += keys[q, u64(0)] != keys[to, u64(0)]
    return moving


@njit(nogil=True, cache=True)
def _write(place, box, keys, node, colours, shift):
    """Write the last states of a block."""
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            key = keys[u64(node[u64((y - box[0]) * BLOCK[1] + x - box[2])]), u64(0)]
            shift[u64(0), u64(y), u64(x)] = (key >> 32) - (place[0] + y)
            shift[u64(1), u64(y), u64(x)] = (key & 0xFFFFFFFF) - (place[1] + x)
    for c in range(colours.shape[0]):
        word, bits = u64(1 + (c >> 2)), (c & 3) << 4
        for y in range(box[0], box[1]):
            for x in range(box[2], box[3]):
                q = u64(node[u64((y - box[0]) * BLOCK[1] + x - box[2])])
                colours[u64(c), u64(y), u64(x)] = keys[q, word] >> bits & 0xFFFF
