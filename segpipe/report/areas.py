"""The sizes of all segments: a few numbers and a histogram, from one column read in pieces."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import obstore
import pyarrow.parquet as pq

from segpipe.store.folder import Folder

BATCH = 1 << 18
"""Rows read at a time."""
FINE = np.unique(np.rint(np.geomspace(1, 2**50, 2400)).astype(np.int64))
"""Limits of bins 1.5 % wide (single pixels for small areas): fine enough for quantiles."""
BARS = 40
"""Bars of the histogram, at most."""
WIDE = 6.0
"""Areas that differ more than this (99 % over 1 % quantile) are shown on a logarithmic axis."""


@dataclass(frozen=True)
class Areas:
    """Distribution of the areas of segments (px)."""

    count: int
    mean: float
    smallest: int
    largest: int
    median: int
    low: int
    high: int
    """1 % and 99 % quantile."""
    limits: np.ndarray
    """Limits of the bars, rising; the outer ones hold what lies beyond."""
    bars: np.ndarray
    """Segments per bar."""
    logarithmic: bool


def read_areas(folder: Folder, name: str) -> Areas | None:
    """Return the distribution of column ``area`` of a Parquet table; None if there is no such."""
    fine = np.zeros(len(FINE) + 1, np.int64)
    count, total, smallest, largest = 0, 0, np.iinfo(np.int64).max, 0
    for areas in _batches(folder, name):
        fine += np.bincount(np.searchsorted(FINE, areas, "right"), minlength=len(fine))
        count, total = count + len(areas), total + int(areas.sum())
        smallest, largest = min(smallest, int(areas.min())), max(largest, int(areas.max()))
    if not count:
        return None
    low, median, high = (_quantile(fine, count, q) for q in (0.01, 0.5, 0.99))
    limits, logarithmic = _limits(low, high)
    bars = np.zeros(len(limits) - 1, np.int64)
    for areas in _batches(folder, name):
        at = np.searchsorted(limits, areas, "right") - 1
        bars += np.bincount(np.clip(at, 0, len(bars) - 1), minlength=len(bars))
    return Areas(
        count, total / count, smallest, largest, median, low, high, limits, bars, logarithmic
    )


def _batches(folder: Folder, name: str) -> Iterator[np.ndarray]:
    try:
        file = obstore.open_reader(folder.objects(), name)
    except FileNotFoundError:
        return
    with pq.ParquetFile(_Object(file)) as table:
        if "area" not in table.schema_arrow.names:
            return
        for batch in table.iter_batches(BATCH, columns=["area"]):
            if len(batch):
                yield batch["area"].to_numpy(zero_copy_only=False)


class _Object(io.RawIOBase):
    """An object of a store as the kind of file that Arrow reads piece by piece."""

    def __init__(self, file: obstore.ReadableFile) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        data = memoryview(self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def _quantile(fine: np.ndarray, count: int, q: float) -> int:
    place = int(np.searchsorted(np.cumsum(fine), q * count))
    return int(FINE[min(max(place - 1, 0), len(FINE) - 1)])


def _limits(low: int, high: int) -> tuple[np.ndarray, bool]:
    """Return whole-numbered limits of bars: equal steps, or equal ratios for a wide range."""
    if high > WIDE * max(low, 1):
        limits = np.unique(np.rint(np.geomspace(max(low, 1), high + 1, BARS + 1)).astype(np.int64))
        return limits, True
    # whole steps: bars that hold 3 and 4 sizes in turn would look like a comb
    step = -(-(high + 1 - low) // BARS)
    return np.arange(low, high + 1 + step, step), False
