"""Region growing from seeds by a threshold, the same for any tiling.

Three sweeps: the seeds and their values; the parts that could be grown, and which of them reach a
seed, across seams; the regions. No queue, no order: what a seed reaches is a connected component.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe.colour import known
from segpipe.methods import points
from segpipe.methods.kinds import check_kinds
from segpipe.methods.points import Point
from segpipe.methods.region_growing_kernels import calm_seeds, claim, within
from segpipe.methods.whole import check_channel, segment
from segpipe.passes import ImageInfo, Output, Pass, Record, Window
from segpipe.regions import join, rank
from segpipe.regions.finish import label_pass
from segpipe.regions.label import label_codes, label_zones
from segpipe.regions.zones import near
from segpipe.tiles import Grid, Tile

NOBODY = np.iinfo(np.uint32).max
"""Stands for "no seed" where the smallest number of a seed is looked for."""
MAX_SEEDS = 256
"""Seeds of the rule ``seed``: each distinct value among them is a labelling of its own."""


@dataclass(frozen=True)
class RegionGrowing:
    """Regions grown from seeds while values stay near; what no seed reaches stays 0."""

    tolerance: float = 6.0
    """How far values may differ, in every channel, 0 or more."""
    rule: Literal["neighbour", "seed"] = "neighbour"
    """What a pixel is compared with. neighbour: the neighbour it is reached from; values may drift.
    seed: the value of the seed itself; where several seeds reach a pixel, the first one has it."""
    seeds: tuple[Point, ...] = ()
    """[row, column] of each seed, or [row, column, label]; a file of points (CSV, GeoJSON); without
    any, one seed in every square of `step` pixels, at its calmest pixel (least gradient). Seeds on
    masked pixels grow nothing."""
    step: int = 32
    """Side of the squares for automatic seeds, on the lattice of the whole image, 2 to 512 pixels;
    also a halo."""
    connectivity: int = 1
    """Regions grow by sides (1) or by sides and corners (2)."""
    channel: int | None = None
    """Look at this channel alone, counted from 0; null: at all of them."""

    name: ClassVar[str] = "region-growing"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    partial: ClassVar[bool] = True
    """What no seed reaches stays 0."""
    points: ClassVar[str] = "seeds"
    """The parameter that may name a file of points."""

    def __post_init__(self) -> None:
        check_kinds(self)
        object.__setattr__(self, "seeds", points.as_points(self.seeds, "seeds"))
        if not 0 <= self.tolerance < np.inf:
            raise ValueError(
                f"tolerance must be 0 or more, got {self.tolerance}; 4 to 20 are common for 8 bits"
            )
        if self.connectivity not in (1, 2):
            raise ValueError(
                f"connectivity must be 1 (sides) or 2 (sides and corners), got {self.connectivity}"
            )
        if not 2 <= self.step <= 512:
            raise ValueError(f"step must be 2 to 512, got {self.step}")
        if self.rule == "seed" and not 1 <= len(self.seeds) <= MAX_SEEDS:
            raise ValueError(
                f"rule: seed needs 1 to {MAX_SEEDS} seeds, got {len(self.seeds)}; give their"
                " [row, column], or take rule: neighbour"
            )

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: seeds, what they reach, regions, canonical labels."""
        check_channel(self.channel, image)
        points.check_inside(self.seeds, image, "seed")
        reads = ("image", "mask") if image.masked else ("image",)
        size = image.channels * np.dtype(image.dtype).itemsize
        layers = len(self.seeds) if self.rule == "seed" else 3
        costs: dict[str, Any] = {"bytes_per_pixel": 30 + 2 * size, "cost_ns": 6.0 + 4.0 * layers}
        same = None if self.rule == "seed" else partial(near, self.tolerance)
        spread = partial(_spread, self, same)
        again = partial(join.solve, same=join.equal, connectivity=self.connectivity)
        return (
            Pass(
                "seeds",
                partial(_find, self),
                reads,
                halo=0 if self.seeds else self.step,
                solve=_gather,
                bytes_per_pixel=12 + 2 * size,
                cost_ns=4.0,
            ),
            Pass("reach", partial(_reach, self), reads, solve=spread, **costs),
            Pass(
                "regions",
                partial(_cut, self),
                reads,
                {"regions": "uint32", "classes": "uint32"},
                solve=again,
                **costs,
            ),
            label_pass(image, classes="seed"),
        )


def region_growing(
    image: np.ndarray,
    seeds: Sequence[Sequence[int]] = (),
    tolerance: float = 6.0,
    *,
    rule: Literal["neighbour", "seed"] = "neighbour",
    step: int = 32,
    connectivity: int = 1,
    channel: int | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Grow regions from seeds while values stay near.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): bool, integers of up to 32 bits, or floats. Pixels with NaN or infinity
        count as masked.
    seeds, tolerance, rule, step, connectivity, channel
        See `RegionGrowing`.
    mask
        (H, W) bool, True where regions may grow; None: everywhere.

    Returns
    -------
    labels
        (H, W) uint32: 0 where no seed reaches, else 1..N in raster order of each region's first
        pixel. Seeds that reach each other by neighbours share a region; a region that a former
        seed's cuts in parts gives several.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: identical for every tiling. Both rules link pixels by values that do not change while
    regions grow, so a region is a connected component (of near neighbours, or of the pixels near a
    seed's value), joined across seams by `segpipe.regions.join`. Records are rims, one set for the
    rule ``neighbour``, one per distinct seed value for ``seed``. A run's table says each segment's
    ``seed``: its label or its number, counted from 0 (automatic seeds: in raster order of their
    squares).
    Cost: time and memory per pixel are in ``tests/bench/bench_methods.py``.

    References
    ----------
    R. Adams, L. Bischof, Seeded region growing, IEEE TPAMI 16(6), 1994, 10.1109/34.295913 (whose
    running means depend on the order of growth; these fixed ones do not).

    Examples
    --------
    >>> image = np.array([[10, 12, 14, 90], [50, 11, 60, 91]], np.uint8)
    >>> region_growing(image, [(0, 0), (1, 3)], tolerance=2).tolist()
    [[1, 1, 1, 2], [0, 1, 0, 2]]
    >>> region_growing(image, [(0, 0), (1, 3)], tolerance=2, rule="seed").tolist()
    [[1, 1, 0, 2], [0, 1, 0, 2]]
    """
    parameters = RegionGrowing(tolerance, rule, seeds, step, connectivity, channel)  # type: ignore[arg-type]
    return segment(parameters.passes, image, mask)


def _pixels(
    parameters: RegionGrowing, arrays: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the channels looked at, and which pixels count."""
    image = arrays["image"]
    if parameters.channel is not None:
        image = image[:, :, parameters.channel : parameters.channel + 1]
    return image, known(image, arrays.get("mask"))


def _find(parameters: RegionGrowing, window: Window, _part: None) -> Output:
    """Find the seeds of a tile and their values."""
    image, valid = _pixels(parameters, dict(window.arrays))
    origin, core = window.tile.window.start, window.tile.core
    if parameters.seeds:
        places, numbers = points.places(parameters.seeds), points.numbers(parameters.seeds)
        inside = ((places >= core.start) & (places < core.stop)).all(axis=1)
        places, numbers = places[inside], numbers[inside]
    else:
        places = calm_seeds(image, valid, origin, core, parameters.step)
        across = -(-window.grid.shape[1] // parameters.step)
        numbers = places[:, 0] // parameters.step * across + places[:, 1] // parameters.step
    at = places[:, 0] - origin[0], places[:, 1] - origin[1]
    if valid is not None:
        counts = valid[at]
        places, numbers, at = places[counts], numbers[counts], (at[0][counts], at[1][counts])
    return Output(record={"place": places, "number": numbers, "seed": image[at]})


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


def _gather(records: Sequence[Record], _grid: Grid, _former: None) -> _Seeds:
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


def _reach(parameters: RegionGrowing, window: Window, part: _Seeds) -> Output:
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


def _spread(
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


def _cut(
    parameters: RegionGrowing, window: Window, part: tuple[_Seeds, list[np.ndarray]]
) -> Output:
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
