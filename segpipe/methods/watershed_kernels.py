"""Flooding as a minimum spanning forest: what a tile can decide, and what is left for all tiles.

Pixels are strictly ordered by (altitude, raster index), edges between 4-neighbours by (their higher
pixel, their lower pixel). Edges are looked at in ascending order; an edge at altitude `a` unites
the components of its ends unless both are *settled*: a component is settled at altitude `a` if it
holds a marker, or if its lowest pixel lies at least `h` below `a`. So of minima that meet, the
shallower is flooded if it is less than h deep, which leaves the minima of dynamics h and more; the
result is the minimum spanning forest rooted in them, or (h = 0) in the markers alone.

A tile knows the altitude of its core and of the pixels round it. A component is *open* once it was
met by an edge across a seam before it was settled: from then on it may have grown outside.

* An unsettled component that is not open is known as a whole, so the first edge that leaves it
  unites it with what is there, open or settled or not.
* Both ends settled: they are settled for all the image as well (its components only hold more
  pixels), so the edge does nothing.
* What is left, open against open or settled, is decided by all tiles together. Of these edges, one
  whose ends are joined by lighter ones does nothing: along such a chain either all are united, or
  some edge found both sides settled, and then all of the chain is. So a forest travels.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from numba import njit

NONE = np.uint32(0xFFFFFFFF)
"""Altitude where there is no pixel."""
OUTSIDE, CORE, MARKED = 0, 1, 2
"""Kinds of pixels: of no or another tile; of the core; of the core and a marker."""
SETTLED, NEVER = -(1 << 30), 1 << 30
"""Depths of markers, and of all else where only markers settle."""
SHIFT = np.uint64(48)
"""A pixel's key is its 32 bits of altitude, then its index; the leading 16 bits count for h."""

RECENT_BITS = 13
RECENT = 1 << RECENT_BITS
"""Pairs of basins remembered: more than a row of pixels meets."""

u64 = np.uint64
NOTHING = u64(0xFFFFFFFFFFFFFFFF)
LOW = u64(0xFFFFFFFF)


def flood(altitude: np.ndarray, kind: np.ndarray, h: int) -> tuple[np.ndarray, ...]:
    """Decide in a tile what is certain there.

    Parameters
    ----------
    altitude
        (rows + 2, columns + 2) uint32, the core and one pixel round it; `NONE` = no pixel.
    kind
        uint8 of the same shape: `OUTSIDE`, `CORE` or `MARKED`.
    h
        Depth in units of 2^16 from which on a minimum settles; 0: only markers do.

    Returns
    -------
    parts
        uint32 (rows, columns): 1..n by first pixel; 0 = no pixel.
    depth
        int32[n + 1], altitude (its leading 16 bits) of each part's lowest pixel, or `SETTLED`,
        or `NEVER`.
    open
        bool[n + 1]: parts that are open.
    edges
        int64[m, 4]: two parts, the edge's higher and lower pixel (index in `altitude`).
    """
    width = altitude.shape[1]
    flat, kinds = altitude.reshape(-1), kind.reshape(-1)
    basin, roots = _descend(flat, kinds, width)
    depth = (flat[roots] >> np.uint32(16)).astype(np.int32) if h else np.full(len(roots), NEVER)
    depth = np.where(kinds[roots] == MARKED, SETTLED, depth).astype(np.int32)
    keys, ends = _meetings(flat, basin, width)
    parent, is_open, edges = _unite(np.sort(keys), ends, depth, h or 1)
    parts, number = _paint(basin, parent, altitude.shape)
    first = np.flatnonzero(number)
    order = np.empty(len(first), np.int64)
    order[number[first] - 1] = first
    edges[:, :2] = number[edges[:, :2]]
    return parts, np.r_[0, depth[order]].astype(np.int32), np.r_[False, is_open[order]], edges


@njit(nogil=True, cache=True, forceinline=True)
def _key(altitude, p):
    return (u64(altitude[u64(p)]) << u64(32)) | u64(p)


@njit(nogil=True, cache=True)
def _descend(altitude, kind, width):
    """Let every pixel join its lowest neighbour: its lightest edge, if a neighbour is lower.

    Returns ``basin``, int32 per pixel: ~number in the core, 0 outside; and each basin's root.
    """
    basin = np.zeros(altitude.size, np.int32)
    count = 0
    for p in range(width, altitude.size - width):
        if kind[u64(p)] == OUTSIDE:
            continue
        best = _key(altitude, p)
        if kind[u64(p)] != MARKED:
            for q in (p - width, p - 1, p + 1, p + width):
                best = min(best, _key(altitude, q))
        q = best & LOW
        if kind[q] == OUTSIDE:  # open from the start
            q = u64(p)
        basin[u64(p)] = q
        count += q == u64(p)
    roots = np.empty(count, np.int64)
    count = 0
    for p in range(width, altitude.size - width):
        if basin[u64(p)] == p:
            roots[count] = p
            basin[u64(p)] = ~count
            count += 1
    for p in range(width, altitude.size - width):
        root = p
        while basin[u64(root)] > 0:
            root = basin[u64(root)]
        number = basin[u64(root)]
        q = p
        while basin[u64(q)] > 0:
            after = basin[u64(q)]
            basin[u64(q)] = number
            q = after
    return basin, roots


@njit(nogil=True, cache=True)
def _meetings(altitude, basin, width):
    """Find the edges between basins, or to other tiles; of each pair the lightest matters.

    Returns keys uint64[m], altitude and number of each edge, and ends int32[m, 4], numbered in
    ascending order of the pixels: the higher pixel's and the lower one's basin as in `_descend`,
    these pixels. A small table of the pairs met last spares most of the others.
    """
    keys = np.empty(2 * altitude.size, np.uint64)
    ends = np.empty((2 * altitude.size, 4), np.int32)
    pairs = np.zeros(RECENT, np.uint64)
    latest = np.zeros(RECENT, np.int64)
    count = 0
    for p in range(altitude.size):
        if altitude[u64(p)] == NONE:
            continue
        key = _key(altitude, p)
        mine = basin[u64(p)]
        found = False
        for step in (-width, -1, 1, width):
            q = p + step
            if 0 <= q < altitude.size and basin[u64(q)] != mine:
                found |= _key(altitude, q) < key
        last = u64(0)
        while found:
            lower = key
            for step in (-width, -1, 1, width):
                q = p + step
                if 0 <= q < altitude.size:
                    other = _key(altitude, q)
                    if last < other < lower:
                        lower = other
            if lower == key:
                break
            last = lower
            foot = lower & LOW
            theirs = basin[foot]
            if theirs == mine:
                continue
            pair = u64(~min(mine, theirs)) << u64(32) | u64(~max(mine, theirs) & 0xFFFFFFFF)
            place = (pair * u64(0x9E3779B97F4A7C15)) >> u64(64 - RECENT_BITS)
            if pairs[place] == pair:
                if keys[latest[place]] >> u64(32) <= key >> u64(32):
                    continue
                keys[latest[place]] = NOTHING
            pairs[place] = pair
            latest[place] = count
            keys[u64(count)] = key & ~LOW | u64(count)
            ends[u64(count), u64(0)] = mine
            ends[u64(count), u64(1)] = theirs
            ends[u64(count), u64(2)] = p
            ends[u64(count), u64(3)] = foot
            count += 1
    return keys[:count], ends[:count]


@njit(nogil=True, cache=True, forceinline=True)
def _find(parent, a):
    while parent[u64(a)] != a:
        parent[u64(a)] = parent[u64(parent[u64(a)])]
        a = parent[u64(a)]
    return a


@njit(nogil=True, cache=True, forceinline=True)
def _join(parent, depth, a, b):
    """Unite two roots under the smaller one, which gets the lower depth; return it."""
    low = min(a, b)
    high = max(a, b)
    parent[u64(high)] = low
    depth[u64(low)] = min(depth[u64(low)], depth[u64(high)])
    return low


@njit(nogil=True, cache=True)
def _unite(keys, ends, depth, h):
    """Go through the edges in ascending order; return parents, what is open, edges that travel."""
    parent = np.arange(depth.size).astype(np.int32)
    linked = parent.copy()  # united or joined by an edge that travels
    depth_linked = depth.copy()
    is_open = np.zeros(depth.size, np.bool_)
    edges = np.empty((depth.size, 4), np.int64)  # a forest
    count = 0
    for key in keys:
        if key == NOTHING:
            break
        edge = key & LOW
        at = np.int64(key >> SHIFT)
        mine = ends[edge, u64(0)]
        theirs = ends[edge, u64(1)]
        if mine == 0 or theirs == 0:
            a = _find(parent, ~min(mine, theirs))
            is_open[a] |= at - depth[a] < h
            continue
        a = _find(parent, ~mine)
        b = _find(parent, ~theirs)
        free_a = at - depth[u64(a)] < h
        free_b = at - depth[u64(b)] < h
        if a == b or not (free_a or free_b):
            continue
        la = _find(linked, a)
        lb = _find(linked, b)
        if (free_a and not is_open[a]) or (free_b and not is_open[b]):
            either = is_open[a] | is_open[b]
            is_open[_join(parent, depth, a, b)] = either
        elif la == lb or (at - depth_linked[la] >= h and at - depth_linked[lb] >= h):
            continue
        else:
            edges[count, 0] = a
            edges[count, 1] = b
            edges[count, 2:] = ends[edge, 2:]
            count += 1
        if la != lb:
            _join(linked, depth_linked, la, lb)
    for a in range(parent.size):
        parent[a] = _find(parent, a)
    for k in range(count):
        edges[k, 0] = parent[edges[k, 0]]
        edges[k, 1] = parent[edges[k, 1]]
    return parent, is_open, edges[:count].copy()


@njit(nogil=True, cache=True)
def _paint(basin, parent, shape):
    """Give the united basins 1, 2, … by first pixel."""
    height, width = shape
    number = np.zeros(parent.size, np.int64)
    out = np.zeros((height - 2, width - 2), np.uint32)
    count = 0
    for y in range(height - 2):
        for x in range(width - 2):
            mine = basin[u64((y + 1) * width + x + 1)]
            if mine == 0:
                continue
            root = u64(parent[u64(~mine)])
            if number[root] == 0:
                count += 1
                number[root] = count
            out[u64(y), u64(x)] = number[root]
    return out, number


@njit(nogil=True, cache=True)
def decide(depth, edges, altitude, h):
    """Go through the edges of all tiles, in ascending order.

    Parameters: depth int32[vertices] as of `flood`, changed in place; edges int64[m, 2] vertices;
    altitude int64[m], the leading 16 bits of each edge's. Returns each vertex's root; a root's
    depth is that of all of it.
    """
    parent = np.arange(depth.size)
    for k in range(len(edges)):
        a = _find(parent, edges[k, 0])
        b = _find(parent, edges[k, 1])
        if a != b and (altitude[k] - depth[a] < h or altitude[k] - depth[b] < h):
            _join(parent, depth, a, b)
    for a in range(parent.size):
        parent[a] = _find(parent, a)
    return parent
