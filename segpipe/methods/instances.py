"""Objects from fields of a network: markers where it is deep, and an exact seeded watershed.

Fields are bytes, so all that follows the network is integer arithmetic and the same for every
tiling. A pixel is foreground if it is probably not background. Where the depth, the distance to the
rim or the probability of the interior, reaches a threshold, each 4-connected part is a marker; the
foreground is flooded from these, deepest pixels first, plateaus by the distance to the markers.
Foreground that no marker reaches, and objects that are too small or too weak, become background.

For `flood`, markers are plateaus below all else: with the altitudes chosen here a component settles
if and only if it holds one, see `watershed_kernels`.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from segpipe.methods import watershed_altitude as land
from segpipe.methods.watershed import decided, travelling
from segpipe.methods.watershed_kernels import flood
from segpipe.passes import ImageInfo, Output, Pass, Record, Window, run_in_memory
from segpipe.regions import groups, join
from segpipe.regions.finish import plane_sums
from segpipe.regions.label import label_codes
from segpipe.tiles import Grid, Tile

LEVELS = 255
"""Fields are whole 255ths."""
SETTLES = 256
"""Height of all else above markers, and depth from which a component settles: more than `LEVELS`,
so that without a marker none does."""
NEAR = 31
"""Pixels (by sides) up to which the distance to markers orders plateaus."""


@dataclass(frozen=True)
class Rule:
    """How fields become objects; thresholds in 255ths."""

    foreground: int = 128
    """Least share of what is not background."""
    marker: int = 128
    """Least depth of a marker."""
    depth: tuple[int, ...] = (1,)
    """Planes whose maximum is the depth."""
    classes: tuple[int, ...] = (1,)
    """Planes of the classes of objects."""
    min_marker: int = 1
    """Smaller markers (px) are ignored."""
    min_size: int = 1
    """Smaller objects (px) are left out."""
    min_score: int = 0
    """Objects are left out whose pixels give their class less than this, on average."""


def instances(fields: np.ndarray, rule: Rule) -> np.ndarray:
    """Return the objects in the fields of a whole image.

    Parameters
    ----------
    fields
        (H, W, K) uint8 in 255ths, background first; all 0 where there is no pixel.
    rule
        Thresholds and planes.

    Returns
    -------
    labels
        (H, W) uint32: 1..N in raster order of each object's first pixel, 0 = background.

    Notes
    -----
    *Tiling*: identical for every tiling: it is what `instance_passes` does on one tile.

    Examples
    --------
    >>> inside = np.array([[0, 200, 130, 220, 0, 140]], np.uint8)
    >>> fields = np.stack([255 - inside, inside], axis=2)
    >>> instances(fields, Rule(marker=190)).tolist()
    [[0, 1, 1, 2, 0, 0]]
    """
    info = ImageInfo((fields.shape[0], fields.shape[1]), fields.shape[2], "uint8")
    arrays = {"image": fields, "fields": np.ascontiguousarray(fields)}
    return run_in_memory(instance_passes(rule, info), arrays)[0]["regions"]


def instance_passes(rule: Rule, image: ImageInfo) -> tuple[Pass, ...]:
    """Return the passes from ``fields`` to ``regions``, before `finish.label_pass`."""
    whole = image.shape[0] * image.shape[1] > 0 and rule.min_marker > 1
    first = (_marks_pass(rule), _MARKERS) if whole else ()
    basins = Pass(
        name="basins",
        map=partial(_flood, rule),
        reads=("fields", "markers") if first else ("fields",),
        writes={"parts": "uint32"},
        halo=NEAR + 1,
        solve=partial(_solve, rule),
        bytes_per_pixel=40,
        cost_ns=30.0,
    )
    return (*first, basins, groups.regions_pass())


def _marks_pass(rule: Rule) -> Pass:
    """Return the pass that finds markers and how large they are."""
    return Pass(
        name="marks",
        map=partial(_mark, rule),
        reads=("fields",),
        writes={"marks": "uint32"},
        solve=partial(_weigh, rule),
        bytes_per_pixel=16,
        cost_ns=6.0,
    )


def _mark(rule: Rule, window: Window, _part: Any) -> Output:
    deep = _seen(window.core("fields"), rule)[1]
    marks, n = label_codes(deep, 1, 0)
    record = join.summary(marks, n, window.tile, window.grid.shape)
    areas = np.bincount(marks.ravel(), minlength=n + 1)
    return Output({"marks": marks}, record | {"area": areas[record["border"]]})


@dataclass(frozen=True)
class _Kept:
    """Solution: which markers at seams are large enough."""

    kept: list[np.ndarray]
    least: int

    def for_tile(self, tile: Tile, record: Record) -> tuple[np.ndarray, np.ndarray, int]:
        return record["border"], self.kept[tile.number], self.least


def _weigh(rule: Rule, records: Sequence[Record], grid: Grid, _former: Any) -> _Kept:
    found = join.facing(records, grid)
    ids = join.unite(records, found.here.entry, found.across.entry)
    areas = np.concatenate([record["area"] for record in records])
    _, group = np.unique(ids, return_inverse=True)
    total = np.zeros(int(group.max(initial=-1)) + 1, np.int64)
    np.add.at(total, group, areas)
    cuts = np.cumsum([len(record["border"]) for record in records])[:-1]
    return _Kept(np.split(total[group] >= rule.min_marker, cuts), rule.min_marker)


def _keep(window: Window, part: tuple[np.ndarray, np.ndarray, int]) -> Output:
    """Leave out markers that are too small."""
    marks, (border, kept, least) = window.core("marks"), part
    enough = np.bincount(marks.ravel()) >= least
    enough[border] = kept
    enough[0] = False
    return Output({"markers": enough[marks].view(np.uint8)})


_MARKERS = Pass("markers", _keep, ("marks",), {"markers": "uint8"}, bytes_per_pixel=10, cost_ns=3.0)


def _seen(fields: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return foreground, deep foreground (both uint8, 0 or 1) and depth."""
    out = np.empty((3, *fields.shape[:2]), np.uint8)
    _look(fields, np.asarray(rule.depth), rule.foreground, rule.marker, out)
    return out[0], out[1], out[2]


@njit(nogil=True, cache=True)
def _look(fields, depth, foreground, marker, out):
    for y in range(fields.shape[0]):
        for x in range(fields.shape[1]):
            most = np.uint8(0)
            for k in range(1, fields.shape[2]):
                most = max(most, fields[y, x, k])
            deepest = np.uint8(0)
            for k in depth:
                deepest = max(deepest, fields[y, x, k])
            # all planes are 0 where there is no pixel
            inside = LEVELS - fields[y, x, 0] >= foreground and most > 0
            out[0, y, x] = inside
            out[1, y, x] = inside and deepest >= marker
            out[2, y, x] = deepest


def _flood(rule: Rule, window: Window, _part: Any) -> Output:
    """Flood a tile as far as it is certain; leave out what ends here and does not count."""
    tile, shape = window.tile, window.grid.shape
    inside, deep, depth = _seen(window.arrays["fields"], rule)
    if "markers" in window.arrays:
        deep = window.arrays["markers"]
    ring = tile.core.grown(1, shape)
    part = ring.within(tile.window)
    leading = np.where(deep, 0, SETTLES + LEVELS - depth.astype(np.uint16)).astype(np.uint16)
    rest = steps_to(deep)[part].astype(np.uint16)
    nowhere = np.zeros(ring.shape, bool)
    known = inside[part].view(bool)
    altitude, kind = land.framed(leading[part], rest, known, nowhere, tile)
    parts, low, _open, edges = flood(altitude, kind, SETTLES)
    record = travelling(parts, low, edges, altitude, tile, shape)
    area = np.bincount(parts.ravel(), minlength=len(low)).astype(np.int64)
    votes = plane_sums(parts, window.core("fields"), np.asarray(rule.classes), len(low))
    counts = _counts(rule, low, area, votes)
    counts[record["part"]] = True
    counts[0] = True
    if not counts.all():
        parts = np.where(counts[parts], parts, np.uint32(0))
    going_on = record["part"]
    return Output({"parts": parts}, record | {"area": area[going_on], "votes": votes[going_on]})


def _counts(rule: Rule, low: np.ndarray, area: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Tell which parts hold a marker, and are large and certain enough."""
    score = votes.max(axis=1, initial=0)
    return (low < SETTLES) & (area >= rule.min_size) & (score >= rule.min_score * area)


def _solve(rule: Rule, records: Sequence[Record], _grid: Grid, _former: Any) -> groups.Groups:
    """Decide what travelled; leave out objects that do not count."""
    vertices = groups.Vertices.gather(records)
    group, low = decided(vertices, SETTLES)
    area = np.zeros(len(group), np.int64)
    np.add.at(area, group, vertices.values("area"))
    votes = np.zeros((len(group), len(rule.classes)), np.int64)
    np.add.at(votes, group, vertices.values("votes"))
    group[~_counts(rule, low, area, votes)[group]] = groups.GONE
    return vertices.solved(group)


@njit(nogil=True, cache=True)
def steps_to(marked):
    """Return uint8 steps by sides from each pixel to the nearest marked one, at most NEAR + 1.

    Two sweeps; what lies within NEAR of a pixel decides, so a halo of that is enough.
    """
    h, w = marked.shape
    out = np.empty((h, w), np.uint8)
    far = np.uint8(NEAR + 1)
    for y in range(h):
        for x in range(w):
            d = far
            if marked[y, x]:
                d = np.uint8(0)
            else:
                if y:
                    d = min(d, np.uint8(out[y - 1, x] + 1))
                if x:
                    d = min(d, np.uint8(out[y, x - 1] + 1))
            out[y, x] = d
    for y in range(h - 1, -1, -1):
        for x in range(w - 1, -1, -1):
            d = out[y, x]
            if y + 1 < h:
                d = min(d, np.uint8(out[y + 1, x] + 1))
            if x + 1 < w:
                d = min(d, np.uint8(out[y, x + 1] + 1))
            out[y, x] = d
    return out
