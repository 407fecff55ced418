"""Mean shift on integers: trajectories, and the links between pixels whose modes are close.

A *state* is a lattice point (y, x) and a colour of integers; its *successor* is the rounded mean of
the sampled pixels in a window round the point whose colours lie in a ball round the colour. The
successor is a function of the state alone, so the states of many pixels are nodes of one graph, and
each is computed once, whoever comes by: that changes no result.

What a block does in every step is inlined: to hand an array over counts its references, with atomic
instructions, and that took a tenth of the time.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.mean_shift_narrow import vector_rounded, vector_totals
from segpipe.methods.mean_shift_neighbours import vector_neighbours
from segpipe.methods.mean_shift_plain import (
    COLOUR,
    LANES,
    PLACE,
    plain_successor,
    state_size,
)
from segpipe.methods.mean_shift_successor import vector_successor

PIXELS = 512
"""Pixels whose trajectories advance together, step by step: windows in flight do not wait."""
TABLE_BITS = 12
"""Size of the hash table of states, which fits a near cache; what it forgets is found again."""
UNKNOWN, QUEUED = -1, -2
SIGNED, UNSIGNED = 32767, 65535
"""Largest sums that a lane of 16 bits holds."""
WORD = 4
"""Numbers of 16 bits in a word that is hashed and compared."""

u64 = np.uint64


@njit(nogil=True, cache=True)
def follow(planes, lattice, pieces, values, valid, place, rule, weights, colours, shift):
    """Follow the trajectories of a core's pixels.

    planes   tuple of flat arrays: the sampled pixels; a last one tells masked ones apart
    lattice  (stride, first row, first column, rows, columns): where `planes` lie in the lattice of
             sampled pixels, and how many the image has
    pieces   the same as `mean_shift_narrow.pieces` says it, if windows are narrow
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
    room = 2 * most + 1  # a last one to write to in vain
    words = np.zeros(room * _length(planes), np.uint64)
    states, fresh = np.zeros((2, PIXELS * _length(planes)), np.uint64)
    after = np.zeros(room, np.int32)
    table = np.full(1 << TABLE_BITS, room - 1, np.int32)
    pixel, node, active, queue, found = np.zeros((5, PIXELS), np.int32)
    order = np.arange(PIXELS).astype(np.int32)
    places = np.zeros((LANES, 4), np.int64)
    totals = np.zeros(LANES * WORD * _length(planes), np.int32)
    quick = weights.size == 0 and _is_short(rule)
    for top in range(0, height, down):
        used = 0  # nothing old: states know their places modulo 2^16
        for left in range(0, width, across):
            used = 0 if used > most else used
            box = (top, min(height, top + down), left, min(width, left + across))
            near = (place[0] + top, place[1] + left)
            if quick:
                _first_steps(planes, lattice, values, place, rule, box, across, states)
            else:
                _stay(planes, values, place, box, across, states)
            n = _list(planes, valid, near, box, across, quick, states, pixel, fresh)
            used = _link(planes, fresh, n, words, after, table, used, node)
            active[:n] = order[:n]
            m = n
            for _ in range(quick, rule[0]):
                if m == 0:
                    break
                asked = _ask(node, active, m, after, queue)
                if pieces[1].size:
                    step = (pieces, near, rule[2])
                    _move_narrow(*step, words, queue, asked, fresh, places, totals)
                else:
                    _move(planes, lattice, near, rule, weights, words, queue, asked, fresh)
                used = _link(planes, fresh, asked, words, after, table, used, found)
                _answer(planes, words, queue, asked, found, after)
                m = _advance(node, active, m, after)
            _arrive(planes, words, node, pixel, n, states)
            _write(planes, states, near, box, across, colours, shift)


@njit(nogil=True, cache=True, forceinline=True)
def _length(planes):
    """Return the number of words of a state, which the compiler knows."""
    return state_size(len(planes)) // WORD


@njit(nogil=True, cache=True)
def _is_short(rule):
    """Tell if the sums over any window fit 16 bits."""
    _steps, radius, bits, limit = rule
    across = (2 * radius >> bits) + 1
    return across**3 <= UNSIGNED and across**4 * limit <= SIGNED**2


@njit(nogil=True, cache=True)
def _stay(planes, values, place, box, across, states):
    """Write the states of a block's pixels."""
    out, size = states.view(np.uint16), WORD * _length(planes)
    for y in range(box[0], box[1]):
        for x in range(box[2], box[3]):
            at = ((y - box[0]) * across + x - box[2]) * size
            out[at + PLACE], out[at + PLACE + 1] = np.uint16(place[0] + y), np.uint16(place[1] + x)
            for c in range(values.shape[0]):
                out[at + COLOUR + c] = values[c, y, x]


@njit(nogil=True, cache=True)
def _first_steps(planes, lattice, values, place, rule, box, across, states):
    """Write the successors of the states of a block's pixels."""
    stride, first_row, first_column, rows_there, columns_there = lattice
    _steps, radius, bits, limit = rule
    own = np.zeros((len(planes), LANES), np.uint16)
    out, size = states.view(np.uint16), WORD * _length(planes)
    for y in range(box[0], box[1]):
        top, rows = _window(place[0] + y, radius, bits, rows_there)
        for x in range(box[2], box[2] + (1 << bits)):
            left = _first(place[1] + x, radius, bits)
            columns = ((place[1] + x + radius) >> bits) - left + 1
            lanes = (box[3] - x + (1 << bits) - 1) >> bits
            for c in range(values.shape[0]):
                for k in range(lanes):
                    own[u64(c), u64(k)] = values[u64(c), u64(y), u64(x + (k << bits))]
            offset = (top - first_row) * stride + left - first_column
            window = (offset, stride, rows, columns, top, left)
            at = ((y - box[0]) * across + x - box[2]) * size
            here, step = (place[0] + y, place[1] + x), (bits, limit, columns_there)
            vector_neighbours(planes, window, here, step, own, out, at)


@njit(nogil=True, cache=True, forceinline=True)
def _list(planes, valid, near, box, across, moved, states, pixel, listed):
    """List the pixels of a block that count and, if so wanted, have moved; return their number."""
    length = _length(planes)
    n = 0
    for y in range(box[0], box[1]):
        row = u64((near[0] + y - box[0]) & 0xFFFF)
        for x in range(box[2], box[3]):
            at = (y - box[0]) * across + x - box[2]
            own = row | u64((near[1] + x - box[2]) & 0xFFFF) << u64(16)
            there = states[u64(at * length)] >> u64(16 * PLACE) & u64(0xFFFFFFFF)
            pixel[u64(n)] = at
            for k in range(length):
                listed[u64(n * length + k)] = states[u64(at * length + k)]
            n += valid[u64(y), u64(x)] & ((there != own) | (not moved))
    return n


@njit(nogil=True, cache=True, forceinline=True)
def _arrive(planes, words, node, pixel, n, states):
    """Write the states that the listed pixels have ended in."""
    length = _length(planes)
    for j in range(n):
        q, at = node[u64(j)], pixel[u64(j)]
        for k in range(length):
            states[u64(at * length + k)] = words[u64(q * length + k)]


@njit(nogil=True, cache=True, forceinline=True)
def _write(planes, states, near, box, across, colours, shift):
    """Write a block's states as colours and shifts; states know their places modulo 2^16."""
    found, size = states.view(np.uint16), WORD * _length(planes)
    for y in range(box[0], box[1]):
        row, column = near[0] + y - box[0], near[1] - box[2]
        first = ((y - box[0]) * across - box[2]) * size
        for x in range(box[2], box[3]):
            at = u64(first + x * size + PLACE)
            shift[u64(0), u64(y), u64(x)] = np.int16(found[at] - np.uint16(row))
            shift[u64(1), u64(y), u64(x)] = np.int16(found[at + u64(1)] - np.uint16(column + x))
        for c in range(colours.shape[0]):
            for x in range(box[2], box[3]):
                at = u64(first + x * size + COLOUR + c)
                colours[u64(c), u64(y), u64(x)] = found[at]


@njit(nogil=True, cache=True, forceinline=True)
def _first(at, radius, bits):
    """Return the first sampled row (or column) within `radius` of `at`; may lie before 0."""
    return (at - radius + (1 << bits) - 1) >> bits


@njit(nogil=True, cache=True, forceinline=True)
def _window(at, radius, bits, count):
    """Return the first sampled row (or column) within `radius` of `at`, and how many there are."""
    first = max(_first(at, radius, bits), 0)
    return first, min((at + radius) >> bits, count - 1) - first + 1


@njit(nogil=True, cache=True, forceinline=True)
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


@njit(nogil=True, cache=True, forceinline=True)
def _move_narrow(pieces, near, bits, words, queue, m, fresh, places, totals):
    """Do what `_move` does, over narrow windows.

    Three short loops instead of one: so the processor has several windows at hand, while one waits
    for its quotients.
    """
    stripes, inside, by_row, by_column, begin = pieces
    states, out = words.view(np.uint16), fresh.view(np.uint16)
    size = out.size // PIXELS
    for first in range(0, m, LANES):
        count = min(LANES, m - first)
        for k in range(count):
            at = np.int64(queue[u64(first + k)]) * size
            y = near[0] - begin[0] + np.int16(states[u64(at + PLACE)] - np.uint16(near[0]))
            x = near[1] - begin[1] + np.int16(states[u64(at + PLACE + 1)] - np.uint16(near[1]))
            for j in range(2):
                places[u64(k), u64(j)] = by_row[u64(y), u64(j)] + by_column[u64(x), u64(j)]
            places[u64(k), u64(2)] = by_row[u64(y), u64(2)]
            places[u64(k), u64(3)] = by_column[u64(x), u64(2)]
        for k in range(count):
            at = np.int64(queue[u64(first + k)]) * size
            place = (places[u64(k), u64(0)], places[u64(k), u64(1)])
            vector_totals((stripes, inside), place, states, at, totals, k * size)
        for k in range(count):
            at, to = np.int64(queue[u64(first + k)]) * size, (first + k) * size
            corner = (places[u64(k), u64(2)], places[u64(k), u64(3)])
            vector_rounded(stripes, totals, k * size, corner, bits, states, at, out, to)


@njit(nogil=True, cache=True, forceinline=True)
def _link(planes, source, m, words, after, table, used, found):
    """Find or add m states; return the number of nodes."""
    length = u64(_length(planes))
    for e in range(m):
        i = u64(e) * length
        mixed = u64(0)
        for k in range(length):
            mixed = (mixed ^ source[i + u64(k)]) * u64(0x9E3779B97F4A7C15)
        slot = mixed >> u64(64 - TABLE_BITS)
        q = u64(table[slot])
        same = q < u64(used)
        for k in range(length):
            same &= words[q * length + u64(k)] == source[i + u64(k)]
        # written in any case: a wrong guess would cost more
        q = q if same else u64(used)
        for k in range(length):
            words[q * length + u64(k)] = source[i + u64(k)]
        after[u64(used)] = UNKNOWN
        table[slot] = q
        used += 1 - same
        found[u64(e)] = q
    return used


@njit(nogil=True, cache=True, forceinline=True)
def _ask(node, active, n, after, queue):
    """Queue the states whose successor is not known yet, each once; return their number."""
    m = 0
    for j in range(n):
        q = u64(node[u64(active[u64(j)])])
        known = after[q]
        queue[u64(m)] = q
        m += known == UNKNOWN
        after[q] = QUEUED if known == UNKNOWN else known
    return m


@njit(nogil=True, cache=True, forceinline=True)
def _answer(planes, words, queue, m, found, after):
    """Note the successors of the queued states, and which of them are where they were."""
    length = _length(planes)
    for i in range(m):
        q, to = queue[u64(i)], found[u64(i)]
        apart = (words[u64(q * length)] ^ words[u64(to * length)]) >> u64(16 * PLACE)
        after[u64(q)] = to << 1 | (apart & u64(0xFFFFFFFF) == 0)


@njit(nogil=True, cache=True, forceinline=True)
def _advance(node, active, n, after):
    """Move every pixel on; return how many have not come to rest at a lattice point."""
    moving = 0
    for j in range(n):
        i = active[u64(j)]
        to = after[u64(node[u64(i)])]
        node[u64(i)] = to >> 1
        active[u64(moving)] = i
        moving += 1 - (to & 1)
    return moving
