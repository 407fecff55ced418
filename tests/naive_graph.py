"""Slow, obvious references for methods that merge along the edges of the pixel graph."""

import math

import numpy as np

from segpipe import colour


def edges_of(shape, steps):
    """All pairs of linear indices (p, q), q later in raster order, and nothing else."""
    h, w = shape
    return [
        (y * w + x, (y + dy) * w + x + dx)
        for y in range(h)
        for x in range(w)
        for dy, dx in steps
        if 0 <= y + dy < h and 0 <= x + dx < w
    ]


class Forest:
    """Sets of pixels that can be united, kept as plain lists."""

    def __init__(self, n):
        self.set_of = list(range(n))
        self.members = [[p] for p in range(n)]

    def unite(self, a, b):
        """Move set b into set a."""
        for p in self.members[b]:
            self.set_of[p] = a
        self.members[a] += self.members[b]
        self.members[b] = []


def numbered(owner, kept):
    """Number owners 1, 2, … by first pixel; 0 where not kept."""
    number, out = {}, np.zeros(len(owner), np.int64)
    for p, o in enumerate(owner):
        if kept[p]:
            out[p] = number.setdefault(o, len(number) + 1)
    return out


def ordered(altitude, valid):
    """Edges (p, q) between 4-neighbours that count, by their higher, then their lower pixel."""
    f = altitude.ravel().tolist()
    pairs = [
        e
        for e in edges_of(altitude.shape, [(0, 1), (1, 0)])
        if valid.flat[e[0]] and valid.flat[e[1]]
    ]
    return sorted(pairs, key=lambda e: sorted(((f[p], p) for p in e), reverse=True))


def surviving_minima(leading, order, h):
    """First pixels of the minima that are still lowest when they have been filled by h.

    Plain single linkage: when two components meet, the one whose lowest pixel is higher (ties: the
    later one) ends there. What has not ended by then, or never ends, survives.
    """
    f = leading.ravel().tolist()
    forest, lowest = Forest(len(f)), list(range(len(f)))
    alive = set(range(len(f)))
    for p, q in order:
        a, b = forest.set_of[p], forest.set_of[q]
        if a == b:
            continue
        if (f[lowest[a]], lowest[a]) > (f[lowest[b]], lowest[b]):
            a, b = b, a
        if max(f[p], f[q]) - f[lowest[b]] < h:
            alive.discard(lowest[b])
        forest.unite(a, b)
    return alive


def spanning_forest(shape, order, markers):
    """Kruskal's algorithm rooted in markers {pixel}; returns the marker of each pixel or None."""
    forest = Forest(shape[0] * shape[1])
    marker = [p if p in markers else None for p in range(len(forest.set_of))]
    for p, q in order:
        a, b = forest.set_of[p], forest.set_of[q]
        if a != b and (marker[a] is None or marker[b] is None):
            found = marker[a] if marker[b] is None else marker[b]
            forest.unite(a, b)
            marker[a] = found
    return [marker[s] for s in forest.set_of]


def watershed(altitude, valid, h=None, points=()):
    """Watershed by the rules: of minima of dynamics h (in units of 2^16), or from points."""
    order = ordered(altitude, valid)
    width = altitude.shape[1]
    markers = {y * width + x for y, x in points}
    if h is not None:
        markers = surviving_minima(altitude >> 16, order, h)
    found = spanning_forest(altitude.shape, order, {m for m in markers if valid.flat[m]})
    return numbered(found, [m is not None for m in found]).reshape(altitude.shape)


def felzenszwalb(planes, valid, k, min_size, unit):
    """Felzenszwalb-Huttenlocher in the strict order (weight, pixel, step); planes (C, h, w) int.

    Weights are distances in 1/64 of the steps of the values, of which there are `unit` per value.
    """
    shape = planes.shape[1:]
    values = planes.reshape(len(planes), -1).T.tolist()
    pairs = [
        (
            math.isqrt(
                64**2 * sum((a - b) ** 2 for a, b in zip(values[p], values[q], strict=True))
            ),
            p,
            i,
            q,
        )
        for i, (p, q) in enumerate(edges_of(shape, [(0, 1), (1, -1), (1, 0), (1, 1)]))
        if valid.flat[p] and valid.flat[q]
    ]
    pairs.sort()
    forest, inner = Forest(shape[0] * shape[1]), [0] * (shape[0] * shape[1])
    size = lambda a: len(forest.members[a])  # noqa: E731
    for weight, p, _, q in pairs:
        a, b = forest.set_of[p], forest.set_of[q]
        if a != b and all((weight - inner[c]) * size(c) <= int(k * unit * 64) for c in (a, b)):
            forest.unite(a, b)
            inner[a] = weight
    for _, p, _, q in pairs:
        a, b = forest.set_of[p], forest.set_of[q]
        if a != b and min(size(a), size(b)) < min_size:
            forest.unite(a, b)
    return numbered(forest.set_of, valid.ravel()).reshape(shape)


def region_graph(image, segments):
    """Mean colours (Lab) of segments by label, and the pixel sides that pairs of them share."""
    planes = np.moveaxis(colour.planes(image, 8, None), 0, 2) / 8
    names = [int(a) for a in np.unique(segments) if a]
    means = {a: planes[segments == a].mean(axis=0) for a in names}
    sides = {}
    for near, far in ((segments[:, :-1], segments[:, 1:]), (segments[:-1], segments[1:])):
        for a, b in zip(near.ravel().tolist(), far.ravel().tolist(), strict=True):
            if a and b and a != b:
                pair = (min(a, b), max(a, b))
                sides[pair] = sides.get(pair, 0) + 1
    return means, sides


def felzenszwalb_on_segments(image, segments, k, min_size):
    """Felzenszwalb-Huttenlocher in the order (difference in steps of 1/2048, labels)."""
    means, sides = region_graph(image, segments)
    fine = {a: np.floor(2048 * m + 0.5) for a, m in means.items()}
    edges = sorted((int(np.sqrt(((fine[a] - fine[b]) ** 2).sum())), a, b) for a, b in sides)
    group, inner = {a: {a} for a in means}, {a: 0 for a in means}
    size = lambda a: int(np.isin(segments, list(group[a])).sum())  # noqa: E731
    of = lambda a: next(g for g in group if a in group[g])  # noqa: E731
    for weight, p, q in edges:
        a, b = of(p), of(q)
        if a != b and all((weight - inner[c]) * size(c) <= int(k * 2048) for c in (a, b)):
            group[a] |= group.pop(b)
            inner[a] = weight
    for _, p, q in edges:
        a, b = of(p), of(q)
        if a != b and min(size(a), size(b)) < min_size:
            group[a] |= group.pop(b)
    owner = np.zeros(segments.size, int)
    for a in means:
        owner[segments.ravel() == a] = of(a)
    return numbered(owner.tolist(), segments.ravel() > 0).reshape(segments.shape)
