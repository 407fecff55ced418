"""Small components join a neighbour, in synchronous rounds: no order of work, bounded reach.

Components of at least `min_size` pixels are *settled*; the others are *orphans*. In every round
each orphan that touches a settled component, or an orphan that joined one in an earlier round,
joins the one whose seed is closest in colour (ties: the one whose root pixel comes first). All
orphans of a round decide on the state before it. What is left after `ROUNDS` rounds is left to
`leftovers`.

Reach. Let every component lie in a box of B x B pixels (SLIC: B = 2 step), beyond which its code
cannot go on. A pixel's component (size, root) follows from the codes at most B - 1 pixels away.
Whom an orphan joins in round r follows from its neighbours' states after round r - 1; a neighbour
begins one pixel beyond the orphan, at most B away, and ends at most B - 1 farther. By induction
a pixel's owner after r rounds, root included, follows from the codes at most (r + 1) B - 1 away.

Certificate. A component is *tainted* when a side of the window that is not the image's border
cuts it, and an orphan when it looks, before it has joined, at a tainted component. Pixels of
components that are not tainted are proven, however small the window.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

ROUNDS = 4
"""Few orphans are left after 4 rounds (none on most photographs); each costs 2 steps of reach."""

NOBODY = -1
NO_CODE = 255

u64 = np.uint64


def absorb(
    codes: np.ndarray,
    runs: tuple[np.ndarray, np.ndarray, np.ndarray],
    seed_of_root: np.ndarray,
    colours: np.ndarray,
    min_size: int,
    open_sides: tuple[bool, bool, bool, bool],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decide the owner of every component.

    Parameters
    ----------
    codes
        (h, w) uint8, 255 where there is no pixel.
    runs
        (starts, rows, root) of `components.components`.
    seed_of_root
        int32[runs]: row of `colours` for each run that is a root (others: anything).
    colours
        int32[seeds, C].
    min_size
        Pixels from which on a component is settled.
    open_sides
        (top, bottom, left, right): True where the image goes on beyond the window.

    Returns
    -------
    owner
        int32[runs]: the root run of the settled component that the run belongs to; -1: no pixel.
    tainted
        bool[runs]: the owner is not proven by this window.
    left
        int32[k]: root runs of the orphans that joined nobody, ascending.
    """
    starts, rows, root = runs
    size = _sizes(starts, root)
    tainted = np.zeros(root.size, bool)
    if any(open_sides):
        _cut(codes, starts, rows, root, open_sides, tainted)
    orphans, number = _number_orphans(codes, starts, root, size, min_size)
    state = root.copy()
    state[orphans] = NOBODY
    pairs = _neighbours(codes, starts, rows, root, number)
    for _ in range(ROUNDS):
        if not _round(pairs, orphans, state, seed_of_root, colours, tainted):
            break
    left = orphans[state[orphans] == NOBODY]
    return _owners(codes, starts, root, state), tainted[root], left


@njit(nogil=True, cache=True)
def _sizes(starts, root):
    """Return the number of pixels of each component, at its root run."""
    size = np.zeros(root.size, np.int32)
    for run in range(root.size):
        size[u64(root[u64(run)])] += starts[u64(run + 1)] - starts[u64(run)]
    return size


@njit(nogil=True, cache=True)
def _cut(codes, starts, rows, root, open_sides, tainted):
    """Mark the roots of the components that touch an open side of the window."""
    top, bottom, left, right = open_sides
    height, width = codes.shape
    for y in range(height):
        whole = (top and y == 0) or (bottom and y == height - 1)
        for run in range(rows[y], rows[y + 1]):
            x = starts[run] - y * width
            end = starts[run + 1] - y * width
            if whole or (left and x == 0) or (right and end == width):
                tainted[root[run]] |= codes[y, x] != NO_CODE


@njit(nogil=True, cache=True)
def _number_orphans(codes, starts, root, size, min_size):
    """Return the orphans' root runs, and for every run its orphan's number or -1."""
    flat = codes.reshape(-1)
    orphans = np.empty(root.size, np.int32)
    number = np.full(root.size, -1, np.int32)
    count = 0
    for run in range(root.size):
        r = u64(root[u64(run)])
        if size[r] < min_size and flat[u64(starts[r])] != NO_CODE:
            if r == u64(run):
                orphans[count] = run
                number[u64(run)] = count
                count += 1
            else:
                number[u64(run)] = number[r]
    return orphans[:count].copy(), number


@njit(nogil=True, cache=True)
def _neighbours(codes, starts, rows, root, number):
    """Return int32[pairs, 2]: (orphan number, root run of a neighbour), with repetitions."""
    flat = codes.reshape(-1)
    w = codes.shape[1]
    limit = 0  # a run of n pixels has at most 2 n + 2 neighbours; pages never written cost nothing
    for run in range(root.size):
        if number[u64(run)] >= 0:
            limit += 2 + 2 * (starts[u64(run + 1)] - starts[u64(run)])
    pairs = np.empty((limit, 2), np.int32)
    m = 0
    for y in range(rows.size - 1):
        for run in range(rows[y], rows[y + 1]):
            if number[u64(run)] < 0:
                continue
            if run > rows[y]:
                m += _pair(flat, starts, root, number, run, run - 1, pairs, m)
            if run + 1 < rows[y + 1]:
                m += _pair(flat, starts, root, number, run, run + 1, pairs, m)
            for side in (-1, 1):
                if 0 <= y + side < rows.size - 1:
                    end = starts[run + 1] + side * w
                    high = rows[y + side + 1]
                    other = run_at(starts, rows[y + side], high, starts[run] + side * w)
                    while other < high and starts[other] < end:
                        m += _pair(flat, starts, root, number, run, other, pairs, m)
                        other += 1
    return pairs[:m]


@njit(nogil=True, cache=True, forceinline=True)
def _pair(flat, starts, root, number, run, other, pairs, m):
    """Write pair m if `other` belongs to another component that takes part; return 1 if so."""
    if root[u64(other)] == root[u64(run)] or flat[u64(starts[u64(other)])] == NO_CODE:
        return 0
    pairs[u64(m), u64(0)] = number[u64(run)]
    pairs[u64(m), u64(1)] = root[u64(other)]
    return 1


@njit(nogil=True, cache=True)
def run_at(starts, low, high, pixel):
    """Return the run among low .. high - 1 that contains the pixel."""
    while high - low > 1:
        middle = (low + high) >> 1
        if starts[u64(middle)] <= pixel:
            low = middle
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def _round(pairs, orphans, state, seed_of_root, colours, tainted):
    """Let every orphan that can join do so, all on the state before; tell if anything changed.

    The key (squared colour distance, root run) is one int64; run order is raster order.
    """
    none = np.int64(2**62)
    best = np.full(orphans.size, none)
    doubt = np.zeros(orphans.size, np.bool_)
    for p in range(pairs.shape[0]):
        orphan = orphans[pairs[p, 0]]
        if state[orphan] != NOBODY:
            continue
        doubt[pairs[p, 0]] |= tainted[pairs[p, 1]]
        target = state[pairs[p, 1]]
        if target != NOBODY:
            distance = np.int64(0)
            for c in range(colours.shape[1]):
                d = colours[seed_of_root[orphan], c] - colours[seed_of_root[target], c]
                distance += d * d
            best[pairs[p, 0]] = min(best[pairs[p, 0]], distance << 31 | target)
    changed = False
    for k in range(orphans.size):
        if doubt[k] and not tainted[orphans[k]]:
            tainted[orphans[k]] = True
            changed = True
        if best[k] != none:
            state[orphans[k]] = best[k] & 0x7FFFFFFF
            changed = True
    return changed


@njit(nogil=True, cache=True)
def _owners(codes, starts, root, state):
    """Return the owner of every run; orphans that joined nobody own themselves."""
    flat = codes.reshape(-1)
    owner = np.empty(root.size, np.int32)
    for run in range(root.size):
        r = root[u64(run)]
        joined = state[u64(r)]
        owner[run] = r if joined == NOBODY else joined
        if flat[u64(starts[u64(run)])] == NO_CODE:
            owner[run] = NOBODY
    return owner
