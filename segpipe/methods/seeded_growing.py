"""Seeded region growing in rounds: fronts that advance where colours fit the means of the regions.

Adams and Bischof, "Seeded region growing", IEEE TPAMI 16(6), 1994, 10.1109/34.295913, let the pixel
that differs least from the mean of a region beside it join that region, and the mean follows at
once: the result hangs on one queue for the whole image. Here, means stay fixed while regions grow,
as in Buyssens, Gardin, Ruan, "Eikonal based region growing for superpixels generation", IRBM 35(1),
2014, 10.1016/j.irbm.2013.12.007; afterwards they are taken anew, and regions grow again from their
seeds. How fronts cross tiles is written out in `segpipe.regions.fronts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.colour import known
from segpipe.methods import points, whole
from segpipe.methods.kinds import check_kinds
from segpipe.methods.points import Point
from segpipe.methods.ranges import is_rgb, ranges_pass
from segpipe.methods.region_growing_kernels import calm_seeds
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import fronts, owners
from segpipe.regions.finish import label_pass
from segpipe.tiles import Grid, Tile

UNIT = 8
"""Steps per Lab unit, of colours and costs."""
SPREAD = 4
"""Halo in steps of the lattice of seeds: most regions end nearer, see `fronts`."""
POINTS_HALO = 192
"""Halo round seeds that are given, in pixels; any one gives the same labels."""
FARTHEST = 1024


@dataclass(frozen=True)
class SeededGrowing:
    """Regions grown from seeds until they meet, where colours fit their means (rounds)."""

    seeds: tuple[Point, ...] = ()
    """[row, column] of each seed, or [row, column, label] where several share a region; a file of
    points (CSV, GeoJSON); without any, one in every square of `step` pixels, at its calmest pixel
    (least gradient). Seeds on masked pixels grow nothing."""
    step: int = 16
    """Side of the squares for automatic seeds, on the lattice of the whole image, 2 to 128."""
    compactness: float = 2.0
    """Colour difference, in Lab units (images that are not RGB: percent of their range of values),
    that costs as much as one pixel of way, 0.5 to 30; costs rise with its square. Large values make
    regions round, small ones let them follow colours."""
    rounds: int = 2
    """How often regions grow; between rounds their mean colours are taken anew, 1 to 20."""
    reach: int | None = None
    """Regions end where the way from the seed has cost as much as this many plain pixels, 1 to
    1024; what none reaches stays 0. null: they grow until they meet."""

    name: ClassVar[str] = "seeded-growing"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    partial: ClassVar[bool] = True
    """What no seed reaches stays 0."""
    points: ClassVar[str] = "seeds"
    """The parameter that may name a file of points."""

    def __post_init__(self) -> None:
        check_kinds(self)
        object.__setattr__(self, "seeds", points.as_points(self.seeds, "seeds"))
        for field, low, high, advice in (
            ("step", 2, 128, "12 to 32 are common"),
            ("compactness", 0.5, 30.0, "1 to 5 suit photographs"),
            ("rounds", 1, 20, "2 or 3 are enough"),
            ("reach", 1, FARTHEST, "leave it out to let regions grow until they meet"),
        ):
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{field} must be {low} to {high}, got {value}; {advice}")

    @property
    def base(self) -> int:
        """Cost of one pixel of way, in steps."""
        return round((self.compactness * UNIT) ** 2) >> fronts.SHIFT

    @property
    def cap(self) -> int:
        """Highest cost of a way."""
        return int(fronts.FAR) - 1 if self.reach is None else self.reach * self.base

    @property
    def halo(self) -> int:
        """Context of a tile; it decides how much travels, not what comes out."""
        if self.reach is not None:
            return self.reach
        return POINTS_HALO if self.seeds else SPREAD * self.step

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: (ranges,) seeds, rounds of growing, regions, canonical labels."""
        points.check_inside(self.seeds, image, "seed")
        reads = ("image", "mask") if image.masked else ("image",)
        size = 10 * max(3, image.channels)
        find = Pass(
            "seeds",
            partial(_find, self),
            reads,
            halo=1 if self.seeds else self.step,
            solve=partial(_gather, self),
            bytes_per_pixel=12 + size,
            cost_ns=8.0,
        )
        grow = Pass(
            "grow",
            partial(_grow, self),
            reads,
            halo=self.halo,
            solve=partial(_renew, self),
            bytes_per_pixel=70 + size,
            cost_ns=300.0,
        )
        rounds = [replace(grow, name=f"grow-{i}") for i in range(1, self.rounds + 1)]
        rounds[-1] = replace(
            rounds[-1],
            map=partial(_paint, self),
            writes={"owner": "uint32"},
            solve=partial(_end, self),
        )
        before = () if is_rgb(image) else (ranges_pass(image),)
        return (*before, find, *rounds, owners.settle_pass(), label_pass(image, classes="seed"))


def seeded_growing(
    image: np.ndarray,
    seeds: Sequence[Sequence[int]] = (),
    *,
    step: int = 16,
    compactness: float = 2.0,
    rounds: int = 2,
    reach: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Grow regions from seeds until they meet, where colours fit their means.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): uint8, uint16, int16 or float; three channels of uint8 are sRGB and
        compared in CIELAB, of others each channel is scaled from its 0.5 % to its 99.5 % quantile.
        Pixels with NaN or infinity count as masked.
    seeds, step, compactness, rounds, reach
        See `SeededGrowing`.
    mask
        (H, W), non-zero where regions may grow; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 0 where masked or not reached, else 1..N in raster order of each region's
        first pixel. Seeds that share a label may give several segments.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range, or a seed lies outside.

    Notes
    -----
    *Tiling*: identical for every tiling, without repetition: a tile proves which of its pixels
    nothing outside its window can change; the others travel and are finished in one place. They are
    few where a tile holds seeds closer to each other than its halo; from few seeds far apart nearly
    all pixels travel (some 100 bytes each) unless `reach` bounds the regions, with which none does.
    Means are taken from integer sums. A run's table says each segment's ``seed``: its label or its
    number, counted from 0.
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    Examples
    --------
    >>> image = np.array([[10, 12, 14, 90, 92], [50, 11, 60, 91, 90]], np.uint8)
    >>> seeded_growing(image, [(0, 0), (1, 4)]).tolist()
    [[1, 1, 1, 2, 2], [1, 1, 2, 2, 2]]
    """
    image = colour.as_channels(image)
    parameters = SeededGrowing(seeds, step, compactness, rounds, reach)  # type: ignore[arg-type]
    return whole.segment(parameters.passes, image, mask)


@dataclass(frozen=True)
class Seeds:
    """Solution: the seeds, and the sums of colours of their regions so far."""

    parameters: SeededGrowing
    scale: colour.Scaling | None
    place: np.ndarray
    """int64[m, 2]"""
    label: np.ndarray
    """int64[m]"""
    labels: np.ndarray
    """int64[n], the labels there are, ascending."""
    sums: np.ndarray
    """int64[n, 1 + C]: pixels, sums of their colours."""

    @property
    def means(self) -> np.ndarray:
        """int32[n, C], rounded half up."""
        count = np.maximum(self.sums[:, :1], 1)
        return ((2 * self.sums[:, 1:] + count) // (2 * count)).astype(np.int32)

    def for_tile(self, tile: Tile, _record: Record) -> Seeds:
        """Return the seeds within the halo of a tile."""
        halo = self.parameters.halo
        near = (self.place >= np.array(tile.core.start) - halo).all(axis=1)
        near &= (self.place < np.array(tile.core.stop) + halo).all(axis=1)
        labels = np.unique(self.label[near])
        sums = self.sums[np.searchsorted(self.labels, labels)]
        return replace(
            self, place=self.place[near], label=self.label[near], labels=labels, sums=sums
        )


def _find(parameters: SeededGrowing, window: Window, scale: colour.Scaling | None) -> Output:
    """Find the seeds of a tile and the colours of the pixels round them."""
    image, (origin, core) = window.arrays["image"], (window.tile.window.start, window.tile.core)
    valid = known(image, window.arrays.get("mask"))
    if parameters.seeds:
        place, label = points.places(parameters.seeds), points.numbers(parameters.seeds)
        inside = ((place >= core.start) & (place < core.stop)).all(axis=1)
        place, label = place[inside], label[inside]
    else:
        place = calm_seeds(image, valid, origin, core, parameters.step)
        across = -(-window.grid.shape[1] // parameters.step)
        label = place[:, 0] // parameters.step * across + place[:, 1] // parameters.step
    inside = np.ones(image.shape[:2], bool) if valid is None else valid
    here = inside[tuple((place - origin).T)]
    place, label = place[here], label[here]
    planes = colour.planes(image, UNIT, scale)
    sums = np.zeros((len(place), 1 + len(planes)), np.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = (place + np.array([dy, dx]) - origin).T
            counts = (y >= 0) & (x >= 0) & (y < inside.shape[0]) & (x < inside.shape[1])
            y, x = y[counts], x[counts]
            weight = inside[y, x].astype(np.int64)
            sums[counts, 0] += weight
            sums[counts, 1:] += planes[:, y, x].T * weight[:, None]
    return Output(record={"place": place, "label": label, "sums": sums})


def _gather(
    parameters: SeededGrowing, records: Sequence[Record], _grid: Grid, former: Any
) -> Seeds:
    """Put the seeds of all tiles together."""
    place, label, sums = (
        np.concatenate([record[name] for record in records]) for name in ("place", "label", "sums")
    )
    labels, added = _added(label, sums)
    return Seeds(parameters, former.scale if former else None, place, label, labels, added)


def _added(label: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up the rows of each label."""
    labels, index = np.unique(label, return_inverse=True)
    added = np.zeros((len(labels), sums.shape[1]), np.int64)
    np.add.at(added, index, sums)
    return labels, added


def _grow(parameters: SeededGrowing, window: Window, part: Seeds) -> Output:
    """Let the fronts grow in a tile; add up the colours of what is certain of its regions."""
    owner, record, colours = _advance(parameters, window, part)
    flat, n = owner.ravel(), len(part.labels) + 1
    inner = np.moveaxis(colours[window.tile.inner], 2, 0)
    sums = [np.bincount(flat, minlength=n)]
    sums += [np.bincount(flat, plane.ravel(), n) for plane in inner]
    total = np.stack(sums, axis=1).astype(np.int64)[1:]  # exact: below 2^53
    met = total[:, 0] > 0
    return Output(record=record | {"label": part.labels[met], "sums": total[met]})


def _paint(parameters: SeededGrowing, window: Window, part: Seeds) -> Output:
    """Let the fronts grow in a tile for the last time."""
    owner, record, _colours = _advance(parameters, window, part)
    return Output({"owner": _codes(part.labels)[owner]}, record)


def _advance(
    parameters: SeededGrowing, window: Window, part: Seeds
) -> tuple[np.ndarray, Record, np.ndarray]:
    """Return owners and record of `fronts.grow`, and the colours int16 (h, w, C)."""
    image, tile = window.arrays["image"], window.tile
    valid = known(image, window.arrays.get("mask"))
    planes = colour.planes(image, UNIT, part.scale)
    marks = np.zeros(image.shape[:2], np.int32)
    place = part.place - tile.window.start
    inside = ((place >= 0) & (place < marks.shape)).all(axis=1)
    index = 1 + np.searchsorted(part.labels, part.label[inside])
    order = np.argsort(-index, kind="stable")  # of labels on one pixel the least stays
    marks[tuple(place[inside][order].T)] = index[order]
    step = np.full(marks.shape, parameters.base, np.uint16)
    if valid is not None:
        step[~valid] = 0
    colours = np.ascontiguousarray(np.moveaxis(planes, 0, 2))
    ground = fronts.Ground(marks, step, colours, part.labels, part.means, parameters.cap)
    return *fronts.grow(ground, tile, window.grid), colours


def _codes(labels: np.ndarray) -> np.ndarray:
    """Return uint32[n + 1], 1 + label by 1 + index; 0 stays 0."""
    return np.concatenate([[0], labels + 1]).astype(np.uint32)


def _renew(
    parameters: SeededGrowing, records: Sequence[Record], grid: Grid, former: Seeds
) -> Seeds:
    """Finish the fronts and take the means of the regions."""
    owner = np.concatenate(_finished(parameters, records, grid, former))
    colours = np.concatenate([record["colour"] for record in records]).astype(np.int64)
    sums = np.concatenate([np.ones((len(colours), 1), np.int64), colours], axis=1)
    reached = owner > 0
    label = [record["label"] for record in records] + [former.labels[owner[reached] - 1]]
    labels, added = _added(
        np.concatenate(label), np.concatenate([*(r["sums"] for r in records), sums[reached]])
    )
    renewed = former.sums.copy()
    renewed[np.searchsorted(former.labels, labels)] = added
    return replace(former, sums=renewed)


def _end(
    parameters: SeededGrowing, records: Sequence[Record], grid: Grid, former: Seeds
) -> owners.Owners:
    """Finish the fronts of the last round."""
    codes = _codes(former.labels)
    return owners.Owners([codes[f] for f in _finished(parameters, records, grid, former)])


def _finished(
    parameters: SeededGrowing, records: Sequence[Record], grid: Grid, former: Seeds
) -> list[np.ndarray]:
    return fronts.finish(records, grid, former.labels, former.means, parameters.cap)
