"""Merge small regions across any tiling: each tile what it can decide, the rest in one place.

For a method that finds *parts* (connected, numbered 1..n per tile by first pixel, 0 = none) and
wants those of fewer than `min_size` pixels to join a neighbour, by the rules of `merge_rounds`::

    its pass   map    {"parts": parts}, summary(parts, n, values, tile, shape, rims)
               solve  partial(solve_parts, same=…)      who is one across seams, with whole sums
    merge      map    the rounds inside the tile; what a seam can change is left open
               solve  the same rounds on what all tiles left
    regions    map    {"regions": …} and the record of `rank`
    label      `finish.label_pass`

So a tile knows the whole size and mean of every part it sees, and only small parts at seams lack
neighbours. A record holds them, the small parts near them (one ring a round) and their neighbours:
it grows with the perimeter, not with the area, however large the parts are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segpipe.passes import ImageInfo, Output, Pass, Record, Solution, Window
from segpipe.regions import join, merge_tile, rank
from segpipe.regions.finish import relabel
from segpipe.regions.merge_left import gather
from segpipe.regions.merge_rounds import Graph, merge
from segpipe.regions.round_kernels import NEVER, NOBODY
from segpipe.tiles import Grid, Tile

Values = Callable[[Window, Any], np.ndarray]
"""What the means are taken of: (window, the tile's part of the solution before that of the parts,
for example value ranges) -> (C, rows, columns) unsigned integers over the core."""
Border = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Border parts of a tile: numbers, ids, whole sums."""


def passes(image: ImageInfo, min_size: int, values: Values) -> tuple[Pass, Pass]:
    """Return the passes ``merge`` and ``regions``.

    Parameters
    ----------
    image
        The image; its pixels are read once more.
    min_size
        Regions of fewer pixels join a neighbour, if they have one.
    values
        See `Values`; may read ``image`` and, if the image is masked, ``mask``.
    """
    arrays = ("parts", "image", "mask") if image.masked else ("parts", "image")
    unite = Pass(
        name="merge",
        map=partial(_merge, min_size, values),
        reads=arrays,
        writes={"pieces": "uint32"},
        solve=partial(_solve, min_size),
        bytes_per_pixel=40 + 6 * image.channels,
        cost_ns=60.0,
    )
    number = Pass(
        name="regions",
        map=_number,
        reads=("pieces",),
        writes={"regions": "uint32"},
        solve=rank.solve,
        bytes_per_pixel=16,
        cost_ns=6.0,
    )
    return unite, number


def summary(
    parts: np.ndarray,
    n: int,
    values: np.ndarray,
    tile: Tile,
    shape: Sequence[int],
    rims: np.ndarray | join.Rim,
) -> Record:
    """Summarise a tile's parts for `solve_parts`: `join.summary` and ``sums`` of those at seams."""
    record = join.summary(parts, n, tile, shape, rims)
    return record | {"sums": merge_tile.sums_of(parts, values, n, record["border"])}


@dataclass(frozen=True)
class Joined:
    """Solution: the parts at seams as the whole image knows them."""

    ids: list[np.ndarray]
    """Per tile, int64 ids of its border parts."""
    known: np.ndarray
    """int64[k], all ids, ascending."""
    sums: np.ndarray
    """int64[k, 1 + C]."""
    touching: np.ndarray
    """int64[m, 2], indices of parts that are neighbours across a seam."""

    former: Solution | None
    """The solution before this one, handed on."""

    def for_tile(self, tile: Tile, record: Record) -> tuple[Border, Any]:
        """Return the border parts' numbers, ids and whole sums, and the former part."""
        ids = self.ids[tile.number]
        border = record["border"], ids, self.sums[np.searchsorted(self.known, ids)]
        return border, self.former.for_tile(tile, {}) if self.former else None


def solve_parts(
    records: Sequence[Record], grid: Grid, former: Solution | None = None, *, same: join.Same
) -> Joined:
    """Unite the parts that `same` links across seams (see `join.solve`), and add up their sums."""
    found = join.facing(records, grid)
    linked = found.where(same(found.here.value, found.across.value))
    ids = join.unite(records, linked.here.entry, linked.across.entry)
    known, index = np.unique(ids, return_inverse=True)
    rows = np.concatenate([record["sums"] for record in records])
    sums = np.zeros((len(known), rows.shape[1]), np.int64)
    np.add.at(sums, index, rows)
    pairs = np.column_stack([index[found.here.entry], index[found.across.entry]])
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    cuts = np.cumsum([len(record["border"]) for record in records])[:-1]
    return Joined(np.split(ids, cuts), known, sums, pairs, former)


def _merge(min_size: int, values: Values, window: Window, part: tuple[Border, Any]) -> Output:
    """Merge what can be decided in a tile; the record is what cannot."""
    border, former = part
    parts, shape = window.core("parts"), window.grid.shape
    means_of = values(window, former)
    graph, node = merge_tile.graph(parts, means_of, window.tile, shape, border, min_size)
    merged = merge(graph, min_size)
    table, record = merge_tile.leave(graph, merged, node, border[0])
    return Output({"pieces": relabel(parts, table)}, record)


@dataclass(frozen=True)
class Decided:
    """Solution: what the parts that the tiles left became."""

    ids: np.ndarray
    """int64, ids of the parts, ascending."""
    ends: np.ndarray
    """int64, ids of the regions they ended in."""

    def for_tile(self, _tile: Tile, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Return pieces of the tile and the ids of their regions; all others stand alone."""
        name = record["name"].copy()
        mine = record["is_left"]
        name[mine] = self.ends[np.searchsorted(self.ids, name[mine])]
        return record["piece"], name


def _solve(min_size: int, records: Sequence[Record], _grid: Grid, joined: Joined) -> Decided:
    """Run the rounds on what all tiles left."""
    left, count = gather(records)
    pairs = joined.touching
    small = joined.sums[:, 0] < min_size
    pairs = pairs[small[pairs].any(axis=1)]
    large = np.flatnonzero(~small)
    node = np.searchsorted(left.ids[:count], joined.known)
    node[large] = len(left.ids) + np.arange(len(large))
    whole = Graph(
        np.concatenate([left.ids, joined.known[large]]),
        np.concatenate([left.sums, joined.sums[large]]),
        np.concatenate([left.moves, np.full(len(large), NEVER, np.int32)]),
        np.concatenate([left.target, np.full(len(large), NOBODY, np.int32)]),
        np.concatenate([left.edges, node[pairs].astype(np.int32)]),
        np.zeros(len(left.ids) + len(large), bool),
    )
    merged = merge(whole, min_size)
    return Decided(left.ids[:count], merged.ids[merged.ends()[:count]])


def _number(window: Window, named: tuple[np.ndarray, np.ndarray]) -> Output:
    """Give the regions of a tile their numbers."""
    regions, ids = merge_tile.number(window.core("pieces"), *named)
    return Output({"regions": regions}, rank.summary(regions, ids, window.tile, window.grid.shape))
