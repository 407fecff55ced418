"""Mean shift on integers: trajectories, and the links between pixels whose modes are close.

A *state* is a lattice point (y, x) and a colour of integers; its *successor* is the rounded mean of
the sampled pixels in a window round the point whose colours lie in a ball round the colour. The
successor is a function of the state alone, so the states of many pixels are nodes of one graph, and
each is computed once, whoever comes by: that changes no result.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.mean_shift_plain import (
    COLOUR,
    LANES,
    LIFT,
    PLACE,
    plain_successor,
    state_size,
)
from segpipe.methods.mean_shift_vector import vector_neighbours, vector_successor

PIXELS = 512
"""Pixels whose trajectories advance together, step by step: windows in flight do not wait."""
TABLE_BITS = 14
"""Size of the hash table of states; what it forgets is computed again."""
UNKNOWN, QUEUED = -1, -2
SIGNED, UNSIGNED = 32767, 65535
"""Largest sums that a lane of 16 bits holds."""
WORD = 4
"""Numbers of 16 bits in a word that is hashed and compared."""

u64 = np.uint64


@njit(nogil=True, cache=True)
def follow(planes, lattice, values, valid, place, rule, weights, colours, shift):
    """Follow the trajectories of a core's pixels.

    planes   tuple of flat arrays: the sampled pixels; a last one tells masked ones apart
    lattice  (stride, first row, first column, rows, columns): where `planes` lie in the lattice of
             sampled pixels, and how many the image has
    values   (C, h, w) colours of the core; valid (h, w) bool
    place    global (y, x) of the core's first pixel
    rule     (steps, radius, bits, limit): a pixel is sampled if y and x are multiples of 2^bits
    weights  int64[radius + 1, radius + 1, 256] of rows, columns and colours apart, or empty: flat
    colours  out, (C, h, w);  shift  out, int16 (2, h, w): where the mode lies, from the pixel
    """
    _, height, width = values.shape
    across = LANES << rule[2]  # so that a row of a block is LANES pixels of each phase
    down = PIXELS // across
    most = PIXELS * (rule[0] + 1)
    length = state_size(len(planes)) // WORD
    room = 2 * most + 1  # a last one to write to in vain
    words = np.zeros(room * length, np.uint64)
    fresh = np.zeros(PIXELS * length, np.uint64)
    after = np.zeros(room, np.int32)
    table = np.full(1 << TABLE_BITS, room - 1, np.int32)
    pixel = np.zeros((2, PIXELS), np.int32)
    node, active, queue = np.zeros((3, PIXELS), np.int32)
    order = np.arange(PIXELS).astype(np.int32)
    quick = weights.size == 0 and _is_short(rule)
    for top in range(0, height, down):
        used = 0  # nothing old: states know their places modulo 2^16
        for left in range(0, width, across):
            used = 0 if used > most else used
            box = (top, min(height, top + down), left, min(width, left + across))
            near = (place[0] + top, place[1] + left)
            if quick:
                _first_steps(planes, lattice, values, place, rule, box, colours, shift)
            else:
                _stay(values, box, colours, shift)
            n = _list(valid, shift, box, quick, pixel)
            _pack(colours, shift, place, pixel, n, fresh)
            used = _link(fresh, n, order, node, words, length, after, table, used)
            active[:n] = order[:n]
            m = n
            for _ in range(quick, rule[0]):
                if m == 0:
                    break
                asked = _ask(node, active, m, after, queue)
                _move(planes, lattice, near, rule, weights, words, queue, asked, fresh)
                used = _link(fresh, asked, queue, after, words, length, after, table, used)
                m = _advance(node, active, m, words, length, after)
            _unpack(words, length, node, place, pixel, n, colours, shift)


@njit(nogil=True, cache=True)
def _is_short(rule):
    """Tell if the sums over any window fit 16 bits."""
    _steps, radius, bits, limit = rule
    across = (2 * radius >> bits) + 1
    return across**3 <= UNSIGNED and across**4 * limit <= SIGNED**2


@njit(nogil=True, cache=True)
def _stay(values, box, colours, shift):
    """Let the pixels of a block be where they are."""
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            shift[0, y, x] = shift[1, y, x] = 0
            for c in range(values.shape[0]):
                colours[c, y, x] = values[c, y, x]


@njit(nogil=True, cache=True)
def _first_steps(planes, lattice, values, place, rule, box, colours, shift):
    """Move all pixels of a block one step."""
    stride, first_row, first_column, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    own = np.zeros((len(planes), LANES), np.uint16)
    sums = np.zeros((COLOUR + len(planes), LANES), np.uint16)
    means = np.zeros((2 + len(planes), LANES), np.int32)
    for y in range(box[0], box[1]):
        top, rows = _window(place[0] + y, radius, bits, rows_there)
        for x in range(box[2], min(box[3], box[2] + (1 << bits))):
            left = _first(place[1] + x, radius, bits)
            columns = ((place[1] + x + radius) >> bits) - left + 1
            lanes = (box[3] - x + (1 << bits) - 1) >> bits
            for c in range(values.shape[0]):
                for k in range(lanes):
                    own[u64(c), u64(k)] = values[u64(c), u64(y), u64(x + (k << bits))]
            offset = (top - first_row) * stride + left - first_column
            window = (offset, stride, rows, columns, left)
            vector_neighbours(planes, window, (limit, columns_there), own, sums)
            corner = (top << bits) - (place[0] + y), (left << bits) - (place[1] + x)
            _means(sums, own, bits, corner, means)
            for k in range(lanes):
                at = u64(x + (k << bits))
                shift[u64(0), u64(y), at] = means[u64(0), u64(k)]
                shift[u64(1), u64(y), at] = means[u64(1), u64(k)]
            for c in range(values.shape[0]):
                for k in range(lanes):
                    colours[u64(c), u64(y), u64(x + (k << bits))] = means[u64(2 + c), u64(k)]


@njit(nogil=True, cache=True, error_model="numpy")
def _means(sums, own, bits, corner, means):
    """Turn sums into shifts and mean colours, lane by lane; what sees nothing stays.

    Quotients of 32-bit floats are exact enough, see `mean_shift_vector`.
    """
    one, lift = np.int32(1), np.int32(2 * LIFT)
    double = np.int32(bits + 1)
    for k in range(LANES):  # every result is made 32 bits wide again: so it becomes vectors
        n = np.int32(sums[u64(0), u64(k)])
        some = np.int32(max(n, one))
        for j in range(2):
            above = np.int32(np.int32(np.int32(sums[u64(1 + j), u64(k)]) << double) + some)
            mean = np.int32(np.float32(above) / np.float32(np.int32(some + some)))
            means[u64(j), u64(k)] = np.int32(np.int32(corner[j]) + mean) if n else np.int32(0)
    for c in range(own.shape[0]):
        for k in range(LANES):
            some = np.int32(max(np.int32(sums[u64(0), u64(k)]), one))
            total = np.int32(np.int16(sums[u64(COLOUR + c), u64(k)]))
            above = np.int32(np.int32(np.int32(total + total) + np.int32(lift * some)) + some)
            mean = np.int32(np.float32(above) / np.float32(np.int32(some + some)))
            base = np.int32(np.int32(own[u64(c), u64(k)]) - np.int32(LIFT))
            means[u64(2 + c), u64(k)] = np.int32(base + mean)


@njit(nogil=True, cache=True)
def _list(valid, shift, box, moved, pixel):
    """List the pixels of a block that count and, if so wanted, have moved; return their number."""
    n = 0
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            pixel[u64(0), u64(n)] = y
            pixel[u64(1), u64(n)] = x
            far = (shift[u64(0), u64(y), u64(x)] | shift[u64(1), u64(y), u64(x)]) != 0
            n += valid[u64(y), u64(x)] & (far | (not moved))
    return n


@njit(nogil=True, cache=True)
def _pack(colours, shift, place, pixel, n, words):
    """Write the states that the listed pixels are in."""
    length = words.size // PIXELS
    for j in range(n):
        y, x = u64(pixel[u64(0), u64(j)]), u64(pixel[u64(1), u64(j)])
        row = place[0] + np.int64(y) + shift[u64(0), y, x]
        column = place[1] + np.int64(x) + shift[u64(1), y, x]
        word = u64(row & 0xFFFF) << u64(16 * PLACE)
        word |= u64(column & 0xFFFF) << u64(16 * PLACE + 16)
        for k in range(length):
            first = WORD * k - COLOUR
            for c in range(max(first, 0), min(first + WORD, colours.shape[0])):
                word |= u64(colours[u64(c), y, x]) << u64(16 * (c - first))
            words[u64(j * length + k)] = word
            word = u64(0)


@njit(nogil=True, cache=True)
def _unpack(words, length, node, place, pixel, n, colours, shift):
    """Write where the listed pixels have ended; states know their places modulo 2^16."""
    for j in range(n):
        y, x = u64(pixel[u64(0), u64(j)]), u64(pixel[u64(1), u64(j)])
        at = u64(node[u64(j)]) * u64(length)
        row, column = words[at] >> u64(16 * PLACE), words[at] >> u64(16 * PLACE + 16)
        shift[u64(0), y, x] = np.int16(np.uint16(row) - np.uint16(place[0] + np.int64(y)))
        shift[u64(1), y, x] = np.int16(np.uint16(column) - np.uint16(place[1] + np.int64(x)))
        for c in range(colours.shape[0]):
            word, bits = u64((COLOUR + c) // WORD), u64((COLOUR + c) % WORD * 16)
            colours[u64(c), y, x] = words[at + word] >> bits & u64(0xFFFF)


@njit(nogil=True, cache=True, forceinline=True)
def _first(at, radius, bits):
    """Return the first sampled row (or column) within `radius` of `at`; may lie before 0."""
    return (at - radius + (1 << bits) - 1) >> bits


@njit(nogil=True, cache=True, forceinline=True)
def _window(at, radius, bits, count):
    """Return the first sampled row (or column) within `radius` of `at`, and how many there are."""
    first = max(_first(at, radius, bits), 0)
    return first, min((at + radius) >> bits, count - 1) - first + 1


@njit(nogil=True, cache=True)
def _move(planes, lattice, near, rule, weights, words, queue, m, fresh):
    """Write the successors of the queued states; `near` is a place less than 2^15 from all."""
    stride, first_row, first_column, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    states, out = words.view(np.uint16), fresh.view(np.uint16)
    size = out.size // PIXELS
    usual = 2 * radius >> bits
    for i in range(m):
        at = np.int64(queue[u64(i)]) * size
        y = near[0] + np.int64(np.int16(states[u64(at + PLACE)] - np.uint16(near[0])))
        x = near[1] + np.int64(np.int16(states[u64(at + PLACE + 1)] - np.uint16(near[1])))
        top, rows = _window(y, radius, bits, rows_there)
        left, columns = _window(x, radius, bits, columns_there)
        offset = (top - first_row) * stride + left - first_column
        window = (offset, stride, rows, columns, top << bits, left << bits)
        step = (usual, bits, limit)
        if weights.size:
            plain_successor(planes, window, step, weights, states, at, out, i * size)
        else:
            vector_successor(planes, window, step, states, at, out, i * size)


@njit(nogil=True, cache=True)
def _link(source, m, queue, goal, words, length, after, table, used):
    """Let states of `source` be the goals of the queued; return the number of nodes."""
    size = u64(length)
    for e in range(m):
        i = u64(e)
        mixed = u64(0)
        for k in range(length):
            mixed = (mixed ^ source[i * size + u64(k)]) * u64(0x9E3779B97F4A7C15)
        slot = mixed >> u64(64 - TABLE_BITS)
        q = u64(table[slot])
        same = q < u64(used)
        for k in range(length):
            same &= words[q * size + u64(k)] == source[i * size + u64(k)]
        # written in any case: a wrong guess would cost more
        q = q if same else u64(used)
        for k in range(length):
            words[q * size + u64(k)] = source[i * size + u64(k)]
        after[u64(used)] = UNKNOWN
        table[slot] = q
        used += 1 - same
        goal[u64(queue[i])] = q
    return used


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


@njit(nogil=True, cache=True)
def _advance(node, active, n, words, length, after):
    """Move every pixel on; return how many have not come to rest at a lattice point."""
    moving = 0
    size = u64(length)
    for j in range(n):
        i = active[u64(j)]
        q = u64(node[u64(i)])
        to = u64(after[q])
        node[u64(i)] = to
        active[u64(moving)] = i
        apart = (words[q * size] ^ words[to * size]) >> u64(16 * PLACE)
        moving += apart & u64(0xFFFFFFFF) != 0
    return moving
