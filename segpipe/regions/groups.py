"""Parts that a tile cannot finish alone: what of them travels, and what comes back.

Methods that merge along the edges of the pixel graph (watershed, Felzenszwalb-Huttenlocher) do in a
tile what is certain there. What is left is a small graph: its vertices are the *parts* at the
tile's seams and those they may still join; its edges lead to parts of the same tile, or across a
seam. `Vertices` puts the graphs of all tiles together, the method decides, and `regions_pass` gives
every part the number of its group.

A tile's record holds ``part`` int32, the numbers of the parts that travel, ascending; the pixels
of the core at seams, ``rim_at`` int64 (y * width + x) and ``rim_part`` int32; the edges across
seams to later pixels, ``cross_part`` int32 (here) and ``cross_at`` int64 (pixel there); and what
the method adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from segpipe.passes import Output, Pass, Record, Window
from segpipe.regions import rank
from segpipe.tiles import Tile

GONE = -1
"""Group of parts that end up in no region."""


def rim(parts: np.ndarray, tile: Tile, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the core's pixels at seams that lie in a part: y * width + x, and the part."""
    (height, width), core = parts.shape, tile.core
    rows, columns = np.arange(height) * width, np.arange(width)
    sides = [
        (core.start[0] > 0, columns),
        (core.stop[0] < shape[0], (height - 1) * width + columns),
        (core.start[1] > 0, rows),
        (core.stop[1] < shape[1], rows + width - 1),
    ]
    met = [line for is_seam, line in sides if is_seam]
    rows, columns = np.divmod(np.unique(np.concatenate(met)) if met else rows[:0], width)
    part = parts[rows, columns].astype(np.int32)
    at = (rows + tile.core.start[0]) * shape[1] + columns + tile.core.start[1]
    return at[part > 0], part[part > 0]


class Across(NamedTuple):
    """Edges across seams."""

    here: np.ndarray
    """Vertex at the earlier pixel."""
    there: np.ndarray
    """Vertex at the later pixel."""
    edge: np.ndarray
    """Which of all entries of ``cross_part`` each is."""
    pixel: np.ndarray
    """Which of all entries of ``rim_at`` its later pixel is."""


@dataclass(frozen=True)
class Vertices:
    """The travelling parts of all tiles, one tile after the other."""

    records: Sequence[Record]
    starts: np.ndarray
    """int64[tiles + 1], first vertex of each tile; the last entry is the number of vertices."""

    @classmethod
    def gather(cls, records: Sequence[Record]) -> Vertices:
        """Put the parts of all records in one row."""
        return cls(records, np.cumsum([0, *(len(record["part"]) for record in records)]))

    def values(self, name: str) -> np.ndarray:
        """Return what the records say under `name`, one after the other."""
        return np.concatenate([record[name] for record in self.records])

    def of(self, name: str) -> np.ndarray:
        """Return the vertices of the part numbers that the records hold under `name`."""
        found = (
            start + np.searchsorted(record["part"], record[name])
            for start, record in zip(self.starts, self.records, strict=False)
        )
        return np.concatenate(list(found))

    def across(self) -> Across:
        """Return the edges across seams that lead to a part."""
        at, vertex = self.values("rim_at"), self.of("rim_part")
        order = np.argsort(at, kind="stable")
        at, vertex = at[order], vertex[order]
        wanted = self.values("cross_at")
        place = np.searchsorted(at, wanted)
        place[place == len(at)] = 0
        known = np.flatnonzero(at[place] == wanted) if len(at) else np.zeros(0, np.int64)
        place = place[known]
        return Across(self.of("cross_part")[known], vertex[place], known, order[place])

    def solved(self, group: np.ndarray) -> Groups:
        """Hand each tile the groups (int64 per vertex, `GONE` for none) of its parts."""
        return Groups(np.split(group, self.starts[1:-1]))


@dataclass(frozen=True)
class Groups:
    """Solution: which travelling parts are one region."""

    group: list[np.ndarray]
    """Per tile, int64: the group of each of the record's ``part``."""

    def for_tile(self, tile: Tile, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Return the tile's travelling parts and their groups."""
        return record["part"], self.group[tile.number]


def regions_pass() -> Pass:
    """Return the pass that turns ``parts`` into ``regions``; the pass before solves to `Groups`."""
    return Pass(
        name="regions",
        map=_regroup,
        reads=("parts",),
        writes={"regions": "uint32"},
        solve=rank.solve,
        bytes_per_pixel=12,
        cost_ns=4.0,
    )


def _regroup(window: Window, part: tuple[np.ndarray, np.ndarray]) -> Output:
    """Give the parts their groups and number them by first pixel; only travellers need an id."""
    parts, (numbers, group) = window.core("parts"), part
    count = int(parts.max(initial=0))
    heir = np.arange(count + 1)
    _, first, same = np.unique(group, return_index=True, return_inverse=True)
    heir[numbers] = np.where(group == GONE, 0, numbers[first[same]] if len(first) else 0)
    group_of = np.full(count + 1, GONE)
    group_of[numbers] = group
    regions, order = _number(parts, heir)
    return Output({"regions": regions}, rank.summary(regions, group_of[order], *_place(window)))


def _place(window: Window) -> tuple[Tile, tuple[int, ...]]:
    return window.tile, window.grid.shape


@njit(nogil=True, cache=True)
def _number(parts: np.ndarray, heir: np.ndarray) -> Any:
    """Return heir[parts] renumbered 1, 2, … by first pixel, and the part behind each number."""
    number = np.zeros(len(heir), np.uint32)
    order = np.empty(len(heir), np.int64)
    out = np.zeros(parts.shape, np.uint32)
    count = 0
    for y in range(parts.shape[0]):
        for x in range(parts.shape[1]):
            part = np.uint64(heir[np.uint64(parts[y, x])])
            if part == 0:
                continue
            if number[part] == 0:
                order[count] = part
                count += 1
                number[part] = count
            out[y, x] = number[part]
    return out, order[:count].copy()
