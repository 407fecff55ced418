"""Values of a region: sums and sums of squares per channel, exact for integers and floats."""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np
from numba import njit

from segpipe.regions import exact
from segpipe.regions.runs import Runs

u64 = np.uint64
DIGITS = {"u": (1, 2), "i": (1, 2), "f4": (10, 19), "f8": (67, 133)}
"""Digits of the sum and of the sum of squares: integers up to 16 bits need one int64 and two
digits; floats what their range takes, in units of the smallest number, and 41 bits for pixels."""
UNIT = {"f4": -149, "f8": -1074}
"""The smallest number of the type is 2^this."""
NAN_LOW, NAN_HIGH = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def measurable(image: np.ndarray) -> np.ndarray:
    """Return the image as (H, W, C) of a type that is summed exactly, values unchanged."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3:
        raise ValueError(f"image must be (H, W) or (H, W, C), got shape {image.shape}")
    kind, size = image.dtype.kind, image.dtype.itemsize
    if kind == "b":
        return image.view(np.uint8)
    if kind in "ui" and size == 4:
        return image.astype(np.float64)
    if kind == "f" and size == 2:
        return image.astype(np.float32)
    if (kind in "ui" and size <= 2) or (kind == "f" and size <= 8):
        return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder("="))
    raise ValueError(
        f"image must be bool, an integer of up to 32 bits or a float of up to 64, got "
        f"{image.dtype}; convert it first"
    )


def key_of(dtype: np.dtype) -> str:
    """Return the row of `DIGITS` for a dtype."""
    return dtype.kind if dtype.kind in "ui" else f"f{dtype.itemsize}"


def float_sums(runs: Runs, n: int, image: np.ndarray) -> dict[str, np.ndarray]:
    """Return sums and extremes of the regions of a floating image.

    Returns
    -------
    sums
        ``colours`` int64[n + 1, channels, digits]; ``least`` and ``most`` int64[n + 1, channels],
        integers of the order of the values (see `extremes`); where a value is NaN, both are the
        extremes of int64.
    """
    channels, size = image.shape[2], image.dtype.itemsize
    sums = np.zeros((n + 1, channels, sum(DIGITS[key_of(image.dtype)])), np.int64)
    low = np.full((n + 1, channels), np.iinfo(np.int64).max)
    high = np.full((n + 1, channels), np.iinfo(np.int64).min)
    bits = np.ascontiguousarray(image).reshape(-1, channels).view(f"i{size}")
    _float_sums(runs.starts, runs.ids, bits, size == 8, sums, low, high)
    return {"colours": sums, "least": low, "most": high}


@njit(nogil=True, cache=True)
def _float_sums(starts, ids, bits, double, sums, low, high):
    """Add every finite value as mantissa * 2^exponent; digits are in order afterwards."""
    fraction, top, squares = (52, 0x7FF, 67) if double else (23, 0xFF, 10)
    sign_bit = np.int64(1) << (63 if double else 31)
    for run in range(ids.shape[0]):
        i = ids[run]
        if i == 0:
            continue
        for p in range(starts[run], starts[run + 1]):
            for c in range(bits.shape[1]):
                b = np.int64(bits[p, c])
                magnitude = b & (sign_bit - 1)
                e = magnitude >> fraction
                m = magnitude & ((np.int64(1) << fraction) - 1)
                order = -magnitude if b < 0 else magnitude
                if e == top and m:
                    low[i, c], high[i, c] = NAN_LOW, NAN_HIGH
                    continue
                low[i, c] = min(low[i, c], order)
                high[i, c] = max(high[i, c], order)
                if e == top:
                    continue
                if e:
                    m |= np.int64(1) << fraction
                    e -= 1
                exact.add(sums[i, c], u64(m), e, -1 if b < 0 else 1)
                _add_square(sums[i, c, squares:], u64(m), e, double)
    for i in range(sums.shape[0]):
        for c in range(sums.shape[1]):
            exact.carry(sums[i, c, :squares])
            exact.carry(sums[i, c, squares:])


@njit(nogil=True, cache=True, inline="always")
def _add_square(digits, m, e, double):
    if not double:
        exact.add(digits, m * m, 2 * e, 1)
        return
    a, b = m >> u64(27), m & u64((1 << 27) - 1)
    exact.add(digits, a * a, 2 * e + 54, 1)
    exact.add(digits, a * b, 2 * e + 28, 1)
    exact.add(digits, b * b, 2 * e, 1)


def extremes(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return ordered integers of `float_sums` as values of the image's dtype."""
    if dtype.kind in "ui":
        return values.astype(dtype)
    missing = (values == NAN_LOW) | (values == NAN_HIGH)
    magnitude = np.where(missing, 0, np.abs(np.where(missing, 0, values)))
    found = magnitude.astype(f"i{dtype.itemsize}").view(dtype)
    return np.where(missing, np.nan, np.where(values < 0, -found, found)).astype(dtype)


def moments(
    area: np.ndarray, sums: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation float64[n, channels].

    As in NumPy, NaN or infinity among a region's values makes the mean so, and the deviation NaN.
    """
    means = np.empty(low.shape)
    deviations = np.empty(low.shape)
    key = key_of(dtype)
    if key in "ui":
        _integer_moments(area, sums, low, high, means, deviations)
        return means, deviations
    _float_moments(area, sums, DIGITS[key][0], UNIT[key], means, deviations)
    least, most = extremes(low, dtype), extremes(high, dtype)
    bad = ~(np.isfinite(least) & np.isfinite(most))
    with np.errstate(invalid="ignore"):
        means[bad] = np.float64(least[bad]) + np.float64(most[bad])
    deviations[bad] = np.nan
    return means, deviations


@njit(nogil=True, cache=True)
def _integer_moments(area, sums, low, high, means, deviations):
    for i in range(area.shape[0]):
        n = area[i]
        for c in range(sums.shape[1]):
            total, lo, hi = sums[i, c, 0], sums[i, c, 1], sums[i, c, 2]
            means[i, c] = total / n
            if n * (high[i, c] - low[i, c]) < 1 << 32:
                # the difference is below 2^62: what wraps round comes back
                f, e = np.float64(n * (lo + (hi << 32)) - total * total), 0
            else:
                squares = np.array([lo, hi, 0])
                exact.carry(squares)
                digits = np.array([total & exact.MASK, total >> 32])
                f, e = exact.spread(n, squares, digits, digits)
            deviations[i, c] = math.ldexp(math.sqrt(f), e // 2) / n


@njit(nogil=True, cache=True)
def _float_moments(area, sums, split, unit, means, deviations):
    for i in range(area.shape[0]):
        n = area[i]
        for c in range(sums.shape[1]):
            total, squares = sums[i, c, :split].copy(), sums[i, c, split:].copy()
            exact.carry(squares)
            exact.carry(total)
            f, e = exact.spread(n, squares, total, total)
            deviations[i, c] = math.ldexp(math.sqrt(f) / n, e // 2 + unit)
            f, e = exact.to_float(total)
            means[i, c] = math.ldexp(f / n, e + unit)


@njit(nogil=True, cache=True)
def plane_sums(regions: np.ndarray, values: np.ndarray, planes: np.ndarray, n: int) -> np.ndarray:
    """Return int64[n, planes], sums of some planes of (h, w, K) integers over regions 1..n-1."""
    sums = np.zeros((n, len(planes)), np.int64)
    for y in range(regions.shape[0]):
        for x in range(regions.shape[1]):
            region = np.uint64(regions[y, x])
            if region:
                for k in range(len(planes)):
                    sums[region, k] += values[y, x, planes[k]]
    return sums
