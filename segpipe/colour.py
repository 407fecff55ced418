"""Colours as small integers, the same for every tiling, machine and order of work.

Methods that measure colour distances work on planes of int16: ``(channels, rows, columns)`` in
1/`unit` of a CIELAB unit, centred so that mid grey is about 0. sRGB becomes CIELAB through integer
tables; any other image is scaled, channel by channel, by quantiles of the *whole* image
(`histogram` per tile, their sum, `scaling`). Nothing is ever normalised per tile.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from dataclasses import dataclass

import numpy as np
from numba import njit

INVALID = np.int16(-32768)
"""Value of the first plane where there is no pixel: beyond the border, nodata, masked."""

COLOUR_RADIUS = 136.0
"""No colour is farther from the centre of the scale (sRGB blue is at 135.0 from L = 50)."""

BINS = 65536
QUANTILES = (0.005, 0.995)

# sRGB (IEC 61966-2-1) to XYZ; the rows are divided by their sums, so white is (1, 1, 1).
_XYZ = np.array(
    [
        [0.412453, 0.357580, 0.180423],
        [0.212671, 0.715160, 0.072169],
        [0.019334, 0.119193, 0.950227],
    ]
)
_FIELD = 21  # bits per X, Y, Z in one 64-bit word: a value of 18 bits and room for the carries
_LINEAR_BITS = 18
_ROOT_BITS = 13  # index of the cube-root table; 16 KiB stay in the first-level cache
_ROOT_UNIT = 14  # its values are in 1/2^14

u64 = np.uint64  # unsigned indices need no test for negative ones


def _lab_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return packed linear X|Y|Z per channel value, uint64[3, 256], and f(t), int16[2^13]."""
    v = np.arange(256) / 255.0
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    matrix = _XYZ / _XYZ.sum(axis=1, keepdims=True)
    packed = np.zeros((3, 256), np.uint64)
    for k in range(3):
        # -4: three rounded summands stay below 2^18
        share = np.rint(np.outer(matrix[k], linear) * (2**_LINEAR_BITS - 4)).astype(np.uint64)
        packed |= share << np.uint64(_FIELD * k)
    t = (np.arange(2**_ROOT_BITS) + 0.5) / 2**_ROOT_BITS
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16.0 / 116.0)
    return packed, np.rint(f * 2**_ROOT_UNIT).astype(np.int16)


LINEAR, ROOT = _lab_tables()


@dataclass(frozen=True)
class Scaling:
    """How channel values become Lab-like units: ``(value - low) * gain``, clipped to the range.

    `low`, `high` : one float per channel, the 0.5 % and 99.5 % quantiles of the whole image.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]


def as_channels(image: np.ndarray) -> np.ndarray:
    """Return the image as (H, W, C) of a type that `colour` knows, or explain what is wrong."""
    image = channels_last(image)
    if image.dtype.kind != "f" and image.dtype not in (np.uint8, np.uint16, np.int16):
        raise ValueError(
            f"image must be uint8, uint16, int16 or float, got {image.dtype}; convert it first"
        )
    return image.astype(np.float32, copy=False) if image.dtype.kind == "f" else image


def channels_last(image: np.ndarray) -> np.ndarray:
    """Return the image as (H, W, C), or explain what is wrong with its shape."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W) or (H, W, C) and not empty, got {image.shape}")
    if image.shape[2] > 64 and image.shape[0] <= 4:
        raise ValueError(
            f"image must have its channels last, (H, W, C), got {image.shape}; use"
            " np.moveaxis(image, 0, -1)"
        )
    return image


def known(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Return which pixels of an (h, w, C) image count (unmasked and finite); None if all do."""
    valid = None if mask is None else np.asarray(mask, bool)
    if image.dtype.kind == "f":
        numbers = np.isfinite(image).all(axis=2)
        valid = numbers if valid is None else valid & numbers
    return None if valid is None or valid.all() else valid


def histogram(array: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Count the values of a tile per channel; counts of disjoint tiles add up to the image's.

    Parameters
    ----------
    array
        (h, w, C); uint8, uint16, int16, or a float type, which is counted as float32 by the
        16 leading bits of its order-preserving bit pattern (8 bits of mantissa).
    valid
        (h, w) bool, False for pixels to leave out; None: all count. NaN and infinity never count.

    Returns
    -------
    int64[C, 65536]

    Notes
    -----
    *Tiling*: additive (sum of integers), any order.

    Examples
    --------
    >>> counts = histogram(np.array([[[3], [3]], [[0], [7]]], np.uint8))
    >>> counts[0, :8].tolist()
    [1, 0, 0, 2, 0, 0, 0, 1]
    """
    counts = np.zeros((array.shape[2], BINS), np.int64)
    for c in range(array.shape[2]):
        values = array[:, :, c] if valid is None else array[:, :, c][valid]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        counts[c] = np.bincount(_bin(values).ravel(), minlength=BINS)
    return counts


def scaling(histograms: np.ndarray, dtype: np.dtype) -> Scaling:
    """Choose the range of each channel from the histograms of the whole image.

    Parameters
    ----------
    histograms
        int64[C, 65536], the sum over all tiles.
    dtype
        Type of the image the histograms were taken from. Of floats, bins are 1/128 of a value and
        more; `refined` is exact enough for values that differ by less.
    """
    low, high = [], []
    for counts in histograms:
        first, last = _ends(counts)
        low.append(value_of(first, dtype))
        high.append(value_of(last + (np.dtype(dtype).kind == "f"), dtype))
    return Scaling(tuple(low), tuple(high))


def fine_histogram(array: np.ndarray, valid: np.ndarray | None, within: Scaling) -> np.ndarray:
    """Count the values of a tile of floats in equal bins between `within`; see `histogram`."""
    counts = np.zeros((array.shape[2], BINS), np.int64)
    for c, (low, high) in enumerate(zip(within.low, within.high, strict=True)):
        values = array[:, :, c] if valid is None else array[:, :, c][valid]
        values = values[np.isfinite(values)].astype(np.float64)
        steps = BINS / (high - low) if high > low else 0.0  # no range where nothing counts
        bins = np.floor((values - low) * steps).clip(0, BINS - 1)
        counts[c] = np.bincount(bins.astype(np.int64), minlength=BINS)
    return counts


def refined(histograms: np.ndarray, within: Scaling) -> Scaling:
    """Choose the range of each channel of floats from sums of `fine_histogram`.

    >>> heights = 2000 + np.arange(3000, dtype=np.float32)[:, None, None] / 1000
    >>> coarse = scaling(histogram(heights), heights.dtype)
    >>> fine = refined(fine_histogram(heights, None, coarse), coarse)
    >>> coarse.high, round(fine.low[0], 2), round(fine.high[0], 2)
    ((2008.0,), 2000.02, 2002.99)
    """
    low, high = [], []
    for counts, begin, end in zip(histograms, within.low, within.high, strict=True):
        first, last = _ends(counts)
        low.append(begin + first * (end - begin) / BINS)
        high.append(begin + (last + 1) * (end - begin) / BINS)
    return Scaling(tuple(low), tuple(high))


def _ends(counts: np.ndarray) -> tuple[int, int]:
    """Return the bins that hold the two quantiles."""
    total = np.cumsum(counts)
    ranks = (int(q * int(total[-1])) for q in QUANTILES)
    first, last = (min(int(np.searchsorted(total, r, side="right")), BINS - 1) for r in ranks)
    return first, last


def _bin(values: np.ndarray) -> np.ndarray:
    """Map values to bins 0..65535, preserving their order."""
    if values.dtype.kind == "f":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        flip = np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
        return ((bits ^ flip) >> np.uint32(16)).astype(np.int64)
    return values.astype(np.int64) + (32768 if values.dtype == np.int16 else 0)


def value_of(index: int, dtype: np.dtype) -> float:
    """Return the least value of a bin; of the bin after the last, the greatest value there is."""
    dtype = np.dtype(dtype)
    if dtype.kind != "f":
        return float(index - (32768 if dtype == np.int16 else 0))
    flipped = min(index << 16, 0xFFFFFFFF)
    bits = flipped ^ (0x80000000 if flipped >> 31 else 0xFFFFFFFF)
    value = float(np.array(bits, np.uint32).view(np.float32))
    return value if np.isfinite(value) else float(np.copysign(np.finfo(np.float32).max, value))


def is_rgb(image: np.ndarray) -> bool:
    """Tell whether an (h, w, C) image is taken as sRGB: three channels of uint8."""
    return image.dtype == np.uint8 and image.shape[2] == 3


def planes(image: np.ndarray, unit: int, scale: Scaling | None) -> np.ndarray:
    """Convert an (h, w, C) image to int16[max(C, 3), h, w] in 1/`unit` Lab units.

    Fewer than three channels are filled up with zeros, which changes no distance.

    Every pixel is a function of its own value only, in integers or in single IEEE double
    operations, so windows, machines and vector widths cannot matter.
    """
    h, w, c = image.shape
    if image.dtype.kind == "f":
        image = image.astype(np.float32, copy=False)
    out = np.zeros((max(c, 3), h, w), np.int16) if c < 3 else np.empty((c, h, w), np.int16)
    if is_rgb(image):
        _lab(image, LINEAR, ROOT, unit, out)
        return out
    if scale is None:
        raise ValueError(
            f"an image of type {image.dtype} with {c} channels needs a scaling of the whole image,"
            " got None; pass segpipe.methods.ranges.ranges_of(image, None)"
        )
    span = 100.0 * min(1.0, (3.0 / c) ** 0.5) * unit
    for k in range(c):
        width = scale.high[k] - scale.low[k]
        gain = span / width if width > 0 else 0.0
        _affine(image[:, :, k], scale.low[k], gain, span, out[k])
    return out


@njit(nogil=True, cache=True)
def _lab(rgb, linear, root, unit, out):
    """rgb[h, w, 3] uint8 -> out[3, h, w] int16: 6 look-ups and about 25 operations a pixel."""
    h, w = rgb.shape[:2]
    mask = u64(2**_ROOT_BITS - 1)
    down = u64(_LINEAR_BITS - _ROOT_BITS)
    kl = np.int32(116 * unit)
    ka = np.int32(500 * unit)
    kb = np.int32(200 * unit)
    shift = np.int32(_ROOT_UNIT)
    half = np.int32(1 << (_ROOT_UNIT - 1))
    black = half - np.int32((66 * unit) << _ROOT_UNIT)  # 116 f - 16, centred on L = 50
    fx = np.empty(w, np.int16)
    fy = np.empty(w, np.int16)
    fz = np.empty(w, np.int16)
    for row in range(h):
        y = u64(row)
        for column in range(w):
            x = u64(column)
            t = linear[u64(0), rgb[y, x, u64(0)]]
            t += linear[u64(1), rgb[y, x, u64(1)]]
            t += linear[u64(2), rgb[y, x, u64(2)]]
            fx[x] = root[(t >> down) & mask]
            fy[x] = root[(t >> (down + u64(_FIELD))) & mask]
            fz[x] = root[(t >> (down + u64(2 * _FIELD))) & mask]
        for column in range(w):
            x = u64(column)
            f = np.int32(fy[x])
            out[u64(0), y, x] = (kl * f + black) >> shift
            out[u64(1), y, x] = (ka * (np.int32(fx[x]) - f) + half) >> shift
            out[u64(2), y, x] = (kb * (f - np.int32(fz[x])) + half) >> shift


@njit(nogil=True, cache=True)
def _affine(values, low, gain, span, out):
    """values[h, w] -> out[h, w] int16: clip((v - low) gain, 0, span) - span / 2, rounded."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            v = (np.float64(values[y, x]) - low) * gain
            v = min(max(v, 0.0), span)
            out[y, x] = np.int16(np.floor(v - 0.5 * span + 0.5))
