"""Fronts that grow from markers at a cost; a pixel joins the one that comes first. Exact in tiles.

Rule. A marked pixel has level 0 and its own label. Any other pixel takes from its 4-neighbours the
least (level + cost, label), where ``level`` and ``label`` are the neighbour's and the cost of
entering the pixel is its *step* (at least 1) plus, where labels have mean colours, the squared
distance of its colour to the mean of the label that enters, over 2^SHIFT. All are integers. As
costs are positive, a pixel's level and label follow from those of lower levels alone: there is just
one solution, and whoever looks at pixels in ascending order of levels finds it (Dijkstra; how, is
written in `front_kernels`). Each label is connected to its marker.

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
from segpipe.regions.front_kernels import FAR, LEVELS, NOBODY, SHIFT, advance, cost
from segpipe.tiles import Grid, Tile

__all__ = ["FAR", "LEVELS", "SHIFT", "Ground", "finish", "grow"]


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
    Some 60 to 200 ns per pixel of the window, by its size; 60 bytes.
    """
    step = np.pad(ground.step, 1)
    width = step.shape[1]
    flat = step.reshape(-1)
    colours = np.pad(ground.colours, ((1, 1), (1, 1), (0, 0)))
    colours = colours.reshape(flat.size, colours.shape[2])
    marked = np.flatnonzero((np.pad(ground.marks, 1).reshape(-1) > 0) & (flat > 0))
    owners = ground.marks[marked // width - 1, marked % width - 1]
    none = np.zeros((0, 4), np.int64)
    level, owner = advance(
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
    found, _ = advance(
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
    owner[order] = advance(sources, ground)[1]
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
        out[i] = cost(pixels[i], owners[i], ground[2], ground[3], ground[4])
    return out
