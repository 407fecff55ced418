"""Region growing from seeds by a threshold, the same for any tiling.

Three sweeps: the seeds and their values; the parts that could be grown, and which of them reach a
seed, across seams; the regions. No queue, no order: what a seed reaches is a connected component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe.methods import points
from segpipe.methods import region_growing_passes as work
from segpipe.methods.kinds import check_kinds
from segpipe.methods.points import Point
from segpipe.methods.whole import check_channel, segment
from segpipe.passes import ImageInfo, Pass
from segpipe.regions import join
from segpipe.regions.finish import label_pass
from segpipe.regions.zones import near

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

    @property
    def finer(self) -> str:
        """What gives a finer result."""
        return f"lower tolerance (now {self.tolerance:g})"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: seeds, what they reach, regions, canonical labels."""
        check_channel(self.channel, image)
        points.check_inside(self.seeds, image, "seed")
        reads = ("image", "mask") if image.masked else ("image",)
        size = image.channels * np.dtype(image.dtype).itemsize
        layers = len(self.seeds) if self.rule == "seed" else 3
        costs: dict[str, Any] = {"bytes_per_pixel": 30 + 2 * size, "cost_ns": 6.0 + 4.0 * layers}
        same = None if self.rule == "seed" else partial(near, self.tolerance)
        spread = partial(work.spread, self, same)
        again = partial(join.solve, same=join.equal, connectivity=self.connectivity)
        return (
            Pass(
                "seeds",
                partial(work.find, self),
                reads,
                halo=0 if self.seeds else self.step,
                solve=work.gather,
                bytes_per_pixel=12 + 2 * size,
                cost_ns=4.0,
            ),
            Pass("reach", partial(work.reach, self), reads, solve=spread, **costs),
            Pass(
                "regions",
                partial(work.cut, self),
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
