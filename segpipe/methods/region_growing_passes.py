"""What region growing does in tiles and between them: seeds, what they reach, regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from segpipe.colour import known
from segpipe.methods.region_growing_kernels import claim, within
from segpipe.methods.seeds import seeds_in_core
from segpipe.passes import Output, Record, Window
from segpipe.regions import join, rank
from segpipe.regions.label import label_codes, label_zones
from segpipe.tiles import Grid, Tile

if TYPE_CHECKING:
    from segpipe.methods.region_growing import RegionGrowing

NOBODY = np.iinfo(np.uint32).max
"""Stands for "no seed" where the smallest number of a seed is looked for."""


def _pixels(
    parameters: RegionGrowing, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the channels looked at, and which pixels count."""
    image = arrays["image"]
    if parameters.channel is not None:
        image = image[:, :, parameters.channel : parameters.channel + 1]
    return image, known(image, arrays.get("mask"))


def find(parameters: RegionGrowing, window: Window, _part: None) -> Output:
    """Find the seeds of a tile and their values."""
    image, valid = _pixels(parameters, dict(window.arrays))
    places, numbers = seeds_in_core(parameters, window, image, valid)
    values = image[tuple((places - window.tile.window.start).T)]
    return Output(record={"place": places, "number": numbers, "seed": values})


@dataclass(frozen=True)
class _Seeds:
    """Solution: all seeds by number, and the distinct values among them."""

    place: np.ndarray
    number: np.ndarray
    values: np.ndarray

    def for_tile(self, tile: Tile, _record: Record) -> _Seeds:
        """Return the seeds in the tile's core, and all values."""
        inside = ((self.place >= tile.core.start) & (self.place < tile.core.stop)).all(axis=1)
        return _Seeds(self.place[inside] - tile.core.start, self.number[inside], self.values)


def gather(records: Sequence[Record], _grid: Grid, _former: None) -> _Seeds:
    """Put the seeds of all tiles together."""
    number = np.concatenate([record["number"] for record in records])
    order = np.argsort(number)
    place = np.concatenate([record["place"] for record in records])[order]
    values = np.concatenate([record["seed"] for record in records])
    return _Seeds(place, number[order].astype(np.uint32), np.unique(values, axis=0))


def _layers(
    parameters: RegionGrowing, window: Window, part: _Seeds
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Label, per layer, what could be grown: regions, the best seed of each, what links rims.

    Regions are numbered by first pixel; the best seed is the smallest number among those that lie
    in the region, in this tile.
    """
    image, valid = _pixels(parameters, {name: window.core(name) for name in window.arrays})
    at = part.place[:, 0], part.place[:, 1]
    if parameters.rule == "neighbour":
        regions, n = label_zones(image, valid, parameters.tolerance, parameters.connectivity)
        yield regions, _best(regions[at], part.number, n), image
        return
    for value in part.values:
        codes = within(image, valid, value, parameters.tolerance)
        regions, n = label_codes(codes, parameters.connectivity, 0)
        mine = (image[at] == value).all(axis=1)
        yield regions, _best(regions[at][mine], part.number[mine], n), None


def _best(regions: np.ndarray, numbers: np.ndarray, n: int) -> np.ndarray:
    """Return uint32[n + 1], the smallest number of a seed in each region."""
    best = np.full(n + 1, NOBODY, np.uint32)
    np.minimum.at(best, regions, numbers)
    best[0] = NOBODY
    return best


def reach(parameters: RegionGrowing, window: Window, part: _Seeds) -> Output:
    """Tell, per layer, what lies at the seams and which seeds reach it."""
    record: Record = {}
    if len(window.grid) == 1:  # there are no seams
        return Output()
    for i, (regions, best, values) in enumerate(_layers(parameters, window, part)):
        rims = join.summary(regions, len(best) - 1, window.tile, window.grid.shape, values)
        rims["best"] = best[rims["border"]]
        record |= {f"{i}-{name}": array for name, array in rims.items()}
    return Output(record=record)


@dataclass(frozen=True)
class _Reached:
    """Solution: the best seed of every region at a seam, per tile and layer."""

    seeds: _Seeds
    best: list[list[np.ndarray]]

    def for_tile(self, tile: Tile, record: Record) -> tuple[_Seeds, list[np.ndarray]]:
        """Return the seeds in the tile and the best seeds of its regions at seams, per layer."""
        return self.seeds.for_tile(tile, record), [layer[tile.number] for layer in self.best]


def spread(
    parameters: RegionGrowing,
    same: join.Same | None,
    records: Sequence[Record],
    grid: Grid,
    former: _Seeds,
) -> _Reached:
    """Join the regions of every layer across seams; each gets the best seed of all its parts."""
    count = len(former.values) if parameters.rule == "seed" else 1
    best: list[list[np.ndarray]] = []
    if len(grid) == 1:
        return _Reached(former, [[np.zeros(0, np.uint32)]] * count)
    for i in range(count):
        head = f"{i}-"
        layer = [
            {key.removeprefix(head): a for key, a in record.items() if key.startswith(head)}
            for record in records
        ]
        found = join.facing(layer, grid, parameters.connectivity)
        if same is not None:
            found = found.where(same(found.here.value, found.across.value))
        ids = join.unite(layer, found.here.entry, found.across.entry)
        _ids, group = np.unique(ids, return_inverse=True)
        least = np.full(len(_ids), NOBODY, np.uint32)
        np.minimum.at(least, group, np.concatenate([part["best"] for part in layer]))
        cuts = np.cumsum([len(part["border"]) for part in layer])[:-1]
        best.append(np.split(least[group], cuts))
    return _Reached(former, best)


def cut(parameters: RegionGrowing, window: Window, part: tuple[_Seeds, list[np.ndarray]]) -> Output:
    """Give every pixel the first seed that reaches it, and label the connected parts."""
    seeds, solved = part
    shape = window.grid.shape
    owner = np.full(window.tile.core.shape, NOBODY, np.uint32)
    for (regions, best, _values), known_best in zip(
        _layers(parameters, window, seeds), solved, strict=True
    ):
        best[rank.seam_regions(regions, window.tile, shape)] = known_best
        claim(owner, regions, best)
    codes = owner
    codes += np.uint32(1)  # nobody becomes 0
    regions, n = label_codes(codes, parameters.connectivity, 0)
    record = join.summary(regions, n, window.tile, shape, codes)
    return Output({"regions": regions, "classes": codes}, record)
