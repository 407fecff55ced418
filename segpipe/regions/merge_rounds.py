"""Merging of small regions in rounds, on a graph: what a round does, and what it leaves open.

Rules. A region of at least `min_size` pixels is *settled*. In every round each small region that
has neighbours picks the one whose mean differs least (squared distance, in 1/8; ties: smaller id),
all on the state before the round. All picks are united. Those that reach a settled region join it;
it keeps its id and the mean that it had when it settled. The others become one region: smallest id,
sizes and sums added, settled if it is large enough. Every small region that has neighbours at least
doubles or joins, so there are at most log2(min_size) + 1 rounds.

Open ends. In a tile, a small region at a seam is *open*: neighbours are missing, so its pick is not
known. It is *tainted*; a region that sees a tainted one when it picks is *deferred* (its pick is
not known) and tainted from then on; so is a small union that holds or touches a tainted or deferred
region, since that might join it. Nothing passes settled regions: what joins them changes neither
mean nor id. So by induction over the rounds the states of all other regions are those of the whole
image, and taint grows by one ring of small regions a round.

Replay. The regions that ended tainted (*left*) are given to whoever knows more, in their first
states, with their edges and, as *scripted* nodes, the neighbours that stayed untainted: a scripted
node moves to a given node after a given round and decides nothing. The rounds on this graph repeat
those of the image: a left region sees in every round the same neighbours in the same states; and it
can join a scripted one only as that moves to a settled one in the same round, for otherwise the
latter had been touched by a tainted or deferred region and tainted.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Graph:
    """Regions and who touches whom; rows of all arrays but `edges` are nodes."""

    ids: np.ndarray
    """int64[n]."""
    sums: np.ndarray
    """int64[n, 1 + C]: pixels, sums of the values."""
    moves: np.ndarray
    """int32[n]: FREE, NEVER, or the round after which a scripted node has moved."""
    target: np.ndarray
    """int32[n]: whereto (NOBODY)."""
    edges: np.ndarray
    """int32[m, 2], in any order, repeated or not."""
    open: np.ndarray
    """bool[n]: neighbours may be missing."""


@dataclass(frozen=True)
class Merged:
    """The graph's regions and those that arose, who became part of whom, and after which round."""

    ids: np.ndarray
    sums: np.ndarray
    moves: np.ndarray
    target: np.ndarray
    left: np.ndarray
    """bool[n] of the graph's own regions: the end is not known."""

    def ends(self) -> np.ndarray:
        """Return int64[nodes], what each node became in the end."""
        return _ends(self.target)


@njit(nogil=True, cache=True)
def _ends(target):
    """Follow every node; a step leads to a region that arose a round later, or to a settled one."""
    end = np.empty(target.size, np.int64)
    for i in range(target.size):
        j = i
        while target[j] >= 0:
            j = target[j]
        end[i] = j
    return end


def free(ids: np.ndarray, sums: np.ndarray, edges: np.ndarray, open_: np.ndarray) -> Graph:
    """Return a graph of regions that all decide for themselves.

    >>> sums = np.array([[60, 600], [5, 45], [70, 0]])
    >>> line = free(np.array([4, 9, 7]), sums, np.array([[0, 1], [1, 2]]), np.zeros(3, bool))
    >>> merge(line, 50).ends().tolist()
    [0, 0, 2]
    """
    n = len(ids)
    moves, target = np.full(n, FREE, np.int32), np.full(n, NOBODY, np.int32)
    return Graph(ids, sums, moves, target, edges.astype(np.int32), open_)


def merge(graph: Graph, min_size: int) -> Merged:
    """Run the rounds.

    Parameters
    ----------
    graph
        Ids of free nodes are unique.
    min_size
        Pixels from which on a region is settled.

    Notes
    -----
    *Tiling*: see above. Cost: some 20 ns per edge and round.
    """
    n, width = graph.sums.shape
    ids, sums = np.zeros(2 * n, np.int64), np.zeros((2 * n, width), np.int64)
    ids[:n], sums[:n] = graph.ids, graph.sums
    moves, target = np.zeros(2 * n, np.int32), np.full(2 * n, NOBODY, np.int32)
    moves[:n], target[:n] = graph.moves, graph.target
    tainted = np.zeros(2 * n, bool)
    tainted[:n] = graph.open & (graph.sums[:, 0] < min_size) & (graph.moves == FREE)
    edges = np.ascontiguousarray(graph.edges, np.int32).copy()
    nodes = _run(ids, sums, moves, target, tainted, edges, n, min_size)
    merged = Merged(ids[:nodes], sums[:nodes], moves[:nodes], target[:nodes], tainted[:n])
    merged.left[:] = tainted[merged.ends()[:n]]
    return merged


@njit(nogil=True, cache=True)
def _run(ids, sums, moves, target, tainted, edges, nodes, min_size):
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
    pick = np.full(n, NOBODY, np.int32)
    gap = np.full(n, ENDLESS, np.int64)
    deferred = np.zeros(n, np.bool_)
    touched = np.zeros(n, np.bool_)
    groups = np.arange(n).astype(np.int32), np.full(n, NOBODY, np.int32), np.zeros(n, np.bool_)
    seen = np.zeros(n, np.int32)
    given = nodes
    doubt = tainted.any()  # it comes from nothing else
    state = (ids, means, small, tainted, scripted)
    m = len(edges)
    turn = 0
    while True:
        turn += 1
        m = _shorten(edges, m, target, small)
        busy = _pick(edges, m, state, pick, gap, deferred)
        if not busy:
            break
        if doubt:
            _touch(edges, m, small, tainted, deferred, touched)
        for i in range(given):
            if scripted[i] and script[i] == turn:
                pick[i] = goal[i]
                seen[i] = seen[goal[i]] = turn
        active = _active(edges, m, seen, turn, nodes)
        nodes = _unite(
            ids,
            sums,
            means,
            small,
            tainted,
            scripted,
            pick,
            gap,
            deferred,
            touched,
            groups,
            active,
            moves,
            target,
            nodes,
            turn,
            min_size,
        )
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
def _pick(edges, m, state, pick, gap, deferred):
    """Let every small region pick, or defer it; tell if anybody did either."""
    ids, means, small, tainted, scripted = state
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
def _touch(edges, m, small, tainted, deferred, touched):
    """Mark what a region whose pick is not known might join."""
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
def _unite(
    ids,
    sums,
    means,
    small,
    tainted,
    scripted,
    pick,
    gap,
    deferred,
    touched,
    groups,
    active,
    moves,
    target,
    nodes,
    turn,
    min_size,
):
    """Unite the picks of a round among the `active` nodes; return the number of nodes."""
    heap, head, member = groups
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
    for i in active:
        heap[i] = i
        head[i] = NOBODY
        member[i] = False
        pick[i] = NOBODY
        gap[i] = ENDLESS
        deferred[i] = False
        touched[i] = False
    return nodes
