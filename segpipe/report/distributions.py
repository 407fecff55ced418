"""How a measure is distributed over all segments: a few numbers and bars, read in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from segpipe.quality.conditions import Sums, compactness
from segpipe.store.columns import batches, column_names
from segpipe.store.folder import Folder

WHOLE = np.unique(np.rint(np.geomspace(1, 2**50, 2400)).astype(np.int64))
"""Limits of bins 1.5 % wide (single pixels for small areas): fine enough for quantiles."""
REAL = np.geomspace(2.0**-30, 2.0**50, 80 * 46 + 1)
"""The same for numbers that are not whole."""
UNIT_INTERVAL = np.linspace(0, 1, 1001)
"""And for shares."""
BARS = 40
"""Bars of a histogram, at most."""
WIDE = 6.0
"""Values that differ more than this (99 % over 1 % quantile) are shown on a logarithmic axis."""

Stream = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Distribution:
    """Distribution of a measure of the segments."""

    count: int
    mean: float
    smallest: float
    largest: float
    median: float
    """Of areas exact, else that of narrow bins."""
    low: float
    high: float
    """1 % and 99 % quantile."""
    limits: np.ndarray
    """Limits of the bars, rising; the outer ones hold what lies beyond."""
    bars: np.ndarray
    """Segments per bar."""
    logarithmic: bool


def areas(folder: Folder, table: str) -> Distribution | None:
    """Return the distribution of the areas (px); None without segments or without the column."""
    return distribution(partial(_columns, folder, table, "area"), WHOLE)


def deviations(folder: Folder, table: str) -> Distribution | None:
    """Return the distribution of the standard deviations inside, all channels together."""
    return distribution(partial(_deviations, folder, table), REAL)


def compactnesses(folder: Folder, table: str) -> Distribution | None:
    """Return the distribution of 4 pi A / P^2."""
    return distribution(partial(_compactness, folder, table), UNIT_INTERVAL)


def densities(folder: Folder, table: str, shape: tuple[int, int]) -> np.ndarray | None:
    """Return segments per megapixel in each block of the image; NaN where there are none."""
    total = None
    for rows in batches(folder, table, ("area", "centroid-0", "centroid-1")):
        part = Sums.of(rows, shape)
        total = part if total is None else total + part
    if total is None or total.counts is None or total.areas is None:
        return None
    with np.errstate(invalid="ignore"):
        found: np.ndarray = total.counts / total.areas * 1e6
    return found


def class_areas(folder: Folder, table: str) -> dict[int, int]:
    """Return the pixels of each class; empty without a column of classes."""
    found: dict[int, int] = {}
    for rows in batches(folder, table, ("area", "class")):
        if "class" not in rows:
            break
        for value in np.unique(rows["class"]).tolist():
            found[value] = found.get(value, 0) + int(rows["area"][rows["class"] == value].sum())
    return found


def distribution(stream: Stream, fine: np.ndarray) -> Distribution | None:
    """Return the distribution of the values of a stream, which is read twice."""
    counts = np.zeros(len(fine) + 1, np.int64)
    count, total, smallest, largest = 0, 0.0, np.inf, -np.inf
    for values in stream():
        counts += np.bincount(np.searchsorted(fine, values, "right"), minlength=len(counts))
        count, total = count + len(values), total + float(values.sum())
        smallest, largest = min(smallest, float(values.min())), max(largest, float(values.max()))
    if not count:
        return None
    low, median, high = (_quantile(counts, fine, count, q) for q in (0.01, 0.5, 0.99))
    limits, logarithmic = np.linspace(0, 1, BARS + 1), False
    if fine is not UNIT_INTERVAL:
        limits, logarithmic = _limits(low, high, whole=fine is WHOLE)
    bars, middle = np.zeros(len(limits) - 1, np.int64), _Middle(counts, fine, count)
    for values in stream():
        at = np.searchsorted(limits, values, "right") - 1
        bars += np.bincount(np.clip(at, 0, len(bars) - 1), minlength=len(bars))
        if fine is WHOLE:
            middle.add(values)
    if fine is WHOLE:
        median = middle.median
    return Distribution(
        count, total / count, smallest, largest, median, low, high, limits, bars, logarithmic
    )


class _Middle:
    """The values between which the median of whole numbers lies, each once with its count."""

    def __init__(self, counts: np.ndarray, fine: np.ndarray, count: int) -> None:
        self.ranks = np.array([(count - 1) // 2, count // 2])
        ends = np.cumsum(counts)
        first, last = np.searchsorted(ends, self.ranks, "right")
        self.below = int(ends[first - 1]) if first else 0
        self.low, self.high = fine[first - 1] if first else -np.inf, fine[last : last + 1]
        self.values, self.counts = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count those values that are near."""
        near = values[values >= self.low]
        if self.high.size:
            near = near[near < self.high[0]]
        found, counts = np.unique(near, return_counts=True)
        both = np.concatenate([self.values, found])
        self.values, place = np.unique(both, return_inverse=True)
        self.counts = np.bincount(
            place, np.concatenate([self.counts, counts]), len(self.values)
        ).astype(np.int64)

    @property
    def median(self) -> float:
        places = np.searchsorted(np.cumsum(self.counts), self.ranks - self.below, "right")
        return float(self.values[places].mean())


def _columns(folder: Folder, table: str, name: str) -> Iterator[np.ndarray]:
    return (rows[name] for rows in batches(folder, table, (name,)))


def _deviations(folder: Folder, table: str) -> Iterator[np.ndarray]:
    names = [n for n in column_names(folder, table) if n.startswith("intensity_std-")]
    for rows in batches(folder, table, names):
        yield np.sqrt(sum(np.nan_to_num(column) ** 2 for column in rows.values()))


def _compactness(folder: Folder, table: str) -> Iterator[np.ndarray]:
    for rows in batches(folder, table, ("area", "perimeter")):
        if "perimeter" in rows:
            yield compactness(rows["area"], rows["perimeter"])


def _quantile(counts: np.ndarray, fine: np.ndarray, count: int, q: float) -> float:
    place = int(np.searchsorted(np.cumsum(counts), q * count))
    return fine[min(max(place - 1, 0), len(fine) - 1)].item()


def _limits(low: float, high: float, *, whole: bool) -> tuple[np.ndarray, bool]:
    """Return limits of bars: equal steps, or equal ratios for a wide range."""
    if not whole:
        # a few quantised zeros must not stretch the axis over ten decades
        if high > WIDE * max(low, high / 1e3):
            return np.geomspace(max(low, high / 1e3), high * 1.02, BARS + 1), True
        return np.linspace(low, high * 1.02, BARS + 1), False
    if high > WIDE * max(low, 1):
        limits = np.unique(np.rint(np.geomspace(max(low, 1), high + 1, BARS + 1)).astype(np.int64))
        return limits, True
    # whole steps: bars that hold 3 and 4 sizes in turn would look like a comb
    step = int(-(-(high + 1 - low) // BARS))
    return np.arange(int(low), int(high) + 1 + step, step), False
