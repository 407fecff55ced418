"""Kernels of fronts: pixels in ascending order of levels, as far as that order matters.

No step costs less than 2^`shift`. So levels are cut into slices of that width: whatever changes a
pixel comes from a former slice, and within one the order does not matter. It is that of memory,
near enough, for on large images it is fetching pixels that takes the time. (Denardo and Fox,
"Shortest-route methods: 1", Operations Research 27(1), 1979, 10.1287/opre.27.1.161.)

Pixels wait in lists, one per slice, in chunks of `CHUNK` that are used again. A pixel whose level
falls is put into the list of its new slice and passed over in that of the old one. It is put into
one at most four times, once for each neighbour, which bounds what is reserved; memory that is not
touched takes no room.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

SHIFT = 3
"""Squared distances of colours are shifted right by this much."""
LEVELS = 8192
"""Costs of one pixel are less than this."""
FAR = np.int64(1) << 62
"""Level of pixels that nothing has reached."""
NOBODY = -1
CHUNK = 64
BANDS = 2048
"""Parts of memory that the pixels of a slice are sorted by."""
FREE, USED, WAITING = range(3)

u64 = np.uint64


@njit(nogil=True, cache=True)
def advance(sources, ground):
    """Let fronts grow from offers (pixel, level, owner) in ascending order of levels.

    The ground is (near, width, step, colours, means, cap): int64[n, 4] neighbours, or none for
    pixels of a frame of that width. Returns level int64[n], -1 where there is no pixel, and owner
    int32[n].
    """
    pixels, levels, _owners = sources
    step = ground[2]
    level, least = _start(step)
    owner = np.zeros(step.size, np.int32)
    shift = 0
    while least >> (shift + 1):
        shift += 1
    lists = _lists(step.size, 2 * LEVELS >> shift)
    batch, ordered = np.empty(step.size, np.int32), np.empty(step.size, np.int32)
    counts = np.zeros(BANDS + 1, np.int64)
    state, offer = lists[4], 0
    now = np.int64(0)
    while state[WAITING] or offer < pixels.size:
        if not state[WAITING]:
            now = levels[offer] >> shift
        n = _take(now, lists, batch)
        while offer < pixels.size and levels[offer] >> shift == now:
            n = _enter(offer, sources, level, owner, ground[5], now, shift, batch, n)
            offer += 1
        if n > BANDS:
            _sort(batch, ordered, n, counts, step.size)
            batch, ordered = ordered, batch
        _pass_on(batch, n, now, shift, least, ground, level, owner, lists)
        now += 1
    return level, owner


@njit(nogil=True, cache=True)
def _start(step):
    """Return the levels to begin with, and the least step."""
    level = np.full(step.size, FAR, np.int64)
    least = np.int64(LEVELS)
    for p in range(step.size):
        if step[u64(p)]:
            least = min(least, np.int64(step[u64(p)]))
        else:
            level[u64(p)] = -1
    return level, least


@njit(nogil=True, cache=True)
def _enter(i, sources, level, owner, cap, now, shift, batch, n):
    """Let a pixel take what a source offers; return how many there are in the batch."""
    p, at, mine = sources[0][i], sources[1][i], sources[2][i]
    old = level[p]
    if at > cap or at > old or (at == old and mine >= owner[p]):
        return n
    level[p], owner[p] = at, mine
    if old >> shift == now:
        return n
    batch[n] = p
    return n + 1


@njit(nogil=True, cache=True)
def _pass_on(batch, n, now, shift, least, ground, level, owner, lists):
    """Let the pixels of a slice offer their neighbours to be reached by way of them."""
    near, width, step, colours, means, cap = ground
    first, filled, held, after, state = lists
    for i in range(n):
        p = np.int64(batch[u64(i)])
        here, mine = level[u64(p)], owner[u64(p)]
        if here >> shift != now:
            continue
        for k in range(4):
            if near.shape[0]:
                q = near[p, k]
                if q == NOBODY:
                    continue
            else:
                q = p + (-width if k == 0 else -1 if k == 1 else 1 if k == 2 else width)
            old = level[u64(q)]
            if here + least > old:
                continue
            at = here + cost(q, mine, step, colours, means)
            if at > cap or at > old or (at == old and mine >= owner[u64(q)]):
                continue
            level[u64(q)], owner[u64(q)] = at, mine
            if at >> shift != old >> shift:
                _put(q, at >> shift, first, filled, held, after, state)


@njit(nogil=True, cache=True, forceinline=True)
def cost(p, owner, step, colours, means):
    """Return what it costs label `owner` to enter pixel p."""
    square = np.int64(0)
    for c in range(means.shape[1]):
        d = np.int64(colours[u64(p), u64(c)]) - np.int64(means[u64(owner - 1), u64(c)])
        square += d * d
    return min(np.int64(step[u64(p)]) + (square >> SHIFT), LEVELS - 1)


@njit(nogil=True, cache=True)
def _lists(size, count):
    """Return empty lists: of each, first chunk and its pixels; of each chunk, pixels and next."""
    chunks = 4 * size // CHUNK + count + 1
    state = np.zeros(3, np.int64)
    state[FREE] = NOBODY
    first, filled = np.full(count, NOBODY, np.int32), np.full(count, CHUNK, np.int32)
    return first, filled, np.empty((chunks, CHUNK), np.int32), np.empty(chunks, np.int32), state


@njit(nogil=True, cache=True, forceinline=True)
def _put(p, number, first, filled, held, after, state):
    """Put a pixel into the list of a slice."""
    slot = u64(number & (first.size - 1))
    if filled[slot] == CHUNK:
        chunk = state[FREE]
        if chunk == NOBODY:
            chunk = state[USED]
            state[USED] += 1
        else:
            state[FREE] = after[chunk]
        after[chunk] = first[slot]
        first[slot] = chunk
        filled[slot] = 0
    held[u64(first[slot]), u64(filled[slot])] = p
    filled[slot] += 1
    state[WAITING] += 1


@njit(nogil=True, cache=True)
def _take(number, lists, batch):
    """Move the pixels of a slice into the batch; return how many they are."""
    first, filled, held, after, state = lists
    slot = number & (first.size - 1)
    chunk, count, n = np.int64(first[slot]), filled[slot], 0
    while chunk != NOBODY:
        for i in range(count):
            batch[n] = held[chunk, i]
            n += 1
        count = CHUNK
        onward = np.int64(after[chunk])
        after[chunk] = state[FREE]
        state[FREE] = chunk
        chunk = onward
    first[slot] = NOBODY
    filled[slot] = CHUNK
    state[WAITING] -= n
    return n


@njit(nogil=True, cache=True)
def _sort(batch, ordered, n, counts, size):
    """Sort the first n of a batch by where in memory they are, roughly, in linear time."""
    bits = 0
    while size >> bits >= BANDS:
        bits += 1
    counts[:] = 0
    for i in range(n):
        counts[u64((batch[u64(i)] >> bits) + 1)] += 1
    for band in range(BANDS):
        counts[band + 1] += counts[band]
    for i in range(n):
        p = batch[u64(i)]
        ordered[u64(counts[u64(p >> bits)])] = p
        counts[u64(p >> bits)] += 1
