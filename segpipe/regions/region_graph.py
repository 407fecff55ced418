"""The region graph of a whole image, in one place: for methods that no tile can begin alone.

Tiles send what they hold of every segment (pixels, sums of colours and of their squares, outer
border, box) and of every interface; integers, so that the graph does not depend on the tiles. A
method decides on it which segments become one. The place that solves needs some 300 bytes for
each segment of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from segpipe import colour
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import rank
from segpipe.regions.agglomerate import summed
from segpipe.regions.finish import relabel
from segpipe.regions.graph import Interfaces, interfaces, number
from segpipe.tiles import Grid, Tile

UNIT = 8
"""Steps per Lab unit of colours …"""
FINE = 2048
"""… and of differences of mean colours."""
u64 = np.uint64


@dataclass(frozen=True)
class RegionGraph:
    """Segments 0..n-1 in ascending order of labels, and their interfaces in ascending order."""

    labels: np.ndarray
    """int64[n]"""
    area: np.ndarray
    """int64[n], pixels."""
    sums: np.ndarray
    """int64[n, C], sums of the colours in 1/`UNIT` Lab units."""
    squares: np.ndarray
    """int64[n, C], sums of their squares."""
    outer: np.ndarray
    """int64[n], pixel sides at the border of the image and at pixels of no segment."""
    box: np.ndarray
    """int64[n, 4]: first and last row, first and last column."""
    edges: Interfaces

    @property
    def means(self) -> np.ndarray:
        """float64[n, C], mean colours in Lab units."""
        return self.sums / (UNIT * self.area[:, None])

    @property
    def differences(self) -> np.ndarray:
        """int64[m], distances of the mean colours of the ends of edges in 1/`FINE` Lab units."""
        area = self.area[:, None]
        means = (2 * (FINE // UNIT) * self.sums + area) // (2 * area)
        apart = means[self.edges.ends[:, 0]] - means[self.edges.ends[:, 1]]
        return np.sqrt((apart**2).sum(axis=1)).astype(np.int64)  # exact: squares below 2^53


Decide = Callable[[RegionGraph], np.ndarray]
"""Return int64[n], the group of each segment; groups are connected."""


@dataclass(frozen=True)
class Merged:
    """Solution: for every segment that waited, the segment it has become part of."""

    nodes: np.ndarray
    roots: np.ndarray

    def for_tile(self, _tile: Tile, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Return the segments that the tile's record names, and what they have become."""
        mine = np.unique(record["nodes"])
        return mine, self.roots[np.searchsorted(self.nodes, mine)]


def graph_pass(name: str, image: ImageInfo, decide: Decide) -> Pass:
    """Return the pass that gathers the graph and lets `decide` group its segments.

    It reads ``image`` and ``segments``; the pass before is `ranges_passes`, or none for RGB.
    """
    return Pass(
        name=name,
        map=_gather,
        reads=("image", "segments"),
        halo=1,
        solve=partial(_solve, decide),
        bytes_per_pixel=28 + (np.dtype(image.dtype).itemsize + 3) * max(3, image.channels),
        cost_ns=50.0,
    )


def regroup_pass(source: str = "segments") -> Pass:
    """Return the pass that numbers the groups; the pass before solves to `Merged`."""
    return Pass(
        name="regions",
        map=partial(_number, source),
        reads=(source,),
        writes={"regions": "uint32"},
        solve=rank.solve,
        bytes_per_pixel=16,
        cost_ns=4.0,
    )


def _gather(window: Window, scale: colour.Scaling | None) -> Output:
    """Return what a tile holds of the graph."""
    numbers, labels = number(window.arrays["segments"])
    planes = colour.planes(window.arrays["image"], UNIT, scale)
    found = interfaces(numbers, planes, window.tile, window.grid.shape[1])
    core, n = (slice(None), *window.tile.inner), len(labels) + 1
    area, sums, squares, box = _totals(numbers[core[1:]], planes[core], window.tile.core.start, n)
    mine = np.flatnonzero(area[1:]) + 1
    return Output(
        record={
            "nodes": labels[mine - 1],
            "area": area[mine],
            "sums": sums[mine],
            "squares": squares[mine],
            "outer": _outer(numbers, window)[mine],
            "box": box[mine],
            "ends": np.sort(labels[found.ends - 1], axis=1),
            "contrast": found.contrast,
            "length": found.length,
            "last": found.last,
        }
    )


def _outer(numbers: np.ndarray, window: Window) -> np.ndarray:
    """Count the sides of the core's pixels that no pixel of a segment is behind."""
    framed = np.pad(numbers, 1)
    rows, columns = (slice(s.start + 1, s.stop + 1) for s in window.tile.inner)
    core = framed[rows, columns]
    count = np.zeros(int(numbers.max(initial=0)) + 1, np.int64)
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        beside = framed[rows.start + dy : rows.stop + dy, columns.start + dx : columns.stop + dx]
        count += np.bincount(core[beside == 0], minlength=len(count))
    return count


@njit(nogil=True, cache=True)
def _totals(numbers: np.ndarray, planes: np.ndarray, origin: Sequence[int], n: int) -> Any:
    """Return pixels, sums, sums of squares [n, C] and boxes [n, 4] of the numbers 0..n-1 in a core.

    A box is the first and last row and column in the image; that of 0 is not looked at.
    """
    channels, height, width = planes.shape
    area = np.zeros(n, np.int64)
    sums = np.zeros((n, channels), np.int64)
    squares = np.zeros((n, channels), np.int64)
    box = np.empty((n, 4), np.int64)
    box[:, 0::2] = 1 << 40
    box[:, 1::2] = -1
    for row in range(height):
        y = row + origin[0]
        for column in range(width):
            at = u64(numbers[u64(row), u64(column)])
            x = column + origin[1]
            area[at] += 1
            box[at, 0] = min(box[at, 0], y)
            box[at, 1] = max(box[at, 1], y)
            box[at, 2] = min(box[at, 2], x)
            box[at, 3] = max(box[at, 3], x)
            for c in range(channels):
                value = np.int64(planes[u64(c), u64(row), u64(column)])
                sums[at, u64(c)] += value
                squares[at, u64(c)] += value * value
    return area, sums, squares, box


def _solve(decide: Decide, records: Sequence[Record], _grid: Grid, _former: Any) -> Merged:
    """Put the graph together and let the method group its segments."""
    graph = gathered(records)
    group = decide(graph)
    least = np.full(len(group), np.iinfo(np.int64).max)
    np.minimum.at(least, group, graph.labels)
    return Merged(graph.labels, least[group])


def gathered(records: Sequence[Record]) -> RegionGraph:
    """Add up what the tiles hold of the graph."""
    columns = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
    nodes, index = np.unique(columns["nodes"], return_inverse=True)
    n = len(nodes)
    added = {}
    for name in ("area", "sums", "squares", "outer"):
        added[name] = np.zeros((n, *columns[name].shape[1:]), np.int64)
        np.add.at(added[name], index, columns[name])
    box = np.tile(np.array([1 << 40, -1, 1 << 40, -1]), (n, 1))
    for side, least in enumerate((True, False, True, False)):
        (np.minimum if least else np.maximum).at(box[:, side], index, columns["box"][:, side])
    ends = np.searchsorted(nodes, columns["ends"])
    edges = Interfaces(ends, columns["contrast"], columns["length"], columns["last"])
    edges = summed(edges, n)
    order = np.lexsort((edges.ends[:, 1], edges.ends[:, 0]))
    return RegionGraph(nodes, **added, box=box, edges=Interfaces(*(c[order] for c in edges)))


def _number(source: str, window: Window, part: tuple[np.ndarray, np.ndarray]) -> Output:
    """Give the merged segments of a tile numbers of their own."""
    nodes, roots = part
    numbers, found = number(window.core(source))
    known = np.flatnonzero(np.isin(found, nodes))
    found[known] = roots[np.searchsorted(nodes, found[known])]
    ids, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty(len(ids), np.uint32)
    place[order] = np.arange(1, len(ids) + 1)
    regions = relabel(numbers, np.concatenate([np.zeros(1, np.uint32), place[inverse]]))
    return Output(
        {"regions": regions}, rank.summary(regions, ids[order], window.tile, window.grid.shape)
    )
