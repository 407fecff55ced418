"""Segments that are still small join a neighbour: in each tile what is certain, then the rest.

For a method whose tiles know, by their halo, the segments of their core and of the ring of one
pixel round it, under ids that all tiles agree on (`slic`)::

    its pass   map    settle(…): the rounds of `merge_rounds` in the core; Numbered(…).record(…)
               solve  partial(solve, min_size): the same rounds on what all tiles left
    label      `finish.label_pass`

No pass over pixels is added. A tile sends the small segments at its seams, those near them that
these could change (one ring of small segments a round) and whom they touch; where no segment is
small it sends nothing. `rank` gives regions of one id one label.

What a tile cannot know of a segment at a seam is its whole size: it counts what lies in its core.
A segment that is large by that is settled, since the rest only adds to it, and keeps its colour.
One that is not is open, so it is left; counted in all tiles it may turn out to be settled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from segpipe.passes import Record
from segpipe.regions import rank
from segpipe.regions.leftover_kernels import inherit, look, touching
from segpipe.regions.merge_left import gather, take_left
from segpipe.regions.merge_rounds import Graph, Merged, free, merge
from segpipe.tiles import Grid, Tile


@dataclass(frozen=True)
class Segments:
    """The segments of a window, in runs of pixels (see `components`)."""

    starts: np.ndarray
    rows: np.ndarray
    owner: np.ndarray
    """int32[runs]: the segment of each run, -1: none. Numbers rise with ids, with gaps."""
    count: int
    """All numbers are below it."""
    core: tuple[int, int, int, int]
    """Begin and end of the core's rows, then of its columns."""
    seams: tuple[bool, bool, bool, bool]
    """The image goes on above, below, left, right of the core."""


class Known(NamedTuple):
    """What is known of segments, given their numbers (ascending)."""

    ids: Callable[[np.ndarray], np.ndarray]
    """int64[k], the same in all tiles."""
    colours: Callable[[np.ndarray], np.ndarray]
    """Integers (k, C), the same in all tiles."""
    small: np.ndarray | None
    """Numbers of all that are small; None: it is not known who is."""


class Settled(NamedTuple):
    """What became of the segments of a tile."""

    pixels: np.ndarray
    """int32[count]: of each that was small (if it was not known, of all) in the core."""
    travel: np.ndarray
    """Segments that may be one with others in the end, ascending."""
    left: Record
    """See `take_left`."""


def settle(segments: Segments, known: Known, min_size: int) -> Settled:
    """Merge the small segments of a tile with neighbours, as far as it is certain.

    Parameters
    ----------
    segments
        Those of a window with one pixel or more round the core, none only at the image's border.
        The owners of runs are changed in place.
    known
        Ids, colours, and who is small.
    min_size
        Pixels from which on a segment is settled.

    Notes
    -----
    Next to nothing if nobody is small; else some nanoseconds a run, and the rounds of `merge`.
    """
    runs = segments.starts, segments.rows, segments.owner, segments.core
    looked = np.full(segments.count, known.small is None)
    if known.small is not None:
        looked[known.small] = True
    pixels, at_seam = np.zeros(segments.count, np.int32), np.zeros(segments.count, bool)
    look(*runs, segments.seams, looked, pixels, at_seam)
    small = (pixels > 0) & (pixels < min_size)
    pairs = touching(*runs, small)
    matters = small.copy()
    matters[pairs[:, 1]] = True
    nodes = np.flatnonzero(matters)
    place = np.zeros(segments.count, np.int32)
    place[nodes] = np.arange(len(nodes))
    # of what is not small only that is known, and it suffices
    size = np.where(small[nodes], pixels[nodes], min_size).astype(np.int64)
    sums = np.column_stack([size, size[:, None] * known.colours(nodes)])
    graph = free(known.ids(nodes), sums, place[pairs], small[nodes] & at_seam[nodes])
    merged = merge(graph, min_size)
    heirs = nodes[_heirs(graph, merged)]
    place[nodes] = heirs
    beside, left = take_left(graph, merged)
    travel = np.union1d(nodes[merged.left], heirs[beside])
    inherit(segments.owner, small, place)
    return Settled(pixels, travel, left)


def _heirs(graph: Graph, merged: Merged) -> np.ndarray:
    """Return the node whose id each node bears in the end; what is left bears its own."""
    own = np.arange(len(graph.ids))
    found = np.searchsorted(graph.ids, merged.ids[merged.ends()[: len(own)]])
    return np.where(merged.left, own, found)


@dataclass(frozen=True)
class Numbered:
    """The regions of a tile's core, 1..n by first pixel, and what may yet change."""

    regions: np.ndarray
    """uint32 over the core: 0 = no pixel, else 1..n."""
    ids: np.ndarray
    """int64[n], the same for the same region in every tile."""
    pixels: np.ndarray
    """int64[n]: of each that is small or was not known to be settled, how many the tile has."""
    travel: np.ndarray
    """Numbers of the regions that may be one with others, ascending."""
    left: Record
    """See `take_left`."""

    def record(self, tile: Tile, shape: Sequence[int]) -> Record:
        """Return what `solve` needs: the record of `rank`, ``pixels`` beside its ids, the rest."""
        record = rank.summary(self.regions, self.ids, tile, shape, travel=self.travel)
        return record | self.left | {"pixels": self.pixels[record["border"] - 1]}


def nothing(shape: tuple[int, ...]) -> Numbered:
    """Return what there is to say of a core without pixels."""
    none = np.zeros(0, np.int64)
    graph = free(none, np.zeros((0, 1), np.int64), none.reshape(0, 2), none > 0)
    left = take_left(graph, merge(graph, 1))[1]
    return Numbered(np.zeros(shape, np.uint32), none, none, none, left)


def solve(min_size: int, records: Sequence[Record], grid: Grid, _former: Any = None) -> rank.Ranks:
    """Merge the small segments that the tiles left, and rank all regions.

    Notes
    -----
    *Tiling*: exact. Memory grows with what was left: some 300 bytes each.
    """
    graph, count = gather(records)
    if not count:
        return rank.solve(records, grid)
    ids = graph.ids[:count]
    names = np.concatenate([record["id"] for record in records])
    pixels = np.concatenate([record["pixels"] for record in records])
    at = np.minimum(np.searchsorted(ids, names), count - 1)
    mine = ids[at] == names
    whole = np.zeros(count, np.int64)
    np.add.at(whole, at[mine], pixels[mine])
    # one tile's pixels times the colour become all pixels times the colour
    graph.sums[:count] = graph.sums[:count] // graph.sums[:count, :1] * whole[:, None]
    merged = merge(graph, min_size)
    names = np.where(mine, merged.ids[merged.ends()[at]], names)
    cuts = np.cumsum([len(record["id"]) for record in records])[:-1]
    parts = np.split(names, cuts)
    ranks = rank.solve([r | {"id": own} for r, own in zip(records, parts, strict=True)], grid)
    small = int(np.count_nonzero(whole < min_size))
    return replace(ranks, notes={"small segments merged across seams": small}) if small else ranks
