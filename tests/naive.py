"""Slow, obvious references, written from the rules with plain loops and exact Python/int64 numbers."""

from collections import deque

import numpy as np


def units(compactness):
    """Colour units per Lab unit and place units per step."""
    for unit in (8, 4, 2, 1):
        span = max(1, int(compactness * unit + 0.5))
        mean, pixel = 3 * span // 2 + 2, span // 2 + 1
        if 4 * (3 * (136 * unit) ** 2 + 2 * mean * mean + 4 * mean * pixel) + 3 < 2**24:
            return unit, span
    raise AssertionError


def lab(image, unit):
    """CIELAB in 1/unit, from the tables of `segpipe.colour` by NumPy."""
    from segpipe.colour import LINEAR, ROOT

    packed = sum(LINEAR[c][image[..., c]] for c in range(3))
    f = [
        ROOT[((packed >> np.uint64(21 * k + 5)) & np.uint64(8191)).astype(int)].astype(np.int64)
        for k in range(3)
    ]
    return np.stack(
        [
            (116 * unit * f[1] - 66 * unit * 2**14 + 2**13) >> 14,
            (500 * unit * (f[0] - f[1]) + 2**13) >> 14,
            (200 * unit * (f[1] - f[2]) + 2**13) >> 14,
        ],
        axis=-1,
    )


def scaled(image, unit, low, high):
    """Channels as they are, scaled and clipped to 0 .. 100 sqrt(3 / C) Lab units, centred."""
    channels = image.shape[2]
    span = 100.0 * min(1.0, (3.0 / channels) ** 0.5) * unit
    out = np.zeros(image.shape, np.int64)
    for c in range(channels):
        gain = span / (high[c] - low[c]) if high[c] > low[c] else 0.0
        v = np.clip((image[..., c].astype(np.float64) - low[c]) * gain, 0.0, span)
        out[..., c] = np.floor(v - 0.5 * span + 0.5)
    return out


def slic(colours, valid, step, compactness, iterations, min_size, sweeps):
    """SLIC by the rules; colours (H, W, C) int64 in 1/unit, valid (H, W) bool. Labels 0, 1..N."""
    unit, span = units(compactness)
    assigned, centres = clusters(colours, valid, step, span, iterations)
    owner, seeds = regions(assigned, centres, valid, min_size)
    if sweeps:
        owner = refined(owner, seeds, colours, valid, step, span, unit, sweeps)
    return numbered(without_small(owner, seeds, min_size))


def place(y, step, span):
    """Coordinate of pixel row (or column) y: lattice seed i lies at i * span."""
    i, inside = divmod(y - step // 2, step)
    return i * span + (2 * inside + 1) * span // (2 * step)


def first_seeds(colours, valid, step, span):
    """Block -> centre (colours.., y, x) of the valid pixel nearest to the block's middle."""
    h, w = valid.shape
    middle = step // 2
    centres = {}
    rows, columns = (max(1, -(-(n - middle) // step)) for n in (h, w))  # lattice points
    for i in range(rows):
        for j in range(columns):
            bottom = h if i == rows - 1 else (i + 1) * step
            right = w if j == columns - 1 else (j + 1) * step
            cy, cx = min(i * step + middle, h - 1), min(j * step + middle, w - 1)
            pixels = [
                ((y - cy) ** 2 + (x - cx) ** 2, y, x)
                for y in range(i * step, bottom)
                for x in range(j * step, right)
                if valid[y, x]
            ]
            if pixels:
                _, y, x = min(pixels)
                centres[i, j] = (*colours[y, x], place(y, step, span), place(x, step, span))
    return centres


def clusters(colours, valid, step, span, iterations):
    """Return {(y, x): block} and {block: centre}."""
    h, w = valid.shape
    every = max(1, min(4, step // 4))
    centres = first_seeds(colours, valid, step, span)
    points = {
        (y, x): (*map(int, colours[y, x]), place(y, step, span), place(x, step, span))
        for y in range(h)
        for x in range(w)
        if valid[y, x]
    }
    sampled = {p: v for p, v in points.items() if (p[0] - step // 2) % step % every == every // 2}
    for _ in range(iterations):
        chosen = assign(sampled, centres, step)
        members = {}
        for p, block in chosen.items():
            members.setdefault(block, []).append(points[p])
        for block, values in members.items():
            n = len(values)
            centres[block] = tuple((2 * sum(v) + n) // (2 * n) for v in zip(*values, strict=True))
    return assign(points, centres, step), centres


def assign(points, centres, step):
    """Nearest of the four seeds round each pixel's cell; ties go to the first in raster order."""
    chosen = {}
    for (y, x), value in points.items():
        i, j = (y - step // 2) // step, (x - step // 2) // step
        candidates = [b for b in ((i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1)) if b in centres]
        chosen[y, x] = min(
            candidates,
            key=lambda b: (
                sum((int(u) - int(v)) ** 2 for u, v in zip(value, centres[b], strict=True)),
                b,
            ),
        )
    return chosen


def regions(assigned, centres, valid, min_size, rounds=4):
    """Components, and whom the small ones join. Returns owner map (-1: none) and centre per owner."""
    h, w = valid.shape
    component = np.full((h, w), -1, int)
    members = {}
    for y, x in sorted(assigned):
        if component[y, x] >= 0:
            continue
        root = y * w + x
        component[y, x] = root
        members[root] = [(y, x)]
        queue = deque(members[root])
        while queue:
            p = queue.popleft()
            for q in around(p, h, w):
                if valid[q] and component[q] < 0 and assigned[q] == assigned[y, x]:
                    component[q] = root
                    members[root].append(q)
                    queue.append(q)
    centre = {root: centres[assigned[divmod(root, w)]] for root in members}
    state = {root: root for root, pixels in members.items() if len(pixels) >= min_size}
    for _ in range(rounds):
        joining = {}
        for root in members.keys() - state.keys():
            touched = {
                state[component[q]]
                for p in members[root]
                for q in around(p, h, w)
                if component[q] in state
            }
            if touched:
                own = centre[root][:-2]
                joining[root] = min(
                    touched,
                    key=lambda t: (
                        sum(
                            (int(u) - int(v)) ** 2 for u, v in zip(own, centre[t][:-2], strict=True)
                        ),
                        t,
                    ),
                )
        state |= joining
    owner = np.full((h, w), -1, int)
    for root, pixels in members.items():
        for p in pixels:
            owner[p] = state.get(root, root)
    return owner, centre


def without_small(owner, centre, min_size):
    """Let regions below min_size join a neighbour, round by round, until none of them has one.

    All small regions pick at once, by the state before the round: the neighbour of least difference
    in colour (ties: smaller name). Who is linked by picks is one region then. If there is a region
    of min_size in it, that takes in the others and keeps its name and colour; if not, the smallest
    name stays, and the colour is the mean over all pixels in steps of 1/8.
    """
    h, w = owner.shape
    owner = owner.copy()
    pixels = {}
    for p in np.ndindex(owner.shape):
        if owner[p] >= 0:
            pixels.setdefault(int(owner[p]), []).append(p)
    total = {a: [len(pixels[a]) * int(v) for v in centre[a][:-2]] for a in pixels}
    colour = {a: [8 * int(v) for v in centre[a][:-2]] for a in pixels}
    while True:
        picks = {}
        for a in pixels:
            beside = {int(owner[q]) for p in pixels[a] for q in around(p, h, w)} - {-1, a}
            if len(pixels[a]) < min_size and beside:
                gap = {
                    b: sum((u - v) ** 2 for u, v in zip(colour[a], colour[b], strict=True))
                    for b in beside
                }
                picks[a] = min(beside, key=lambda b: (gap[b], b))
        if not picks:
            return owner
        group = {a: {a} for a in pixels}
        for a, b in picks.items():
            both = group[a] | group[b]
            for member in both:
                group[member] = both
        for members in {id(g): g for g in group.values() if len(g) > 1}.values():
            settled = [a for a in members if len(pixels[a]) >= min_size]
            head = settled[0] if settled else min(members)
            if not settled:
                total[head] = [sum(t) for t in zip(*(total[a] for a in members), strict=True)]
                n = sum(len(pixels[a]) for a in members)
                colour[head] = [(16 * t + n) // (2 * n) for t in total[head]]
            for a in members - {head}:
                pixels[head] += pixels.pop(a)
            for p in pixels[head]:
                owner[p] = head


def small_with_neighbours(labels, min_size):
    """Labels of segments below min_size that touch another segment."""
    touching = [
        pair
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]))
        for pair in ((a, b), (b, a))
    ]
    beside = [np.unique(a[(a != b) & (b > 0)]) for a, b in touching]
    small = np.flatnonzero(np.bincount(labels.ravel()) < min_size)
    return sorted(set(small[small > 0]) & set(np.concatenate(beside)))


def around(p, h, w):
    """4-neighbours inside the image."""
    y, x = p
    for q in ((y - 1, x), (y, x + 1), (y + 1, x), (y, x - 1)):
        if 0 <= q[0] < h and 0 <= q[1] < w:
            yield q


def refined(owner, centre, colours, valid, step, span, unit, sweeps, price=3, weight=4):
    """Topology-preserving moves of border pixels, one pixel after the other."""
    h, w = owner.shape
    owner = owner.copy()

    def energy(y, x, region, ring):
        value = (*colours[y, x], place(y, step, span), place(x, step, span))
        d = [(int(u) - int(v)) ** 2 for u, v in zip(value, centre[region], strict=True)]
        differing = sum(r >= 0 and r != region for r in ring)
        return weight * sum(d[:-2]) + sum(d[-2:]) + weight * (price * unit) ** 2 * differing

    for _ in range(sweeps):
        for phase in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for y in range(phase[0], h, 2):
                for x in range(phase[1], w, 2):
                    a = owner[y, x]
                    others = {owner[q] for q in around((y, x), h, w)} - {-1, a}
                    if a < 0 or not others or pieces(owner, y, x) != 1:
                        continue
                    ring = [
                        owner[v, u]
                        for v in range(max(0, y - 1), min(h, y + 2))
                        for u in range(max(0, x - 1), min(w, x + 2))
                        if (v, u) != (y, x)
                    ]
                    owner[y, x] = min(
                        others | {a}, key=lambda r: (energy(y, x, r, ring), r != a, r)
                    )
    return owner


def pieces(owner, y, x):
    """Count the 4-connected pieces of p's region in its 8-neighbourhood that touch p by an edge."""
    h, w = owner.shape
    ring = {
        (v, u)
        for v in range(max(0, y - 1), min(h, y + 2))
        for u in range(max(0, x - 1), min(w, x + 2))
        if (v, u) != (y, x) and owner[v, u] == owner[y, x]
    }
    count = 0
    for start in around((y, x), h, w):
        if start in ring:
            count += 1
            queue = [start]
            ring.discard(start)
            while queue:
                for q in around(queue.pop(), h, w):
                    if q in ring:
                        ring.discard(q)
                        queue.append(q)
    return count


def numbered(owner):
    """Labels 1..N in raster order of first pixels, 0 where there is no owner."""
    labels = np.zeros(owner.shape, np.uint32)
    rank = {}
    for p in np.ndindex(owner.shape):
        if owner[p] >= 0:
            labels[p] = rank.setdefault(owner[p], len(rank) + 1)
    return labels
