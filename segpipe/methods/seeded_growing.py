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
from typing import ClassVar, Literal

import numpy as np

from segpipe import colour
from segpipe.methods import points, whole
from segpipe.methods import seeded_growing_passes as work
from segpipe.methods.kinds import check_kinds
from segpipe.methods.points import Point
from segpipe.methods.ranges import is_rgb, ranges_passes
from segpipe.passes import ImageInfo, Pass
from segpipe.regions import fronts, owners
from segpipe.regions.finish import label_pass

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
        return round((self.compactness * work.UNIT) ** 2) >> fronts.SHIFT

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
            partial(work.find, self),
            reads,
            halo=1 if self.seeds else self.step,
            solve=partial(work.gather, self),
            bytes_per_pixel=12 + size,
            cost_ns=8.0,
        )
        grow = Pass(
            "grow",
            partial(work.grow, self),
            reads,
            halo=self.halo,
            solve=partial(work.renew, self),
            bytes_per_pixel=70 + size,
            cost_ns=200.0,
        )
        rounds = [replace(grow, name=f"grow-{i}") for i in range(1, self.rounds + 1)]
        rounds[-1] = replace(
            rounds[-1],
            map=partial(work.paint, self),
            writes={"owner": "uint32"},
            solve=partial(work.end, self),
        )
        before = () if is_rgb(image) else ranges_passes(image)
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
