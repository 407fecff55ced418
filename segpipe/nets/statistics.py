"""What becomes 0 and 1 in a network: statistics of the whole image, from sums of tiles.

Order statistics come from histograms, mean and deviation from exact sums; both add up in integers,
so no tile and no order has a say. Histograms of floating images have bins of 1/256 of a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segpipe import colour
from segpipe.nets.files import ModelFile
from segpipe.nets.normalise import Levels, each
from segpipe.passes import Record
from segpipe.regions import exact
from segpipe.regions.colours import float_sums, measurable, moments
from segpipe.regions.runs import find_runs
from segpipe.tiles import Grid, Tile


def fixed_levels(file: ModelFile) -> Levels | None:
    """Return the levels that the model itself names; None if the image decides."""
    rule, channels = file.normalisation, len(file.channels)
    if file.standardise is not None or rule.method == "percentiles":
        return None
    return each(rule.low, channels), each(rule.high, channels)


def counted(file: ModelFile, pixels: np.ndarray, valid: np.ndarray | None) -> Record:
    """Return what a tile says of its pixels (h, w, C): counts of values, or sums."""
    if file.standardise is None:
        return {"histogram": colour.histogram(pixels, valid)}
    values = measurable(pixels)
    region = np.ones(values.shape[:2], np.uint32) if valid is None else valid.astype(np.uint32)
    area = np.array([np.count_nonzero(region)], np.int64)
    if values.dtype.kind in "ui":
        return {**_integer_sums(values[region > 0]), "area": area}
    sums = float_sums(find_runs(region), 1, values)
    names = {"digits": "colours", "low": "least", "high": "most"}
    return {name: sums[column][1:] for name, column in names.items()} | {"area": area}


def _integer_sums(values: np.ndarray) -> Record:
    """Return sum, two digits of the sum of squares, and extremes of values (n, C)."""
    total = values.sum(axis=0, dtype=np.int64)
    squares = np.array([np.dot(c, c) for c in values.T.astype(np.int64)], np.int64)
    digits = np.stack([total, squares & exact.MASK, squares >> exact.BITS], axis=-1)
    limits = np.iinfo(np.int64)
    low = values.min(axis=0).astype(np.int64) if len(values) else np.full_like(total, limits.max)
    high = values.max(axis=0).astype(np.int64) if len(values) else np.full_like(total, limits.min)
    return {"digits": digits[None], "low": low[None], "high": high[None]}


def added(records: Sequence[Record]) -> Record:
    """Put the records of tiles together."""
    found = {name: np.stack([record[name] for record in records]) for name in records[0]}
    rules = {"low": np.min, "high": np.max}
    return {name: rules.get(name, np.sum)(column, axis=0) for name, column in found.items()}


def levels_of(file: ModelFile, dtype: str, record: Record) -> Levels:
    """Return the levels of an image from the record of all of it."""
    if file.standardise is not None:
        if not record["area"][0]:
            return np.zeros(len(file.channels)), np.ones(len(file.channels))
        rows = (record["area"], record["digits"], record["low"], record["high"])
        mean, deviation = moments(*rows, np.dtype(dtype))
        return mean[0], mean[0] + deviation[0] + file.standardise
    rule, channels = file.normalisation, len(file.channels)
    ends = zip(each(rule.low, channels), each(rule.high, channels), strict=True)
    found = [
        [_order(counts, share, dtype) for share in pair]
        for counts, pair in zip(record["histogram"], ends, strict=True)
    ]
    low, high = np.asarray(found, np.float64).T
    return low, high


def image_levels(file: ModelFile, pixels: np.ndarray) -> Levels:
    """Return the levels of a whole image (H, W, C)."""
    fixed = fixed_levels(file)
    valid = colour.known(pixels, None)
    return fixed or levels_of(file, str(pixels.dtype), counted(file, pixels, valid))


@dataclass(frozen=True)
class Shared:
    """Solution: the levels that all tiles share."""

    levels: Levels

    def for_tile(self, _tile: Tile, _record: Record) -> Levels:
        """Return the levels."""
        return self.levels


def solve(file: ModelFile, dtype: str) -> Any:
    """Return the function that solves the records of all tiles."""
    return partial(_solve, file, dtype)


def _solve(
    file: ModelFile, dtype: str, records: Sequence[Record], _grid: Grid, _former: Any
) -> Shared:
    return Shared(levels_of(file, dtype, records[0]))


def _order(counts: np.ndarray, share: float, dtype: str) -> float:
    """Return the least value that `share` percent of the pixels do not exceed."""
    total = np.cumsum(counts)
    if not total[-1]:
        return 0.0
    rank = max(1, int(np.ceil(share / 100 * int(total[-1]))))
    return colour.value_of(int(np.searchsorted(total, rank)), np.dtype(dtype))
