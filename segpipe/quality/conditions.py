"""The conditions of a good segmentation, scored without ground truth.

A good segmentation is homogeneous inside its segments, its segments are large enough to inform,
compact, spread evenly over the image, and their borders lie where the image changes. Most of it
follows from the table of segments (`Sums.of` some rows, added up, then `scores`); whether borders
lie on edges needs pixels (`segpipe.quality.contrast`).

All sums are exact (integers, or fractions of floating numbers that are exact themselves), so they
do not depend on the order of rows, batches or tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

SMALL = 30
"""Pixels below which a segment is too small to inform: the standard deviation of what is measured
in it is uncertain by more than 1 / sqrt(2 * 29) = 13 %."""
BLOCKS = 12
"""Rows and columns of the blocks over which the evenness is measured."""


@dataclass(frozen=True)
class Sums:
    """What the conditions need of a set of segments; sums of disjoint sets are added.

    What the table does not tell is None.
    """

    segments: int
    pixels: int
    largest: int
    """Pixels of the largest segment."""
    small: int
    """Segments of fewer than `SMALL` pixels."""
    small_pixels: int
    totals: tuple[Fraction, ...] | None
    """Per channel: sum of area * mean, the sum of all pixels."""
    squares: Fraction | None
    """Sum of area * mean^2 over segments and channels."""
    within: Fraction | None
    """Sum of area * sd^2 over segments and channels."""
    spread: Fraction | None
    """Sum of the segments' sd (root of the summed variances of the channels)."""
    compact: Fraction | None
    """Sum of area * compactness."""
    counts: np.ndarray | None
    """int64[BLOCKS, BLOCKS]: segments with their centroid in a block of the image."""
    areas: np.ndarray | None
    """int64[BLOCKS, BLOCKS]: their pixels."""

    @classmethod
    def of(cls, table: Mapping[str, np.ndarray], shape: tuple[int, int]) -> Sums:
        """Sum up some rows of a table of segments.

        Parameters
        ----------
        table
            Columns ``area``, and as far as there are any ``intensity_mean-i``,
            ``intensity_std-i``, ``perimeter``, ``centroid-0``, ``centroid-1`` (px).
        shape
            (height, width) of the image.

        Examples
        --------
        >>> table = {"area": np.array([20, 80]), "intensity_mean-0": np.array([1.0, 6.0])}
        >>> sums = Sums.of(table, (10, 10))
        >>> sums.small, sums.totals, sums.within
        (1, (Fraction(500, 1),), None)
        """
        area = np.asarray(table["area"], np.int64)
        means, deviations = (_channels(table, f"intensity_{kind}-") for kind in ("mean", "std"))
        variance = sum(d**2 for d in deviations)
        counts, areas = _blocks(table, area, shape)
        ratio = compactness(area, table["perimeter"]) if "perimeter" in table else None
        return cls(
            segments=len(area),
            pixels=int(area.sum()),
            largest=int(area.max(initial=0)),
            small=int((area < SMALL).sum()),
            small_pixels=int(area[area < SMALL].sum()),
            totals=tuple(exact_sum(area * m) for m in means) if means else None,
            squares=exact_sum(area * sum(m**2 for m in means)) if means else None,
            within=exact_sum(area * variance) if deviations else None,
            spread=exact_sum(np.sqrt(variance)) if deviations else None,
            compact=None if ratio is None else exact_sum(area * ratio),
            counts=counts,
            areas=areas,
        )

    def __add__(self, other: Sums) -> Sums:
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        total = Sums(*(_add(a, b) for a, b in pairs))
        return replace(total, largest=max(self.largest, other.largest))


def scores(sums: Sums) -> dict[str, float | None]:
    """Return the conditions as numbers; None for what was not measured.

    Returns
    -------
    explained_variation
        0 to 1: share of the image's variance (of the pixels in segments, all channels together)
        that is left when every segment is painted in its mean.
    intra_cluster_variation
        Mean over the segments of the standard deviation inside (units of the image; the variances
        of the channels are added).
    mean_area, largest_share
        Pixels of a segment; share of all pixels in segments that the largest one has.
    small_share, small_pixel_share
        Share of the segments that have fewer than `SMALL` pixels, and of the pixels.
    compactness
        0 to 1: mean of 4 pi A / P^2, weighted by area.
    evenness
        0 to 1: one minus the share of segments that would have to be elsewhere for every block of
        the image (12 x 12) to have as large a share of the segments as of their pixels; segments
        count where their centroid is.

    Notes
    -----
    *Tiling*: identical for every tiling and order. A constant image has the explained variation 1.

    References
    ----------
    Moore, Prince, Warrell, Mohammed, Jones, "Superpixel lattices", CVPR 2008,
    10.1109/CVPR.2008.4587471 (explained variation); Benesova, Kottman, "Fast superpixel
    segmentation using morphological processing", MVML 2014 (intra-cluster variation; there the
    root of the summed squares is divided by the area, which makes it depend on the size); Schick,
    Fischer, Stiefelhagen, "Measuring and evaluating the compactness of superpixels", ICPR 2012.
    """
    n, pixels = sums.segments, sums.pixels
    found: dict[str, Fraction | float | None] = dict.fromkeys(NAMES)
    if n:
        found["mean_area"] = Fraction(pixels, n)
        found["largest_share"] = Fraction(sums.largest, pixels)
        found["small_share"] = Fraction(sums.small, n)
        found["small_pixel_share"] = Fraction(sums.small_pixels, pixels)
        found["explained_variation"] = _explained(sums)
        found["intra_cluster_variation"] = None if sums.spread is None else sums.spread / n
        found["compactness"] = None if sums.compact is None else sums.compact / pixels
        if sums.counts is not None and sums.areas is not None:
            # |counts / n - areas / pixels| over the common denominator, in Python's integers
            both = zip(sums.counts.ravel().tolist(), sums.areas.ravel().tolist(), strict=True)
            moved = sum(abs(c * pixels - a * n) for c, a in both)
            found["evenness"] = 1 - Fraction(moved, 2 * n * pixels)
    return {name: None if value is None else float(value) for name, value in found.items()}


NAMES = (
    "explained_variation",
    "intra_cluster_variation",
    "mean_area",
    "largest_share",
    "small_share",
    "small_pixel_share",
    "compactness",
    "evenness",
)


def compactness(area: np.ndarray, perimeter: np.ndarray) -> np.ndarray:
    """Return 4 pi A / P^2, at most 1 (the perimeter of a few pixels is an estimate, or 0).

    >>> compactness(np.array([100, 1]), np.array([40.0, 0.0])).round(3).tolist()
    [0.785, 1.0]
    """
    with np.errstate(divide="ignore"):
        ratio: np.ndarray = np.minimum(4 * math.pi * area / np.square(perimeter), 1.0)
    return ratio


def exact_sum(values: np.ndarray) -> Fraction:
    """Sum finite floating numbers without rounding, so that their order does not matter.

    >>> float(exact_sum(np.array([1e16, 1.0, -1e16])))
    1.0
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("only finite numbers can be added exactly, got NaN or infinity")
    mantissa, exponent = np.frexp(values)
    whole = (mantissa * 2.0**53).astype(np.int64)
    least = int(exponent.min(initial=0))
    total = Fraction(0)
    # in two halves, whose sums per exponent are exact in floating numbers up to 2^26 values
    for shift, half in ((27, whole >> 27), (0, whole & ((1 << 27) - 1))):
        for i, part in enumerate(np.bincount(exponent - least, half).tolist()):
            if part:
                total += Fraction(int(part)) * Fraction(2) ** (least + i - 53 + shift)
    return total


def _channels(table: Mapping[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    """Columns ``prefix0``, ``prefix1``, … as floats, what is not finite as 0."""
    found: list[np.ndarray] = []
    while f"{prefix}{len(found)}" in table:
        column = np.asarray(table[f"{prefix}{len(found)}"], np.float64)
        found.append(np.where(np.isfinite(column), column, 0.0))
    return found


def _blocks(
    table: Mapping[str, np.ndarray], area: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Count segments and their pixels by the block of the image that holds their centroid."""
    if "centroid-0" not in table or "centroid-1" not in table:
        return None, None
    counts, areas = np.zeros((2, BLOCKS, BLOCKS), np.int64)
    # centroids are places of pixel centres: pixel y covers y - 0.5 to y + 0.5
    places = [
        np.clip(((table[f"centroid-{i}"] + 0.5) * BLOCKS / n).astype(np.intp), 0, BLOCKS - 1)
        for i, n in enumerate(shape)
    ]
    np.add.at(counts, tuple(places), 1)
    np.add.at(areas, tuple(places), area)
    return counts, areas


def _explained(sums: Sums) -> Fraction | None:
    """Variance between segments over all variance."""
    if sums.totals is None or sums.squares is None or sums.within is None:
        return None
    shared = sum((t * t for t in sums.totals), Fraction(0)) / sums.pixels
    # means and sds are rounded: the difference of large sums may end a little below 0
    between = max(sums.squares - shared, Fraction(0))
    whole = between + sums.within
    return between / whole if whole else Fraction(1)


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return None
    if isinstance(a, tuple):
        return tuple(x + y for x, y in zip(a, b, strict=True))
    return a + b
