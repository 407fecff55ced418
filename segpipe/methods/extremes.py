"""Values as integers by the range of the whole image, the same for every tiling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segpipe.passes import Record
from segpipe.tiles import Grid, Tile


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a floating image; integers need none (both 0)."""

    low: float = 0.0
    high: float = 0.0

    def for_tile(self, _tile: Tile, _record: Record) -> Range:
        """Return itself: all tiles share it."""
        return self

    def gain(self, dtype: np.dtype, steps: int) -> float:
        """Return how many steps one unit of value counts."""
        span = self.high - self.low
        return steps / span if dtype.kind == "f" and span > 0 else 1.0

    def integers(self, values: np.ndarray, steps: int) -> np.ndarray:
        """Map values to int32: integers from their type's least on, floats to 0 .. `steps`."""
        if values.dtype.kind != "f":
            return values.astype(np.int32) - np.iinfo(values.dtype).min
        if self.high <= self.low:
            return np.zeros(values.shape, np.int32)
        finite = np.where(np.isfinite(values), values, self.low).astype(np.float64)
        scaled = np.rint((finite - self.low) * self.gain(values.dtype, steps))
        return np.clip(scaled, 0, steps).astype(np.int32)


def ends(values: np.ndarray) -> Record:
    """Return the record of a tile: its least and greatest value."""
    found = [values.min(), values.max()] if values.size else [np.inf, -np.inf]
    return {"range": np.array(found, np.float64)}


def wider(records: Sequence[Record]) -> Record:
    """Merge records of `ends`."""
    found = np.stack([record["range"] for record in records])
    return {"range": np.array([found[:, 0].min(), found[:, 1].max()])}


def keep(records: Sequence[Record], _grid: Grid, _former: Any) -> Range:
    """Solve: the range of the image; of one without any value, that of integers."""
    low, high = (float(end) for end in records[0]["range"])
    return Range(low, high) if low <= high else Range()
