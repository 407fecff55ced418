"""Objects from fields of a network: an exact watershed of how deep inside an object a pixel lies.

Fields are bytes, so all that follows the network is integer arithmetic and the same for every
tiling. A pixel is foreground if it is probably not background. Its depth is the distance to the
rim, or else the probability of the interior, less a share of the probability of a border. The
foreground is flooded from the deepest pixels; a peak that does not rise enough above the saddle to
a deeper one, its dynamics (Grimaud, SPIE 1769, 1992, 10.1117/12.60650), belongs to that. Objects
that are nowhere deep enough, or too small, or too weak, become background.

Why not markers where the depth reaches a threshold: of two touching objects the saddle may be
deeper than the middle of a third one that is small or blurred, and no threshold is right for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segpipe.methods.instances_kernels import LEVELS, UNIT, areas, landscape
from segpipe.methods.watershed import decided, travelling
from segpipe.methods.watershed_altitude import NEAR
from segpipe.methods.watershed_kernels import NONE, OUTSIDE, flood
from segpipe.passes import Output, Pass, Record, Window, run_in_memory
from segpipe.regions import groups
from segpipe.regions.colours import plane_sums
from segpipe.regions.finish import relabel
from segpipe.tiles import Grid


@dataclass(frozen=True)
class Rule:
    """How fields become objects; thresholds in 255ths."""

    foreground: int = 128
    """Least share of what is not background."""
    marker: int = 128
    """Objects are left out whose deepest pixel is less deep."""
    dynamics: int = 64
    """A peak of depth is an object of its own if it rises so much above the saddle to a deeper one,
    at least 1."""
    depth: tuple[int, ...] = (1,)
    """Planes whose maximum is the depth."""
    border: int | None = None
    """Plane of borders, if there is one."""
    border_share: int = 0
    """256ths of the border that are taken off the depth."""
    classes: tuple[int, ...] = (1,)
    """Planes of the classes of objects."""
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
    >>> instances(fields, Rule(marker=190, dynamics=100)).tolist()
    [[0, 1, 1, 1, 0, 0]]
    >>> instances(fields, Rule(marker=190)).tolist()
    [[0, 1, 2, 2, 0, 0]]
    """
    arrays = {"image": fields, "fields": np.ascontiguousarray(fields)}
    return run_in_memory(instance_passes(rule), arrays)[0]["regions"]


def instance_passes(rule: Rule) -> tuple[Pass, ...]:
    """Return the passes from ``fields`` to ``regions``, before `finish.label_pass`."""
    basins = Pass(
        name="basins",
        map=partial(_flood, rule),
        reads=("fields",),
        writes={"parts": "uint32"},
        halo=NEAR + 1,
        solve=partial(_solve, rule),
        bytes_per_pixel=40,
        cost_ns=15.0,
    )
    return (basins, groups.regions_pass())


def _landscape(window: Window, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Return altitude and kind of a core and one pixel round it, as `flood` wants them."""
    core, box = window.tile.core, window.tile.window
    altitude = np.full([n + 2 for n in core.shape], NONE)
    kind = np.full(altitude.shape, OUTSIDE, np.uint8)
    ring = core.grown(1, window.grid.shape)
    inside = tuple(a - b for a, b in zip(ring.start, box.start, strict=True))
    frame = tuple(a - b + 1 for a, b in zip(ring.start, core.start, strict=True))
    border = (rule.border or 0, rule.border_share if rule.border is not None else 0)
    place = (inside, frame, ring.shape)
    fields, depth = window.arrays["fields"], np.asarray(rule.depth)
    landscape(fields, depth, border, rule.foreground, place, altitude, kind)
    return altitude, kind


def _flood(rule: Rule, window: Window, _part: Any) -> Output:
    """Flood a tile as far as it is certain; leave out what ends here and does not count."""
    tile, shape = window.tile, window.grid.shape
    altitude, kind = _landscape(window, rule)
    parts, low, _open, edges = flood(altitude, kind, UNIT * rule.dynamics)
    record = travelling(parts, low, edges, altitude, tile, shape)
    area, votes = areas(parts, len(low)), np.zeros((len(low), len(rule.classes)), np.int64)
    if rule.min_score:
        votes = plane_sums(parts, window.core("fields"), np.asarray(rule.classes), len(low))
    counts = _counts(rule, low, area, votes)
    counts[record["part"]] = True
    if not counts[1:].all():
        parts = relabel(parts, np.where(counts, np.arange(len(low)), 0).astype(np.uint32))
    going_on = record["part"]
    return Output({"parts": parts}, record | {"area": area[going_on], "votes": votes[going_on]})


def _counts(rule: Rule, low: np.ndarray, area: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Tell which parts are deep, large and certain enough."""
    score = votes.max(axis=1, initial=0)
    return (
        (low <= UNIT * (LEVELS - rule.marker))
        & (area >= rule.min_size)
        & (score >= rule.min_score * area)
    )


def _solve(rule: Rule, records: Sequence[Record], _grid: Grid, _former: Any) -> groups.Groups:
    """Decide what travelled; leave out objects that do not count."""
    vertices = groups.Vertices.gather(records)
    group, low = decided(vertices, UNIT * rule.dynamics)
    area = np.zeros(len(group), np.int64)
    np.add.at(area, group, vertices.values("area"))
    votes = np.zeros((len(group), len(rule.classes)), np.int64)
    np.add.at(votes, group, vertices.values("votes"))
    group[~_counts(rule, low, area, votes)[group]] = groups.GONE
    return vertices.solved(group)
