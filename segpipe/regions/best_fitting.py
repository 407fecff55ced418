"""Merging in rounds of local mutual best fitting, on the region graph of a whole image.

In every round each region picks the neighbour whose union with it costs least; pairs that pick each
other, and cost less than a limit, become one, all at once. Of equal costs the interface with the
smaller mark goes first; marks are scattered, so that flat ground takes few rounds. Costs:

``baatz``
    growth of heterogeneity after Baatz and Schäpe, "Multiresolution segmentation: an optimization
    approach for high quality multi-scale image segmentation", AGIT XII, 2000: of the deviations of
    the colours, times pixels, and of shape: compactness (border over root of area) and smoothness
    (border over that of the box).
``ward``
    growth of the sum of squared deviations (Ward, "Hierarchical grouping to optimize an objective
    function", JASA 58(301), 1963, 10.1080/01621459.1963.10500845).

Unlike mean contrasts (`segpipe.regions.agglomerate`) these costs are not reducible: a union may
come closer to a third region than its parts were. So the rounds need the graph of the whole image.
All of it is integers, roots and single operations in a fixed order: the same on every machine.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

from segpipe.regions.agglomerate import contract
from segpipe.regions.region_graph import UNIT, RegionGraph

BAATZ, WARD = 0, 1
u64 = np.uint64


def merge(
    graph: RegionGraph, rule: int, limit: float, shape: float, compactness: float, rounds: int
) -> np.ndarray:
    """Merge regions.

    Parameters
    ----------
    graph
        The regions.
    rule
        `BAATZ` or `WARD`.
    limit
        Costs of a union stay below this, in Lab units times pixels (baatz) or their squares (ward).
    shape, compactness
        Weights, 0 to 1, of shape against colour, and of compactness against smoothness (baatz).
    rounds
        Rounds at most; 0: until no pair is left.

    Returns
    -------
    int64[n], the smallest region of the union that each belongs to.
    """
    n = len(graph.labels)
    border = graph.outer.copy()
    np.add.at(border, graph.edges.ends.ravel(), np.repeat(graph.edges.length, 2))
    state = (graph.area.copy(), graph.sums.copy(), graph.squares.copy(), border, graph.box.copy())
    weights = (rule, shape, compactness)
    root, edges, turn = np.arange(n), graph.edges, 0
    while len(edges.ends) and (turn < rounds or rounds == 0):
        moved = np.arange(n)
        if not _round(edges.ends, edges.length, edges.last, state, weights, limit, moved):
            break
        root, edges, turn = moved[root], contract(edges, moved), turn + 1
    return root


@njit(nogil=True, cache=True)
def _round(ends, length, last, state, weights, limit, moved):
    """Unite the pairs that are each other's best; return how many."""
    area, sums, squares, border, box = state
    best = np.full(area.size, -1, np.int64)
    cost = np.empty(length.size, np.float64)
    for e in range(length.size):
        cost[e] = _cost(ends[e, 0], ends[e, 1], length[e], state, weights)
        if cost[e] >= limit:
            continue
        for side in range(2):
            old = best[ends[e, side]]
            if (
                old < 0
                or cost[e] < cost[old]
                or (cost[e] == cost[old] and _scattered(last[e]) < _scattered(last[old]))
            ):
                best[ends[e, side]] = e
    united = 0
    for e in range(length.size):
        a, b = ends[e, 0], ends[e, 1]
        if best[a] != e or best[b] != e:
            continue
        moved[b] = a
        united += 1
        area[a] += area[b]
        sums[a] += sums[b]
        squares[a] += squares[b]
        border[a] += border[b] - 2 * length[e]
        for side in range(0, 4, 2):
            box[a, side] = min(box[a, side], box[b, side])
            box[a, side + 1] = max(box[a, side + 1], box[b, side + 1])
    return united


@njit(nogil=True, cache=True, forceinline=True)
def _scattered(index):
    """Return a number that no other index gives (the end of splitmix64)."""
    z = u64(index)
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    return z ^ (z >> u64(31))


@njit(nogil=True, cache=True)
def _cost(a, b, length, state, weights):
    """Return the cost of a union."""
    area, sums, squares, border, box = state
    rule, shape, compactness = weights
    na, nb = float(area[a]), float(area[b])
    n = na + nb
    colour = 0.0
    for c in range(sums.shape[1]):
        if rule == WARD:
            d = (sums[a, c] / na - sums[b, c] / nb) / UNIT
            colour += d * d
        else:
            both = _deviation(n, sums[a, c] + sums[b, c], squares[a, c] + squares[b, c])
            colour += n * both - na * _deviation(na, sums[a, c], squares[a, c])
            colour -= nb * _deviation(nb, sums[b, c], squares[b, c])
    if rule == WARD:
        return na * nb / n * colour
    if shape == 0.0:
        return colour
    la, lb = float(border[a]), float(border[b])
    l = la + lb - 2.0 * length  # noqa: E741
    compact = l * np.sqrt(n) - la * np.sqrt(na) - lb * np.sqrt(nb)
    rows = max(box[a, 1], box[b, 1]) - min(box[a, 0], box[b, 0]) + 1
    columns = max(box[a, 3], box[b, 3]) - min(box[a, 2], box[b, 2]) + 1
    smooth = n * l / (2.0 * (rows + columns))
    smooth -= na * la / (2.0 * (box[a, 1] - box[a, 0] + box[a, 3] - box[a, 2] + 2))
    smooth -= nb * lb / (2.0 * (box[b, 1] - box[b, 0] + box[b, 3] - box[b, 2] + 2))
    return (1.0 - shape) * colour + shape * (compactness * compact + (1.0 - compactness) * smooth)


@njit(nogil=True, cache=True, forceinline=True)
def _deviation(n, total, squares):
    """Return the standard deviation in Lab units."""
    mean = total / n
    return np.sqrt(max(0.0, squares / n - mean * mean)) / UNIT
