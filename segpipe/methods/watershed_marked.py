"""Watershed from markers with labels: points, the segments of another stage, compact or not.

Without compactness the forest of `watershed_kernels` says which marker a part belongs to. With it,
regions are fronts (`segpipe.regions.fronts`) whose way costs the altitude of every pixel and as
much again for the pixel itself: after Neubert and Protzel, "Compact watershed and preemptive SLIC",
ICPR 2014, 10.1109/ICPR.2014.181, who add the straight distance to the marker instead; ways add up,
so a tile can prove what is certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe import colour
from segpipe.colour import known
from segpipe.methods import points
from segpipe.methods import watershed_altitude as land
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import fronts, join, owners
from segpipe.regions.label import label_codes
from segpipe.tiles import Box, Grid, Tile

if TYPE_CHECKING:
    from segpipe.methods.watershed import Watershed

SHIFTS = {"gradient": 6, "image": 4}
"""Altitudes are shifted right by this much to be costs: 8 steps per Lab unit of the gradient or
8-bit value, 16 per unit of lightness."""
FULL = int(fronts.FAR) - 1


def codes(parameters: Watershed, window: Window, box: Box) -> np.ndarray:
    """Return 1 + the label of each marked pixel of a box in the window, uint32; 0 = no marker."""
    out = np.zeros(box.shape, np.uint32)
    if parameters.markers == "segments":
        segments = window.arrays["segments"][box.within(window.tile.window)]
        if segments.size and segments.max() > points.LARGEST:
            raise ValueError(
                f"labels of markers must be at most {points.LARGEST}, got {segments.max()}; number"
                " them anew"
            )
        return (segments + (segments > 0)).astype(np.uint32)
    given = parameters.markers
    assert not isinstance(given, str)
    at, number = points.places(given) - box.start, points.numbers(given)
    inside = ((at >= 0) & (at < box.shape)).all(axis=1)
    at, number = at[inside], number[inside]
    order = np.argsort(-number, kind="stable")  # of points on one pixel the least number stays
    out[tuple(at[order].T)] = number[order] + 1
    return out


def part_codes(parameters: Watershed, window: Window, parts: np.ndarray) -> np.ndarray:
    """Return uint32[n + 1], the code of the marker in each of a tile's parts, 0 = none there."""
    found = codes(parameters, window, window.tile.core)
    of_part = np.zeros(int(parts.max(initial=0)) + 1, np.uint32)
    marked = (found > 0) & (parts > 0)
    of_part[parts[marked]] = found[marked]
    return of_part


def regions_pass(parameters: Watershed) -> Pass:
    """Return the pass that turns ``parts`` into regions of one marker; see `_owned`."""
    return Pass(
        name="regions",
        map=partial(_owned, parameters),
        reads=("parts", "segments") if parameters.markers == "segments" else ("parts",),
        writes={"regions": "uint32", "classes": "uint32"},
        solve=partial(join.solve, same=join.equal),
        bytes_per_pixel=24,
        cost_ns=10.0,
    )


def _owned(parameters: Watershed, window: Window, part: tuple[np.ndarray, np.ndarray]) -> Output:
    """Label the connected pixels of one marker; `part` has the codes of parts that travelled."""
    parts, (numbers, found) = window.core("parts"), part
    of_part = part_codes(parameters, window, parts)
    of_part[numbers] = found
    owner = of_part[parts]
    regions, n = label_codes(owner, 1, 0)
    record = join.summary(regions, n, window.tile, window.grid.shape, owner)
    return Output({"regions": regions, "classes": owner}, record)


def fronts_pass(parameters: Watershed, image: ImageInfo) -> Pass:
    """Return the pass that writes ``owner``: fronts from the markers."""
    masks = ("mask",) if image.masked else ()
    marks = ("segments",) if parameters.markers == "segments" else ()
    return Pass(
        name="fronts",
        map=partial(_grow, parameters),
        reads=("image", *masks, *marks),
        writes={"owner": "uint32"},
        halo=_spread(parameters) + land.context(parameters),
        solve=_finish,
        bytes_per_pixel=90 + 4 * max(3, image.channels),
        cost_ns=200.0,
    )


def _spread(parameters: Watershed) -> int:
    """Return how far round a core fronts grow; it decides how much travels, nothing else."""
    return 3 * parameters.step if parameters.markers == "grid" else 96


def _grow(parameters: Watershed, window: Window, scale: colour.Scaling | None) -> Output:
    """Let fronts grow from the markers of a tile and those round it."""
    image, grid = window.arrays["image"], window.grid
    valid = known(image, window.arrays.get("mask"))
    box = window.tile.core.grown(_spread(parameters), grid.shape)
    inner = box.within(window.tile.window)
    leading = land.leading_part(image, valid, parameters, scale)
    if parameters.markers == "grid":
        found = _cells(parameters, leading, valid, window, box)
    else:
        found = codes(parameters, window, box)
    shift = SHIFTS[parameters.altitude]
    base = parameters.compactness * land.unit(parameters, image.dtype, image.shape[2], scale)
    least = int(np.clip(round(base) >> shift, 1, fronts.LEVELS // 2))
    altitude = np.minimum(leading[inner].astype(np.int32) >> shift, fronts.LEVELS - 1 - least)
    step = (altitude + least).astype(np.uint16)
    if valid is not None:
        step[~valid[inner]] = 0
    labels = np.unique(found[found > 0]).astype(np.int64)
    marks = np.where(found > 0, np.searchsorted(labels, found) + 1, 0).astype(np.int32)
    ground = fronts.Ground(
        marks, step, np.zeros((*box.shape, 0), np.int16), labels, np.zeros((len(labels), 0), "i4")
    )
    tile = Tile(window.tile.number, window.tile.core, box)
    owner, record = fronts.grow(ground, tile, grid)
    return Output({"owner": np.concatenate([[0], labels]).astype(np.uint32)[owner]}, record)


def _cells(
    parameters: Watershed,
    leading: np.ndarray,
    valid: np.ndarray | None,
    window: Window,
    box: Box,
) -> np.ndarray:
    """Return 1 + the number of the cell at its lowest pixel, 0 elsewhere."""
    marked = np.zeros(box.shape, bool)
    land.grid_markers(leading, valid, window.tile.window, box, parameters.step, marked)
    y, x = np.nonzero(marked)
    across = -(-window.grid.shape[1] // parameters.step)
    out = np.zeros(box.shape, np.uint32)
    row, column = (y + box.start[0]) // parameters.step, (x + box.start[1]) // parameters.step
    out[y, x] = 1 + row * across + column
    return out


def _finish(records: Sequence[Record], grid: Grid, _former: Any) -> owners.Owners:
    """Go on with what travelled from all tiles."""
    labels = np.unique(np.concatenate([record["edge_label"] for record in records]))
    found = fronts.finish(records, grid, labels, np.zeros((len(labels), 0), np.int32), FULL)
    table = np.concatenate([[0], labels]).astype(np.uint32)
    return owners.Owners([table[owner] for owner in found])
