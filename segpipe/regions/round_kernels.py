"""The rounds of `segpipe.regions.merge_rounds`: who picks whom, and what becomes of the picks."""

# mypy: allow-untyped-defs, allow-untyped-calls

from typing import NamedTuple

import numpy as np
from numba import njit

MEAN_UNIT = 8
"""Steps per unit of a mean that is compared."""
NEVER = 0
"""Round of a scripted node that stays."""
FREE = -1
"""Round of a node that decides for itself."""
NOBODY = -1
ENDLESS = np.iinfo(np.int64).max
u64 = np.uint64  # unsigned indices need no test for negative ones


class _Regions(NamedTuple):
    """What is known of the regions, those that arise included; rows are nodes."""

    ids: np.ndarray
    sums: np.ndarray
    means: np.ndarray
    small: np.ndarray
    tainted: np.ndarray
    scripted: np.ndarray
    moves: np.ndarray
    target: np.ndarray


class _Choices(NamedTuple):
    """What a round finds out of every node; cleared when it ends."""

    pick: np.ndarray
    gap: np.ndarray
    """Squared distance to the pick."""
    deferred: np.ndarray
    touched: np.ndarray


class _Unions(NamedTuple):
    """Union-find over the picks of a round; cleared when it ends."""

    heap: np.ndarray
    head: np.ndarray
    """At a root: the node that its group becomes."""
    member: np.ndarray
    """bool: part of a group of several, or deferred."""


@njit(nogil=True, cache=True)
def run_rounds(ids, sums, moves, target, tainted, edges, nodes, min_size):
    """Run rounds until nobody picks; return the number of nodes."""
    n = 2 * nodes
    means = np.zeros((n, sums.shape[1] - 1), np.int64)
    for i in range(nodes):
        _mean(sums, means, i)
    small = np.zeros(n, np.bool_)
    small[:nodes] = sums[:nodes, 0] < min_size
    scripted = np.zeros(n, np.bool_)
    scripted[:nodes] = moves[:nodes] != FREE
    script = moves.copy()
    goal = target.copy()
    for i in range(n):
        target[i] = NOBODY
        moves[i] = NEVER
    regions = _Regions(ids, sums, means, small, tainted, scripted, moves, target)
    choices = _Choices(
        np.full(n, NOBODY, np.int32),
        np.full(n, ENDLESS, np.int64),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
    )
    unions = _Unions(
        np.arange(n).astype(np.int32), np.full(n, NOBODY, np.int32), np.zeros(n, np.bool_)
    )
    seen = np.zeros(n, np.int32)
    given = nodes
    doubt = tainted.any()  # it comes from nothing else
    m = len(edges)
    turn = 0
    while True:
        turn += 1
        m = _shorten(edges, m, target, small)
        if not _pick(edges, m, regions, choices):
            break
        if doubt:
            _touch(edges, m, regions, choices)
        for i in range(given):
            if scripted[i] and script[i] == turn:
                choices.pick[i] = goal[i]
                seen[i] = seen[goal[i]] = turn
        active = _active(edges, m, seen, turn, nodes)
        nodes = _unite(regions, choices, unions, active, nodes, turn, min_size)
    return nodes


@njit(nogil=True, cache=True)
def _active(edges, m, seen, turn, nodes):
    """Return the nodes, ascending, that have edges or were seen this turn: no other can change."""
    for e in range(m):
        seen[edges[e, 0]] = seen[edges[e, 1]] = turn
    active = np.empty(nodes, np.int32)
    count = 0
    for i in range(nodes):
        active[count] = i
        count += seen[i] == turn
    return active[:count]


@njit(nogil=True, cache=True)
def _mean(sums, means, i):
    for c in range(means.shape[1]):
        means[i, c] = (2 * MEAN_UNIT * sums[i, 1 + c] + sums[i, 0]) // (2 * sums[i, 0])


@njit(nogil=True, cache=True)
def _shorten(edges, m, target, small):
    """Let the edges follow their ends; keep those that a small region still needs."""
    kept = 0
    for e in range(m):
        a, b = edges[e, 0], edges[e, 1]
        a = target[a] if target[a] >= 0 else a
        b = target[b] if target[b] >= 0 else b
        edges[kept, 0], edges[kept, 1] = a, b
        kept += (a != b) & (small[a] | small[b])
    return kept


@njit(nogil=True, cache=True)
def _pick(edges, m, regions, choices):
    """Let every small region pick, or defer it; tell if anybody did either."""
    ids, _sums, means, small, tainted, scripted, _moves, _target = regions
    pick, gap, deferred, _touched = choices
    busy = False
    for e in range(m):
        d = np.int64(0)
        one, other = u64(edges[u64(e), u64(0)]), u64(edges[u64(e), u64(1)])
        for c in range(means.shape[1]):
            apart = means[one, u64(c)] - means[other, u64(c)]
            d += apart * apart
        for a, b in ((one, other), (other, one)):
            picks = small[a] & (not tainted[a]) & (not scripted[a])
            busy |= picks
            deferred[a] |= picks & tainted[b]
            # without branches, which nobody could predict; who picked nobody has an endless gap
            old, least = pick[a], gap[a]
            first = ids[b] < ids[u64(max(old, 0))]
            better = picks & ((d < least) | ((d == least) & first))
            pick[a] = np.int32(b) if better else old
            gap[a] = d if better else least
    return busy


@njit(nogil=True, cache=True)
def _touch(edges, m, regions, choices):
    """Mark what a region whose pick is not known might join."""
    small, tainted = regions.small, regions.tainted
    deferred, touched = choices.deferred, choices.touched
    for e in range(m):
        for k in range(2):
            a = edges[e, k]
            touched[edges[e, 1 - k]] |= small[a] & (tainted[a] | deferred[a])


@njit(nogil=True, cache=True)
def _find(heap, i):
    while heap[i] != i:
        heap[i] = heap[heap[i]]
        i = heap[i]
    return i


@njit(nogil=True, cache=True)
def _unite(regions, choices, unions, active, nodes, turn, min_size):
    """Unite the picks of a round among the `active` nodes; return the number of nodes."""
    ids, sums, means, small, tainted, scripted, moves, target = regions
    pick, _gap, deferred, touched = choices
    heap, head, member = unions
    before = nodes
    for i in active:
        if deferred[i]:
            pick[i] = NOBODY
        if pick[i] != NOBODY:
            a, b = _find(heap, i), _find(heap, pick[i])
            heap[max(a, b)] = min(a, b)
    # whom a group joins: its member that neither picks nor is free; else a new node
    for i in active:
        member[i] = pick[i] != NOBODY or _find(heap, i) != i or deferred[i]
        if pick[i] != NOBODY:
            member[pick[i]] = True
    for i in active:
        if member[i] and pick[i] == NOBODY and (not small[i] or scripted[i]):
            head[_find(heap, i)] = i
    for i in active:
        if not member[i] or target[i] != NOBODY:
            continue
        r = _find(heap, i)
        if head[r] == NOBODY:
            head[r] = nodes
            ids[nodes] = ids[i]
            nodes += 1
        h = head[r]
        if h >= before:
            ids[h] = min(ids[h], ids[i])
            tainted[h] |= touched[i] | deferred[i]
            for k in range(sums.shape[1]):
                sums[h, k] += sums[i, k]
        if h != i:
            target[i] = h
            moves[i] = turn
    for h in range(before, nodes):
        _mean(sums, means, h)
        small[h] = tainted[h] or sums[h, 0] < min_size
    _clear(choices, unions, active)
    return nodes


@njit(nogil=True, cache=True)
def _clear(choices, unions, active):
    """Forget what a round found out."""
    for i in active:
        unions.heap[i] = i
        unions.head[i] = NOBODY
        unions.member[i] = False
        choices.pick[i] = NOBODY
        choices.gap[i] = ENDLESS
        choices.deferred[i] = False
        choices.touched[i] = False
