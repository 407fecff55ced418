"""Percentiles of a region's values, from counts of values: the same for every tiling.

A value is counted under an integer key of the same order. Integers of up to 16 bits are their own
keys, so their percentiles are exact (equal to ``numpy.percentile``). Floats are first rounded to 16
significant bits (a relative error below 2^-16): a region then has at most a few hundred thousand
different values however large it is, and that is what bounds the memory.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numba import njit

from segpipe.regions.histograms import histograms, ranked, together
from segpipe.regions.runs import Runs

PERCENTS = (5, 25, 50, 75, 95)
DROPPED = 37
"""Bits of a double's fraction that a key drops: 15 and the leading one are kept."""
NAN = np.iinfo(np.int32).max
"""Key of NaN, above all others: where there is one, all percentiles are NaN."""
Counts = Mapping[str, np.ndarray]
"""Columns ``label``, ``channel``, ``key``, ``count``."""
u64 = np.uint64


def named(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return percentiles float64[regions, channels, percents] as columns."""
    return {
        f"intensity_median-{c}" if q == 50 else f"intensity_p{q}-{c}": values[:, c, k]
        for k, q in enumerate(PERCENTS)
        for c in range(values.shape[1])
    }


def keys_of(values: np.ndarray) -> np.ndarray:
    """Return values as int32 keys of the same order.

    >>> keys_of(np.array([-1.5, 0, 0.1])).tolist()
    [-33538048, 0, 33410253]
    """
    if values.dtype.kind in "ui":
        return values.astype(np.int32)
    bits = np.abs(values.astype(np.float64)).view(np.int64)
    keys = (bits + (1 << (DROPPED - 1))) >> DROPPED
    largest = np.array([np.finfo(np.float64).max]).view(np.int64)[0] >> DROPPED
    keys = np.where(np.isfinite(values), np.minimum(keys, largest), bits >> DROPPED)
    keys = np.where(values < 0, -keys, keys)
    return np.where(np.isnan(values), NAN, keys).astype(np.int32)


def values_of(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the values float64 that keys stand for."""
    if dtype.kind in "ui":
        return keys.astype(np.float64)
    found = (np.abs(keys.astype(np.int64)) << DROPPED).view(np.float64)
    return np.where(keys == NAN, np.nan, np.where(keys < 0, -found, found))


class Sorted(NamedTuple):
    """The values of a channel, sorted within each region."""

    begin: np.ndarray
    """int64[n + 2], where the keys of each region begin."""
    keys: np.ndarray
    """int32, see `keys_of`."""
    channel: int
    dtype: np.dtype

    def percentiles(self, chosen: np.ndarray) -> np.ndarray:
        """Return percentiles float64[regions, 1, percents] of some regions, which are not empty."""
        begin, keys = self.begin, self.keys
        low, high, share = _ranks(begin[chosen + 1] - begin[chosen])
        first = begin[chosen, None]
        below, above = (values_of(keys[first + ranks], self.dtype) for ranks in (low, high))
        found = _between(below, above, share)
        return _unless_nan(found, keys[begin[chosen + 1] - 1], self.dtype)[:, None]

    def counts(self, chosen: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return how often each key occurs in some regions, which have these labels."""
        pieces = [self.keys[self.begin[i] : self.begin[i + 1]] for i in chosen]
        label = np.repeat(labels, [len(piece) for piece in pieces])
        key = np.concatenate([np.zeros(0, np.int32), *pieces])
        channel = np.full(len(key), self.channel, np.int32)
        ones = np.ones(len(key), np.int64)
        return merge({"label": label, "channel": channel, "key": key, "count": ones})


class Counted(NamedTuple):
    """How often each value of some channels of 8 bits occurs in each region."""

    bins: np.ndarray
    """(n + 1, channels, 256), see `histograms`."""
    areas: np.ndarray
    """int64[n + 1]"""
    first: int
    """The first of the channels."""
    zero: int
    """Key of the first bin."""

    def percentiles(self, chosen: np.ndarray) -> np.ndarray:
        """Return percentiles float64[regions, channels, percents] of regions that are not empty."""
        low, high, share = _ranks(self.areas[chosen])
        below, above = ranked(self.bins, chosen, low, high).astype(np.float64) + self.zero
        return _between(below, above, share[:, None])

    def counts(self, chosen: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Return how often each key occurs in some regions, which have these labels."""
        bins = self.bins[chosen]
        row, channel, value = np.nonzero(bins)
        return {
            "label": labels[row],
            "channel": (channel + self.first).astype(np.int32),
            "key": (value + self.zero).astype(np.int32),
            "count": bins[row, channel, value].astype(np.int64),
        }


def gathered(runs: Runs, areas: np.ndarray, image: np.ndarray) -> Iterator[Sorted | Counted]:
    """Yield the values of all channels, some at a time.

    `areas` is int64[n + 1], with 0 for region 0.
    """
    channels, step = image.shape[2], 0
    if image.dtype.itemsize == 1:
        step = together(areas, channels)
        zero = -128 if image.dtype.kind == "i" else 0
        for c in range(0, channels if step else 0, step or 1):
            part = slice(c, min(c + step, channels))
            yield Counted(histograms(runs, areas, image, part), areas, c, zero)
    if not step:
        for c in range(channels):
            yield _sorted(runs, areas, image, c)


def _sorted(runs: Runs, areas: np.ndarray, image: np.ndarray, channel: int) -> Sorted:
    begin = np.concatenate([[0], np.cumsum(areas)])
    keys = np.empty(begin[-1], np.int32)
    plane = keys_of(np.ascontiguousarray(image[:, :, channel]))
    _gather(runs.starts, runs.ids, plane.ravel(), begin[:-1].copy(), keys)
    _sort(begin, keys)
    return Sorted(begin, keys, channel, image.dtype)


@njit(nogil=True, cache=True)
def _gather(starts, ids, plane, fill, keys):
    for run in range(ids.shape[0]):
        i = ids[run]
        if i:
            begin, n = starts[run], starts[run + 1] - starts[run]
            keys[fill[i] : fill[i] + n] = plane[begin : begin + n]
            fill[i] += n


@njit(nogil=True, cache=True)
def _sort(begin, keys):
    for i in range(begin.shape[0] - 1):
        keys[begin[i] : begin[i + 1]].sort()


def of_counts(counts: Counts, areas: np.ndarray, dtype: np.dtype, channels: int) -> np.ndarray:
    """Return percentiles float64[regions, channels, percents] of counted values.

    `counts` are those that `merge` returns; `areas` are of the same regions, by label.
    """
    n = np.repeat(areas, channels)
    ends = np.cumsum(counts["count"])
    last = np.searchsorted(ends, np.cumsum(n))
    low, high, share = _ranks(n)
    before = (np.cumsum(n) - n)[:, None]
    keys = [counts["key"][np.searchsorted(ends, before + r, "right")] for r in (low, high)]
    found = _between(values_of(keys[0], dtype), values_of(keys[1], dtype), share)
    return _unless_nan(found, counts["key"][last], dtype).reshape(-1, channels, len(PERCENTS))


def _unless_nan(found: np.ndarray, largest: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        found[largest == NAN] = np.nan
    return found


def _ranks(n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks (from 0) on both sides of each percentile, and the share of the upper one."""
    places = np.array(PERCENTS) / 100 * (n[:, None] - 1)
    low = np.floor(places).astype(np.int64)
    return low, np.minimum(low + 1, n[:, None] - 1), places - low


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        step = high - low
        found = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    return np.where(low == high, low, found)


def merge(counts: Counts) -> dict[str, np.ndarray]:
    """Add up the counts of each label, channel and key; sorted by these."""
    order = np.lexsort((counts["key"], counts["channel"], counts["label"]))
    label, channel, key = (counts[name][order] for name in ("label", "channel", "key"))
    if not len(order):
        return dict(counts)
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(label) != 0) | (np.diff(channel) != 0) | (np.diff(key) != 0)
    start = np.flatnonzero(new)
    count = np.add.reduceat(counts["count"][order], start)
    return {"label": label[start], "channel": channel[start], "key": key[start], "count": count}
