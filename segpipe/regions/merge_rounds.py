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

from segpipe.regions.round_kernels import FREE, NOBODY, run_rounds


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
    nodes = run_rounds(ids, sums, moves, target, tainted, edges, n, min_size)
    merged = Merged(ids[:nodes], sums[:nodes], moves[:nodes], target[:nodes], tainted[:n])
    merged.left[:] = tainted[merged.ends()[:n]]
    return merged
