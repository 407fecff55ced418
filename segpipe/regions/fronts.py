"""Fronts that grow from markers at a cost; a pixel joins the one that comes first. Exact in tiles.

Rule. A marked pixel has level 0 and its own label. Any other pixel takes from its 4-neighbours the
least (level + cost, label), where ``level`` and ``label`` are the neighbour's and the cost of
entering the pixel is its *step* (at least 1) plus, where labels have mean colours, the squared
distance of its colour to the mean of the label that enters, over 2^SHIFT. All are integers. As
costs are positive, a pixel's level and label follow from those of lower levels alone: there is just
one solution, and whoever looks at pixels in ascending order of levels finds it (Dijkstra; here with
one list per level). Each label is connected to its marker.

Tiles. What lies outside a window can change a pixel only along a path that comes in from outside,
and such a path costs at least the steps on it. `barrier` is the least sum of these. A pixel whose
level in the window is below its barrier is *certain*: it has the level and label of the whole
image. The others *travel*: to `finish`, which goes on with the uncertain pixels of all tiles,
starting from the certain ones beside them. A path that costs more than `cap` ends; where the
barrier is above the cap, nothing travels.

The certificate follows from the rule: of the pixels where the solutions of window and image differ,
take the one with the least level in either; it differs since a neighbour of lower level differs, or
lies outside. So a path of pixels that differ leads outside, and levels rise along it from outside
by the steps at least.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from segpipe.passes import Record
from segpipe.tiles import Grid, Tile

SHIFT = 3
"""Squared distances of colours are shifted right by this much."""
LEVELS = 8192
"""Costs of one pixel are less than this: as many lists are needed."""
FAR = np.int64(1) << 62
"""Level of pixels that nothing has reached."""
NOBODY = -1

u64 = np.uint64


@dataclass(frozen=True)
class Ground:
    """What fronts move over, of one window."""

    marks: np.ndarray
    """int32 (h, w): 1 + index of the label that a marker gives; 0 = no marker."""
    step: np.ndarray
    """uint16 (h, w): cost of entering a pixel at least, 1 to `LEVELS` - 1; 0 = no pixel."""
    colours: np.ndarray
    """int16 (h, w, C); C = 0: steps are all that counts."""
    labels: np.ndarray
    """int64[n], the labels, ascending."""
    means: np.ndarray
    """int32[n, C]."""
    cap: int = int(FAR) - 1
    """Highest level of a pixel that is reached."""


def grow(ground: Ground, tile: Tile, grid: Grid) -> tuple[np.ndarray, Record]:
    """Let fronts grow in a tile's window.

    Returns
    -------
    owner
        int32 over the core: 1 + index of each pixel's label; 0 where none reaches it, where there
        is no pixel, and where it is uncertain.
    record
        Of the uncertain pixels of the core ``at`` int64 (y * width + x), ``step`` and ``colour``;
        of certain ones beside them or at seams ``edge_at``, ``edge_level``, ``edge_label``.

    Notes
    -----
    Some 100 ns per pixel of the window, 60 bytes.
    """
    step = np.pad(ground.step, 1)
    width = step.shape[1]
    flat = step.reshape(-1)
    colours = np.pad(ground.colours, ((1, 1), (1, 1), (0, 0)))
    colours = colours.reshape(flat.size, colours.shape[2])
    marked = np.flatnonzero((np.pad(ground.marks, 1).reshape(-1) > 0) & (flat > 0))
    owners = ground.marks[marked // width - 1, marked % width - 1]
    none = np.zeros((0, 4), np.int64)
    level, owner = _advance(
        (marked, np.zeros(len(marked), np.int64), owners),
        (none, width, flat, colours, ground.means, ground.cap),
    )
    barrier = _barrier(step, tile, grid)
    inner = tuple(slice(1 + part.start, 1 + part.stop) for part in tile.inner)
    level, owner = level.reshape(step.shape)[inner], owner.reshape(step.shape)[inner]
    barrier = barrier.reshape(step.shape)[inner]
    pixel = step[inner] > 0
    certain = (level < barrier) | (barrier > ground.cap)
    travels = pixel & ~certain
    beside = pixel & certain & (owner > 0) & _beside(travels, tile, grid)
    place = ground.labels[owner[beside] - 1]
    record = {
        "at": _index(travels, tile, grid),
        "step": step[inner][travels],
        "colour": ground.colours[tile.inner][travels],
        "edge_at": _index(beside, tile, grid),
        "edge_level": level[beside],
        "edge_label": place,
    }
    return np.where(certain, owner, 0), record


def _barrier(step: np.ndarray, tile: Tile, grid: Grid) -> np.ndarray:
    """Return the least cost at which something from outside the window may enter each pixel."""
    rim = np.zeros(step.shape, bool)
    for axis in range(2):
        lines = np.moveaxis(rim, axis, 0)
        lines[1] |= tile.window.start[axis] > 0
        lines[-2] |= tile.window.stop[axis] < grid.shape[axis]
    flat = step.reshape(-1)
    source = np.flatnonzero(rim.reshape(-1) & (flat > 0))
    level = flat[source].astype(np.int64)
    order = np.argsort(level, kind="stable")
    source, level = source[order], level[order]
    plain = (np.zeros((0, 4), np.int64), step.shape[1], flat, np.zeros((0, 0), np.int16))
    found, _ = _advance(
        (source, level, np.ones(len(source), np.int32)),
        (*plain, np.zeros((0, 0), np.int32), int(FAR) - 1),
    )
    return found


def _beside(travels: np.ndarray, tile: Tile, grid: Grid) -> np.ndarray:
    """Mark the neighbours of pixels that travel, and the pixels at seams."""
    out = np.zeros(travels.shape, bool)
    out[1:] |= travels[:-1]
    out[:-1] |= travels[1:]
    out[:, 1:] |= travels[:, :-1]
    out[:, :-1] |= travels[:, 1:]
    for axis in range(2):
        lines = np.moveaxis(out, axis, 0)
        lines[0] |= tile.core.start[axis] > 0
        lines[-1] |= tile.core.stop[axis] < grid.shape[axis]
    return out


def _index(chosen: np.ndarray, tile: Tile, grid: Grid) -> np.ndarray:
    y, x = np.nonzero(chosen)
    return (y + tile.core.start[0]) * grid.shape[1] + x + tile.core.start[1]


def finish(
    records: Sequence[Record], grid: Grid, labels: np.ndarray, means: np.ndarray, cap: int
) -> list[np.ndarray]:
    """Go on with the pixels that travelled.

    Parameters
    ----------
    records
        Those of `grow`, in tile order.
    grid
        The tiles.
    labels, means, cap
        As in `Ground`, of all markers.

    Returns
    -------
    Per tile int32, the owner (1 + index in `labels`, 0 = none) of each of its ``at``.
    """
    joined = {n: np.concatenate([record[n] for record in records]) for n in records[0]}
    order = np.argsort(joined["at"])
    at, step, colours = (joined[name][order] for name in ("at", "step", "colour"))
    edge = np.argsort(joined["edge_at"])
    edge_at, edge_level = joined["edge_at"][edge], joined["edge_level"][edge]
    edge_owner = np.searchsorted(labels, joined["edge_label"][edge]).astype(np.int32) + 1
    ground = (_near(at, at, grid), 0, step, np.ascontiguousarray(colours), means, cap)
    found = _near(at, edge_at, grid)
    pixel, side = np.nonzero(found >= 0)
    source = found[pixel, side]
    level = edge_level[source] + _costs(pixel, edge_owner[source], ground)
    first = np.argsort(level, kind="stable")
    sources = (pixel[first], level[first], edge_owner[source][first])
    owner = np.zeros(len(at), np.int32)
    owner[order] = _advance(sources, ground)[1]
    return np.split(owner, np.cumsum([len(record["at"]) for record in records])[:-1])


def _near(at: np.ndarray, others: np.ndarray, grid: Grid) -> np.ndarray:
    """Return int64[n, 4], where in `others` (ascending) the neighbours are, or NOBODY."""
    width = grid.shape[1]
    out = np.full((len(at), 4), NOBODY, np.int64)
    if not len(others):
        return out
    column = at % width
    for k, (onward, inside) in enumerate(
        ((-width, at >= width), (-1, column > 0), (1, column < width - 1), (width, at >= 0))
    ):
        place = np.minimum(np.searchsorted(others, at + onward), len(others) - 1)
        met = inside & (others[place] == at + onward)
        out[met, k] = place[met]
    return out


@njit(nogil=True, cache=True)
def _costs(pixels, owners, ground):
    out = np.empty(pixels.size, np.int64)
    for i in range(pixels.size):
        out[i] = _cost(pixels[i], owners[i], ground[2], ground[3], ground[4])
    return out


@njit(nogil=True, cache=True, forceinline=True)
def _cost(p, owner, step, colours, means):
    """Return what it costs label `owner` to enter pixel p."""
    square = np.int64(0)
    for c in range(means.shape[1]):
        d = np.int64(colours[u64(p), u64(c)]) - np.int64(means[u64(owner - 1), u64(c)])
        square += d * d
    return min(np.int64(step[u64(p)]) + (square >> SHIFT), LEVELS - 1)


@njit(nogil=True, cache=True)
def _advance(sources, ground):
    """Let fronts grow from offers (pixel, level, owner) in ascending order of levels.

    The ground is (near, width, step, colours, means, cap): int64[n, 4] neighbours, or none for
    pixels of a frame of that width. Returns level int64[n] and owner int32[n].
    """
    pixels, levels, owners = sources
    near, width, step, colours, means, cap = ground
    level = np.full(step.size, FAR, np.int64)
    owner = np.zeros(step.size, np.int32)
    lists = np.full(LEVELS, NOBODY, np.int32)  # doubly linked: a pixel lies in one at most
    after = np.empty(step.size, np.int32)
    before = np.empty(step.size, np.int32)
    queued = 0
    offer = 0
    now = np.int64(0)
    while queued or offer < pixels.size:
        if not queued:
            now = levels[offer]
        while offer < pixels.size and levels[offer] == now:
            queued += _offer(
                pixels[offer], now, owners[offer], level, owner, lists, after, before, cap
            )
            offer += 1
        here = now & (LEVELS - 1)
        while lists[here] != NOBODY:
            p = np.int64(lists[here])
            _drop(p, here, lists, after, before)
            queued -= 1
            mine = owner[p]
            for k in range(4):
                if near.shape[0]:
                    q = near[p, k]
                    if q == NOBODY:
                        continue
                else:
                    q = p + (-width if k == 0 else -1 if k == 1 else 1 if k == 2 else width)
                if step[u64(q)] == 0 or level[u64(q)] <= now:
                    continue
                there = now + _cost(q, mine, step, colours, means)
                queued += _offer(q, there, mine, level, owner, lists, after, before, cap)
        now += 1
    return level, owner


@njit(nogil=True, cache=True, forceinline=True)
def _offer(p, at, mine, level, owner, lists, after, before, cap):
    """Let a pixel take an offer if it is the best so far; return 1 if it was in no list before."""
    old = level[u64(p)]
    if at > cap or at > old or (at == old and mine >= owner[u64(p)]):
        return 0
    owner[u64(p)] = mine
    if at == old:
        return 0
    if old != FAR:
        _drop(p, old & (LEVELS - 1), lists, after, before)
    level[u64(p)] = at
    slot = at & (LEVELS - 1)
    first = lists[slot]
    after[u64(p)] = first
    before[u64(p)] = NOBODY
    if first != NOBODY:
        before[u64(first)] = p
    lists[slot] = p
    return 0 if old != FAR else 1


@njit(nogil=True, cache=True, forceinline=True)
def _drop(p, slot, lists, after, before):
    """Take a pixel out of its list."""
    left, right = before[u64(p)], after[u64(p)]
    if left == NOBODY:
        lists[slot] = right
    else:
        after[u64(left)] = right
    if right != NOBODY:
        before[u64(right)] = left
