"""What seeded growing does in tiles and between them: seeds, rounds of fronts, means.

A tile finds its seeds (`find`), lets fronts grow from them and from those round it (`grow`,
`paint`) and adds up the colours of its regions; what it cannot be certain of is finished in one
place (`renew`, `end`; see `segpipe.regions.fronts`), where the means of the next round are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segpipe import colour
from segpipe.colour import known
from segpipe.methods.seeds import seeds_in_core
from segpipe.passes import Output, Record, Window
from segpipe.regions import fronts, owners
from segpipe.tiles import Grid, Tile

if TYPE_CHECKING:
    from segpipe.methods.seeded_growing import SeededGrowing

UNIT = 8
"""Steps per Lab unit, of colours and costs."""


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


def find(parameters: SeededGrowing, window: Window, scale: colour.Scaling | None) -> Output:
    """Find the seeds of a tile and the colours of the pixels round them."""
    image, origin = window.arrays["image"], window.tile.window.start
    valid = known(image, window.arrays.get("mask"))
    place, label = seeds_in_core(parameters, window, image, valid)
    inside = np.ones(image.shape[:2], bool) if valid is None else valid
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


def gather(parameters: SeededGrowing, records: Sequence[Record], _grid: Grid, former: Any) -> Seeds:
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


def grow(parameters: SeededGrowing, window: Window, part: Seeds) -> Output:
    """Let the fronts grow in a tile; add up the colours of what is certain of its regions."""
    owner, record, colours = _advance(parameters, window, part)
    flat, n = owner.ravel(), len(part.labels) + 1
    inner = np.moveaxis(colours[window.tile.inner], 2, 0)
    sums = [np.bincount(flat, minlength=n)]
    sums += [np.bincount(flat, plane.ravel(), n) for plane in inner]
    total = np.stack(sums, axis=1).astype(np.int64)[1:]  # exact: below 2^53
    met = total[:, 0] > 0
    return Output(record=record | {"label": part.labels[met], "sums": total[met]})


def paint(parameters: SeededGrowing, window: Window, part: Seeds) -> Output:
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


def renew(parameters: SeededGrowing, records: Sequence[Record], grid: Grid, former: Seeds) -> Seeds:
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


def end(
    parameters: SeededGrowing, records: Sequence[Record], grid: Grid, former: Seeds
) -> owners.Owners:
    """Finish the fronts of the last round."""
    codes = _codes(former.labels)
    return owners.Owners([codes[f] for f in _finished(parameters, records, grid, former)])


def _finished(
    parameters: SeededGrowing, records: Sequence[Record], grid: Grid, former: Seeds
) -> list[np.ndarray]:
    return fronts.finish(records, grid, former.labels, former.means, parameters.cap)
