"""Felzenszwalb-Huttenlocher by deferring: what a tile can decide, and what is left for all tiles.

Edges join 8-neighbours and are strictly ordered by (weight, earlier pixel, direction). First sweep:
an edge unites two components if both accept it; component C accepts weight w if (w - inner(C)) |C|
<= k, inner being the largest weight inside. Second sweep, in the same order: it unites two if
either has less than `min_size` pixels. All are integers.

A component that does not accept an edge accepts no later one (it stays as it is while w grows): it
is *finished*. An edge across a seam that a component accepts may unite it with something outside:
the component is *open* and frozen. An edge between an open component and one that accepts it makes
the other open as well and is deferred; one between two open ones is deferred, the first for each
pair. All else is decided. So what travels is a small graph of frozen components, on which the
same sweep goes on where it was left.

In the second sweep a component of `min_size` and more can only gain, whatever happens outside, so
it takes in small ones at once and two such ignore each other. A small one that is open, from the
first sweep or since an edge across a seam or to another small open one, is frozen, and its edges
are deferred. A large open one may so hold pixels of finished ones; an edge across a seam from there
is refused in the first sweep, and therefore pixels at seams tell themselves if they are open.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

from segpipe.methods.felzenszwalb_edges import BEYOND, CORE, DIRECTIONS, NO_EDGE, sort, weigh

i64 = np.int64
u64 = np.uint64


def merge(
    planes: np.ndarray, kind: np.ndarray, k: int, min_size: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], list[np.ndarray]]:
    """Decide in a tile what is certain there.

    Parameters
    ----------
    planes
        (C, rows + 2, columns + 2) int16, the core and one pixel round it.
    kind
        uint8 (rows + 2, columns + 2): `NOTHING`, `CORE` or `BEYOND`.
    k
        Threshold, in units of the weights times pixels.
    min_size
        Pixels from which on a component may stay.

    Returns
    -------
    parts
        uint32 (rows, columns): 1..n by first pixel; 0 = no pixel.
    rim_open
        bool (rows, columns), of the outermost pixels: the first sweep left them in an open one.
    states
        ``size`` and ``inner``, int64[n + 1]: what the first sweep left of parts that are open in
        it; of others, the size after the second.
    edges
        The deferred edges of the first and of the second sweep, int64[m, 4]: two parts, weight,
        and 4 pixel + direction (pixel = index in `kind`); and the edges across seams to later
        pixels: part, pixel there, weight, 4 pixel + direction.
    """
    width = kind.shape[1]
    kinds = kind.reshape(-1)
    weights = np.full((kind.size, DIRECTIONS), NO_EDGE, np.uint32)
    weigh(planes, kind, weights)
    order = sort(weights)
    parent = np.arange(kind.size, dtype=np.int32)
    size = np.ones(kind.size, np.int32)
    inner = np.zeros(kind.size, np.uint32)
    is_open = np.zeros(kind.size, np.bool_)
    frozen = (kinds, width, weights.reshape(-1))
    kept, deferred = _first_sweep(order, frozen, parent, size, inner, is_open, k)
    rest = order[:kept]
    found = [rest[deferred], rest[:0]]
    rim_open = _open_at_rim(kind, parent, is_open)
    own = size.copy() if min_size > 1 else size
    if min_size > 1:
        found[1] = rest[_second_sweep(rest, frozen, parent, size, is_open, min_size)]
    parts, number, roots = _paint(kinds, parent, kind.shape)
    states = {
        "size": np.where(is_open[roots], own[roots], size[roots]).astype(np.int64),
        "inner": inner[roots].astype(np.int64),
    }
    edges = [_named(e, width, weights, parent, number) for e in found]
    return parts, rim_open, states, [*edges, _crossings(kind, weights, parts)]


def _crossings(kind: np.ndarray, weights: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return (part, pixel there, weight, edge) of the edges to later pixels of other tiles."""
    width = kind.shape[1]
    side = np.zeros(parts.shape, bool)
    side[[0, -1]] = True
    side[:, [0, -1]] = True
    y, x = np.nonzero(side & (parts > 0))
    p = ((y + 1) * width + x + 1)[:, None]
    q = p + np.array([1, width - 1, width, width + 1])
    pixel, direction = np.nonzero(kind.reshape(-1)[q] == BEYOND)
    here, there = p[pixel, 0], q[pixel, direction]
    part, weight = parts[y[pixel], x[pixel]], weights[here, direction]
    return np.stack([part, there, weight, DIRECTIONS * here + direction], axis=1).astype(np.int64)


def _named(
    edges: np.ndarray, width: int, weights: np.ndarray, parent: np.ndarray, number: np.ndarray
) -> np.ndarray:
    """Return (part, part, weight, edge) of the first edge of each pair; edges ascend."""
    p = (edges >> 2).astype(np.int64)
    q = p + np.array([1, width - 1, width, width + 1])[edges & 3]
    a, b = number[parent[p]].astype(np.int64), number[parent[q]].astype(np.int64)
    low, high = np.minimum(a, b), np.maximum(a, b)
    first = np.unique(low << 32 | high, return_index=True)[1]
    weight = weights.reshape(-1)[edges].astype(np.int64)
    return np.stack([low, high, weight, edges.astype(np.int64)], axis=1)[first]


@njit(nogil=True, cache=True, forceinline=True)
def _find(parent, a):
    while parent[u64(a)] != a:
        parent[u64(a)] = parent[u64(parent[u64(a)])]
        a = parent[u64(a)]
    return i64(a)


@njit(nogil=True, cache=True, forceinline=True)
def _ends(e, width):
    p = i64(e >> np.uint32(2))
    direction = i64(e & np.uint32(3))
    return p, p + (1 if direction == 0 else width + direction - 2)


@njit(nogil=True, cache=True)
def _first_sweep(order, frozen, parent, size, inner, is_open, k):
    """Unite; keep, at the front of `order`, the edges between two, and tell which are deferred."""
    kind, width, weights = frozen
    deferred = np.empty(order.size, np.bool_)
    kept = 0
    for i in range(order.size):
        e = order[u64(i)]
        p, q = _ends(e, width)
        w = i64(weights[u64(e)])
        if kind[u64(p)] != CORE or kind[u64(q)] != CORE:
            a = _find(parent, p if kind[u64(p)] == CORE else q)
            is_open[u64(a)] |= (w - inner[u64(a)]) * size[u64(a)] <= k
            order[u64(kept)] = e
            deferred[u64(kept)] = False
            kept += 1
            continue
        a = _find(parent, p)
        b = _find(parent, q)
        if a == b:
            continue
        accepted = is_open[u64(a)] or (w - inner[u64(a)]) * size[u64(a)] <= k
        accepted &= is_open[u64(b)] or (w - inner[u64(b)]) * size[u64(b)] <= k
        if accepted and not (is_open[u64(a)] or is_open[u64(b)]):
            if size[u64(a)] < size[u64(b)]:
                a, b = b, a
            parent[u64(b)] = a
            size[u64(a)] += size[u64(b)]
            inner[u64(a)] = w
            continue
        if accepted:
            is_open[u64(a)] = True
            is_open[u64(b)] = True
        order[u64(kept)] = e
        deferred[u64(kept)] = accepted
        kept += 1
    return kept, deferred[:kept].copy()


@njit(nogil=True, cache=True)
def _open_at_rim(kind, parent, is_open):
    """Tell which of the core's outermost pixels lie in an open component."""
    height, width = kind.shape
    out = np.zeros((height - 2, width - 2), np.bool_)
    for y in range(1, height - 1):
        across = 1 if y == 1 or y == height - 2 else max(width - 3, 1)
        for x in range(1, width - 1, across):
            if kind[y, x] == CORE:
                out[y - 1, x - 1] = is_open[_find(parent, y * width + x)]
    return out


@njit(nogil=True, cache=True)
def _second_sweep(order, frozen, parent, size, is_open, min_size):
    """Unite small components; tell which edges are deferred. The larger one stays the root."""
    kind, width, _ = frozen
    waiting = is_open.copy()
    deferred = np.zeros(order.size, np.bool_)
    for i in range(order.size):
        p, q = _ends(order[u64(i)], width)
        if kind[u64(p)] != CORE or kind[u64(q)] != CORE:
            a = _find(parent, p if kind[u64(p)] == CORE else q)
            waiting[u64(a)] |= size[u64(a)] < min_size
            continue
        a = _find(parent, p)
        b = _find(parent, q)
        small_a = size[u64(a)] < min_size
        small_b = size[u64(b)] < min_size
        if a == b or not (small_a or small_b):
            continue
        if (small_a and waiting[u64(a)]) or (small_b and waiting[u64(b)]):
            waiting[u64(a)] |= small_a
            waiting[u64(b)] |= small_b
            deferred[u64(i)] = True
            continue
        if size[u64(a)] < size[u64(b)]:
            a, b = b, a
        parent[u64(b)] = a
        size[u64(a)] += size[u64(b)]
    return deferred


@njit(nogil=True, cache=True)
def _paint(kind, parent, shape):
    """Give components 1, 2, … by first pixel; return also each root's number, and the roots."""
    height, width = shape
    number = np.zeros(parent.size, np.uint32)
    out = np.zeros((height - 2, width - 2), np.uint32)
    roots = np.zeros(parent.size + 1, np.int32)
    count = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            p = y * width + x
            if kind[u64(p)] != CORE:
                continue
            root = _find(parent, p)
            parent[u64(p)] = root
            if number[u64(root)] == 0:
                count += 1
                number[u64(root)] = count
                roots[count] = root
            out[u64(y - 1), u64(x - 1)] = number[u64(root)]
    return out, number, roots[: count + 1].copy()


@njit(nogil=True, cache=True)
def sweep_graph(parent, size, inner, edges, weights, k):
    """Go on with the first sweep: all edges of all tiles that are open at both ends, ascending."""
    for i in range(len(edges)):
        a = _find(parent, edges[i, 0])
        b = _find(parent, edges[i, 1])
        w = weights[i]
        if a == b or (w - inner[a]) * size[a] > k or (w - inner[b]) * size[b] > k:
            continue
        parent[b] = a
        size[a] += size[b]
        inner[a] = w


@njit(nogil=True, cache=True)
def sweep_small(parent, size, edges, min_size):
    """Go on with the second sweep; return each vertex's root."""
    for i in range(len(edges)):
        a = _find(parent, edges[i, 0])
        b = _find(parent, edges[i, 1])
        if a != b and (size[a] < min_size or size[b] < min_size):
            parent[b] = a
            size[a] += size[b]
    for a in range(parent.size):
        parent[a] = _find(parent, a)
    return parent
