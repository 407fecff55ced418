"""Merge regions by the mean contrast of their interfaces, with decisions that may be postponed.

Interfaces are merged in ascending order of (floor of the mean contrast, greatest pixel edge): a
strict total order, and *reducible*: uniting two interfaces never yields one that comes before both.
So two regions that are each other's least interface will merge in the global order whatever
happens elsewhere, and the order of such merges does not matter. A block of the image that does not
know all interfaces of some regions (those at its seams) marks them as open: a merge that an open
region takes part in is postponed, and opens the other region, too. What is not open in the end has
no interface left below the limit, and never will: it is final. Only open regions and the interfaces
between them go on to where more is known.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np
from numba import njit

FRACTION = 20
"""Bits behind the point of a mean contrast."""

u64 = np.uint64


@dataclass(frozen=True)
class Interfaces:
    """Where regions meet: one row per pair."""

    first: np.ndarray
    """int64, the smaller region of the pair, from 0."""
    second: np.ndarray
    total: np.ndarray
    """int64, sum of the contrast over the pairs of pixels."""
    count: np.ndarray
    """int64, pairs of pixels that share a side."""
    last: np.ndarray
    """int64, greatest pixel edge: 2 (y * width + x) of the upper or left pixel, + 1 if it lies
    above."""

    @classmethod
    def collect(cls, ends: np.ndarray, sums: np.ndarray, n: int) -> Interfaces:
        """Gather rows of (a, b) and (total, count, last) by pair; drop those of one region."""
        low, high = ends.min(axis=1), ends.max(axis=1)
        key = low * n + high
        chosen = np.flatnonzero(low != high)
        order = chosen[np.argsort(key[chosen], kind="stable")]
        key = key[order]
        if not len(order):
            return cls(*np.zeros((5, 0), np.int64))
        start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        total, count = (np.add.reduceat(sums[order, i], start) for i in (0, 1))
        last = np.maximum.reduceat(sums[order, 2], start)
        return cls(key[start] // n, key[start] % n, total, count, last)

    def rows(self) -> np.ndarray:
        """Return int64[m, 5], to travel."""
        return np.column_stack([self.first, self.second, self.total, self.count, self.last])


def merge_regions(
    n: int, interfaces: Interfaces, limit: int, is_open: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, Interfaces]:
    """Merge regions up to a mean contrast.

    Parameters
    ----------
    n
        Number of regions, 0 .. n - 1.
    interfaces
        Those between them.
    limit
        Interfaces merge up to this mean contrast, in 1 / 2^20 of the contrast's unit.
    is_open
        bool[n], regions some of whose interfaces are not known here; None: all are.

    Returns
    -------
    root, is_open, interfaces
        int64[n], the region that stands for each; bool[n], whether a region that stands for itself
        is open now; the interfaces between open regions, by their roots.

    Notes
    -----
    O(m log m) for m interfaces, if regions of few interfaces join those of many.

    References
    ----------
    R. Lu, A. Zlateski, H. S. Seung, Large-scale image segmentation based on distributed clustering
    algorithms, 2021, arXiv:2106.10795.
    """
    opened = np.zeros(n, np.bool_) if is_open is None else is_open.astype(np.bool_)
    ends = np.stack([interfaces.first, interfaces.second], axis=1).reshape(-1).astype(np.int64)
    total, count, last = (
        getattr(interfaces, name).astype(np.int64) for name in ("total", "count", "last")
    )
    alive = np.ones(len(total), np.bool_)
    root = np.arange(n, dtype=np.int64)
    _merge(root, opened, ends, total, count, last, alive, limit)
    pairs = np.sort(ends.reshape(-1, 2), axis=1)
    left = alive & opened[pairs].all(axis=1)
    rest = Interfaces(pairs[left, 0], pairs[left, 1], total[left], count[left], last[left])
    return root, opened & (root == np.arange(n)), rest


@njit(nogil=True, cache=True, forceinline=True)
def _mean(total, count):
    """Floor of the mean in 1 / 2^20, without leaving 64 bits."""
    whole = total // count
    return (whole << FRACTION) + ((total - whole * count) << FRACTION) // count


@njit(nogil=True, cache=True)
def _merge(root, opened, ends, total, count, last, alive, limit):
    """Merge in place. Interface e has the ends 2 e and 2 e + 1, each in the list of its region."""
    n = root.size
    head = np.full(n, -1, np.int64)
    after = np.full(ends.size, -1, np.int64)
    degree = np.zeros(n, np.int64)
    where = dict()
    heap = [(np.int64(-1), np.int64(-1), np.int64(-1))]
    for e in range(total.size):
        for end in (2 * e, 2 * e + 1):
            after[end] = head[ends[end]]
            head[ends[end]] = end
            degree[ends[end]] += 1
        one, two = ends[2 * e], ends[2 * e + 1]
        where[min(one, two) * n + max(one, two)] = np.int64(e)
        mean = _mean(total[e], count[e])
        if mean <= limit:
            heap.append((mean, last[e], np.int64(e)))
    heapify(heap)
    heappop(heap)  # the first entry only gave the list its type
    while heap:
        key, edge, least = heappop(heap)
        e = int(least)
        if not alive[e] or last[e] != edge or _mean(total[e], count[e]) != key:
            continue
        a, b = ends[2 * e], ends[2 * e + 1]
        if opened[a] or opened[b]:
            opened[a] = opened[b] = True
            continue
        if degree[a] < degree[b]:
            a, b = b, a  # lists move from the shorter
        alive[e] = False
        root[b] = a
        end = head[b]
        while end >= 0:
            following = after[end]
            f = end // 2
            if alive[f]:
                c = ends[2 * f + 1 - end % 2]
                other = min(a, c) * n + max(a, c)
                if other in where:
                    g = where[other]
                    alive[f] = False
                    total[g] += total[f]
                    count[g] += count[f]
                    last[g] = max(last[g], last[f])
                    mean = _mean(total[g], count[g])
                    if mean <= limit:
                        heappush(heap, (mean, last[g], g))
                else:
                    where[other] = np.int64(f)
                    ends[end] = a
                    after[end] = head[a]
                    head[a] = end
                    degree[a] += 1
            end = following
    for leaf in range(n):
        v = r = leaf
        while root[r] != r:
            r = root[r]
        while root[v] != r:
            root[v], v = r, root[v]


def interfaces_of(
    regions: np.ndarray, levels: np.ndarray, origin: tuple[int, ...], width: int
) -> Interfaces:
    """Find the interfaces between the regions of a tile.

    Parameters
    ----------
    regions
        (h, w), 0 = none, 1..n; region r of the image is r - 1 in the result.
    levels
        int32[n, C]: the contrast of a pair is the sum over channels of the differences of these.
    origin, width
        Global (y, x) of the first pixel; width of the whole image.
    """
    place = np.array([origin[0], origin[1], width], np.int64)
    pieces = np.zeros((0, 4), np.int64)
    size = _pieces(regions, place, pieces, False)
    pieces = np.empty((size, 4), np.int64)
    _pieces(regions, place, pieces, True)
    contrast = contrasts(levels[pieces[:, 0]], levels[pieces[:, 1]])
    sums = np.column_stack([contrast * pieces[:, 2], pieces[:, 2:]])
    return Interfaces.collect(pieces[:, :2], sums, max(1, len(levels)))


def contrasts(here: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Return int64[m], the sum over channels of the differences of int32[m, C]."""
    return np.abs(here.astype(np.int64) - across).sum(axis=1)


@njit(nogil=True, cache=True)
def _pieces(regions, place, out, fill):
    """Write (a, b, pairs of pixels, last pixel edge) of straight pieces; return their number."""
    h, w = regions.shape
    n = np.int64(0)
    open_right = np.full(w, -1, np.int64)  # the piece between (y - 1, x) and (y - 1, x + 1)
    for y in range(h):
        below = -1
        for x in range(w):
            a = np.int64(regions[y, x])
            index = (place[0] + y) * place[2] + place[1] + x
            if x + 1 < w:
                b = np.int64(regions[y, x + 1])
                if a == b or a == 0 or b == 0:
                    open_right[x] = -1
                else:
                    same = open_right[x] >= 0
                    same = same and regions[y - 1, x] == a and regions[y - 1, x + 1] == b
                    if not same:
                        open_right[x] = n
                        n += 1
                    if fill:
                        _extend(out, open_right[x], a, b, 2 * index, same)
            if y + 1 < h:
                b = np.int64(regions[y + 1, x])
                if a == b or a == 0 or b == 0:
                    below = -1
                else:
                    same = below >= 0 and regions[y, x - 1] == a and regions[y + 1, x - 1] == b
                    if not same:
                        below = int(n)
                        n += 1
                    if fill:
                        _extend(out, below, a, b, 2 * index + 1, same)
    return n


@njit(nogil=True, cache=True, forceinline=True)
def _extend(out, piece, a, b, edge, same):
    if not same:
        out[piece, 0] = a - 1
        out[piece, 1] = b - 1
        out[piece, 2] = 0
    out[piece, 2] += 1
    out[piece, 3] = edge
