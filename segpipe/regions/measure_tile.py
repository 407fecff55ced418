"""What is measured of the regions of a tile, exact across tiles and equal to scikit-image.

All sums are integers, of floating images too (`exact`), so the order of tiles cannot matter. A
region that ends inside a tile is measured by the tile; only regions at seams travel, as partial
sums that `columns` puts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from segpipe.passes import Columns, Rows
from segpipe.regions import borders, colours, columns, percentiles, places
from segpipe.regions.columns import Wanted
from segpipe.regions.contours import Ring
from segpipe.regions.runs import Runs, find_runs
from segpipe.regions.sweep import named, sweep


class Seen(NamedTuple):
    """A tile's regions, and what lies round them."""

    regions: np.ndarray
    """uint32 (rows, columns), numbers 0..n, 0 = none."""
    labels: np.ndarray
    """int64[n + 1], labels of the numbers; labels[0] = 0."""
    ring: Ring
    """Two pixels round the tile: the same numbers, and n + 1, … for regions of other tiles."""
    others: np.ndarray
    """int64, labels of the numbers n + 1, …"""
    origin: Sequence[int]
    """Global (y, x) of the upper left pixel."""
    classes: np.ndarray | None = None
    """int64[n + 1], class of the numbers, if the method has classes."""
    votes: np.ndarray | None = None
    """int64[n + 1, classes], what the pixels of the numbers say, if they vote."""
    modes: Mapping[str, np.ndarray] | None = None
    """Sums of `segpipe.regions.modes` by name, if the method has modes."""


def tile_rows(
    seen: Seen, image: np.ndarray | None, border: np.ndarray, wanted: Wanted
) -> dict[str, Rows]:
    """Measure the regions of a tile.

    Parameters
    ----------
    seen
        The regions.
    image
        (rows, columns, channels); None: no colours.
    border
        Numbers of the regions that may go on in other tiles.
    wanted
        What to measure.

    Returns
    -------
    Rows per table: those of regions that end here, and partial sums of the others.
    """
    n = len(seen.labels) - 1
    rest = np.zeros(n + 1, bool)
    rest[border] = True
    shape, colour = "shape" in wanted.groups, image if "colour" in wanted.groups else None
    floating = colour is not None and colour.dtype.kind == "f"
    by_runs = floating or wanted.groups & {"neighbours", "percentiles"}
    runs = find_runs(seen.regions) if by_runs else None
    swept = sweep(
        seen.regions, seen.ring, n, seen.origin, shape=shape, image=None if floating else colour
    )
    others = {"label": seen.labels}
    if seen.classes is not None:
        others["class"] = seen.classes
    if seen.votes is not None:
        others["votes"] = seen.votes
    others |= seen.modes or {}
    if runs and colour is not None and floating:
        others |= colours.float_sums(runs, n, colour)
    present = swept[:, places.AREA] > 0
    ready, going_on = np.flatnonzero(present & ~rest), np.flatnonzero(present & rest)
    chosen = [
        {name: column[rows] for name, column in others.items()} | named(swept[rows], shape=shape)
        for rows in (ready, going_on)
    ]
    done = columns.finished(chosen[0], wanted)
    opened: dict[str, Columns] = {"sums": chosen[1]}
    found: dict[str, Rows] = {}
    if runs and "neighbours" in wanted.groups:
        found["neighbours"] = _neighbours(seen, runs, rest)
    if runs and image is not None and "percentiles" in wanted.groups:
        areas = swept[:, places.AREA]
        more, opened["values"] = _percentiles(runs, seen.labels, areas, image, ready, going_on)
        done |= more
    return {"segments": Rows(done, opened)} | found


def _neighbours(seen: Seen, runs: Runs, rest: np.ndarray) -> Rows:
    """Return lengths of borders of regions that end here, and of those that go on."""
    width, n = seen.regions.shape[1], len(seen.labels) - 1
    inside, across, to_none = borders.edges(seen.ring, runs, n, width)
    names = np.concatenate([seen.labels, seen.others])
    region, neighbour, length = borders.neighbour_rows(inside, across, to_none, names)
    both = []
    for chosen in (~rest[region], rest[region]):
        rows = {"label": seen.labels[region[chosen]], "neighbour": neighbour[chosen]}
        both.append(columns.add_lengths(rows | {"length": length[chosen]}))
    return Rows(both[0], {"lengths": both[1]})


def _percentiles(
    runs: Runs,
    labels: np.ndarray,
    areas: np.ndarray,
    image: np.ndarray,
    ready: np.ndarray,
    going_on: np.ndarray,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return columns of percentiles for regions that end here, counts of values for the others."""
    values, counts = [], []
    for found in percentiles.gathered(runs, areas, image):
        values.append(found.percentiles(ready))
        counts.append(found.counts(going_on, labels[going_on]))
    done = percentiles.named(np.concatenate(values, axis=1))
    joined = {name: np.concatenate([part[name] for part in counts]) for name in counts[0]}
    return done, percentiles.merge(joined)
