"""What a watershed floods: the altitude of every pixel, in integers, and its markers.

An altitude has 32 bits. The leading 16 are the gradient (Sobel, all channels together, in
1/`GRADIENT_UNIT` Lab units per pixel) or the image itself. The others order plateaus, which the
leading ones leave open: by the mean altitude round a pixel where minima are the markers, else by
the distance to the markers, so that a plateau is shared out fairly.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from scipy.ndimage import distance_transform_edt

from segpipe import colour
from segpipe.methods.points import places
from segpipe.methods.smooth_kernels import radius, smooth
from segpipe.methods.watershed_kernels import CORE, MARKED, NONE, OUTSIDE
from segpipe.passes import Window
from segpipe.tiles import Box, Tile

if TYPE_CHECKING:
    from segpipe.methods.watershed import Watershed

HIGHEST = 65534
"""Greatest leading part: `NONE` stays above."""
COLOUR_UNIT = 64
"""Steps per Lab unit of the planes whose gradient is taken."""
GRADIENT_UNIT = 8 * COLOUR_UNIT
"""Steps of a gradient of one Lab unit per pixel: a Sobel filter weighs 8."""
BYTE_UNIT, LIGHT_UNIT = 128, 256
"""Steps per value of a uint8 image that is flooded itself, and per unit of the lightness of RGB."""
SPAN = 32768
"""Steps from the 0.5 % to the 99.5 % quantile of a floating image that is flooded itself."""
NEAR = 4
"""Pixels round a pixel whose mean altitude orders plateaus."""
FAR = 255
"""Distance to the markers, in pixels, up to which plateaus are shared out; see `SEGMENTS_FAR`."""
SEGMENTS_FAR = 64
"""The same where the markers are segments of another stage: a halo."""

i64 = np.int64
u64 = np.uint64


def reach(parameters: Watershed) -> int:
    """Return the halo: smoothing, gradient, the pixels round a tile and what orders plateaus."""
    if parameters.markers == "minima":
        return context(parameters) + NEAR
    if parameters.markers == "segments":
        return context(parameters) + SEGMENTS_FAR
    return context(parameters)


def context(parameters: Watershed) -> int:
    """Return how far round a pixel its altitude, and the markers of its cell of a grid, are."""
    altitude = radius(parameters.sigma) + (parameters.altitude == "gradient")
    return altitude + (parameters.step if parameters.markers == "grid" else 1)


def threshold(
    parameters: Watershed, dtype: np.dtype, channels: int, scale: colour.Scaling | None
) -> int:
    """Return ``h`` in steps of the leading part, at least 1; 0 where minima are not the markers."""
    if parameters.markers != "minima":
        return 0
    return int(np.clip(parameters.h * unit(parameters, dtype, channels, scale) + 0.5, 1, 1 << 20))


def unit(
    parameters: Watershed, dtype: np.dtype, channels: int, scale: colour.Scaling | None
) -> float:
    """Return the steps of the leading part per unit of ``h``."""
    if parameters.altitude == "gradient":
        return float(GRADIENT_UNIT)
    if dtype == np.uint8:
        return float(LIGHT_UNIT if channels == 3 else BYTE_UNIT)
    if dtype.kind == "f" and scale is not None and scale.high[0] > scale.low[0]:
        return SPAN / (scale.high[0] - scale.low[0])
    return 1.0


def landscape(
    window: Window, valid: np.ndarray | None, parameters: Watershed, scale: colour.Scaling | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return altitude and kind of the core and one pixel round it, as `flood` wants them."""
    tile, shape = window.tile, window.grid.shape
    leading = leading_part(window.arrays["image"], valid, parameters, scale)
    ring = tile.core.grown(1, shape)
    inside = ring.within(tile.window)
    known = None if valid is None else valid[inside]
    marked = np.zeros(ring.shape, bool)
    if parameters.markers == "minima":
        rest = mean_round(leading, valid, tile.window, ring)
    elif parameters.markers == "grid":
        rest = grid_markers(leading, valid, tile.window, ring, parameters.step, marked)
    elif parameters.markers == "segments":
        free = window.arrays["segments"] == 0
        if valid is not None:
            free |= ~valid
        marked |= ~free[inside]
        rest = distances(free, SEGMENTS_FAR)[inside]
    else:
        rest = near_points(places(parameters.markers), ring, marked)
    return framed(leading[inside], rest, known, marked, tile)


def framed(
    leading: np.ndarray,
    rest: np.ndarray,
    known: np.ndarray | None,
    marked: np.ndarray,
    tile: Tile,
) -> tuple[np.ndarray, np.ndarray]:
    """Put altitude and kind of a core, and what exists round it, into a frame of one pixel."""
    start = [int(c > 0) for c in tile.core.start]
    place = tuple(slice(1 - s, 1 - s + n) for s, n in zip(start, leading.shape, strict=True))
    altitude = np.full([n + 2 for n in tile.core.shape], NONE)
    kind = np.full(altitude.shape, OUTSIDE, np.uint8)
    altitude[place] = leading.astype(np.uint32) << np.uint32(16) | rest
    kind[place] = np.where(marked, MARKED, CORE)
    if known is not None:
        altitude[place][~known] = NONE
        kind[place][~known] = OUTSIDE
    kind[[0, -1]] = OUTSIDE
    kind[:, [0, -1]] = OUTSIDE
    return altitude, kind


def leading_part(
    image: np.ndarray, valid: np.ndarray | None, parameters: Watershed, scale: colour.Scaling | None
) -> np.ndarray:
    """Return the leading part, uint16 (h, w), of an (h, w, C) window."""
    if parameters.altitude == "gradient":
        planes = smooth(colour.planes(image, COLOUR_UNIT, scale), valid, parameters.sigma)
        out = np.empty(planes.shape[1:], np.uint16)
        _sobel(planes, np.ones((1, 1), bool) if valid is None else valid, out)
        return out
    values = _signed(image, scale)
    return np.minimum(
        smooth(values[None], valid, parameters.sigma)[0].astype(np.int32) + 32768, HIGHEST
    ).astype(np.uint16)


def _signed(image: np.ndarray, scale: colour.Scaling | None) -> np.ndarray:
    """Return a one-channel image, or the lightness of an RGB image, in all of int16."""
    if colour.is_rgb(image):
        return colour.planes(image, LIGHT_UNIT, None)[0]
    values = image[:, :, 0]
    if values.dtype == np.int16:
        return values
    if values.dtype.kind == "u":
        unit = BYTE_UNIT if values.dtype == np.uint8 else 1
        return (values.astype(np.int32) * unit - 32768).astype(np.int16)
    assert scale is not None
    width = scale.high[0] - scale.low[0]
    gain = SPAN / width if width > 0 else 0.0
    steps = np.floor((np.nan_to_num(values).astype(np.float64) - scale.low[0]) * gain + 0.5)
    return np.clip(steps - SPAN // 2, -32768, 32767).astype(np.int16)


@njit(nogil=True, cache=True)
def _sobel(planes, valid, out):
    """Gradient of all channels; neighbours that do not exist or count have the pixel's value."""
    channels, h, w = planes.shape
    everywhere = valid.shape[0] != h or valid.shape[1] != w
    ring = np.zeros((3, 3), np.int64)
    for y in range(h):
        for x in range(w):
            total = np.float64(0)
            if everywhere and 0 < y < h - 1 and 0 < x < w - 1:
                for k in range(channels):
                    above = planes[k, u64(y - 1)]
                    here = planes[k, u64(y)]
                    below = planes[k, u64(y + 1)]
                    a, b, c = u64(x - 1), u64(x), u64(x + 1)
                    dx = i64(above[c]) - above[a] + 2 * (i64(here[c]) - here[a])
                    dx += i64(below[c]) - below[a]
                    dy = i64(below[a]) - above[a] + 2 * (i64(below[b]) - above[b])
                    dy += i64(below[c]) - above[c]
                    total += np.float64(dx * dx + dy * dy)
            else:
                for k in range(channels):
                    for i in range(3):
                        for j in range(3):
                            v, u = y + i - 1, x + j - 1
                            ring[i, j] = planes[k, y, x]
                            if 0 <= v < h and 0 <= u < w and (everywhere or valid[v, u]):
                                ring[i, j] = planes[k, v, u]
                    dx = ring[0, 2] + 2 * ring[1, 2] + ring[2, 2]
                    dx -= ring[0, 0] + 2 * ring[1, 0] + ring[2, 0]
                    dy = ring[2, 0] + 2 * ring[2, 1] + ring[2, 2]
                    dy -= ring[0, 0] + 2 * ring[0, 1] + ring[0, 2]
                    total += np.float64(dx * dx + dy * dy)
            out[u64(y), u64(x)] = min(np.sqrt(total), HIGHEST)


def mean_round(leading: np.ndarray, valid: np.ndarray | None, window: Box, ring: Box) -> np.ndarray:
    """Return the mean of the pixels that count, up to NEAR away in rows and columns."""
    counts = np.ones(leading.shape, np.uint8) if valid is None else valid.astype(np.uint8)
    out = np.empty(ring.shape, np.uint16)
    _box_mean(leading, counts, ring.within(window)[0].start, ring.within(window)[1].start, out)
    return out


@njit(nogil=True, cache=True)
def _box_mean(values, counts, top, left, out):
    """Mean over (2 NEAR + 1)^2 pixels; sums of columns move down, their prefix sums give boxes."""
    h, w = values.shape
    total = np.zeros(w, np.int32)
    number = np.zeros(w, np.int32)
    sums = np.zeros(w + 1, np.int32)
    numbers = np.zeros(w + 1, np.int32)
    for y in range(max(0, top - NEAR - 1), min(h, top + NEAR)):
        _add_row(values, counts, y, 1, total, number)
    for y in range(out.shape[0]):
        if top + y + NEAR < h:
            _add_row(values, counts, top + y + NEAR, 1, total, number)
        if top + y - NEAR - 1 >= 0:
            _add_row(values, counts, top + y - NEAR - 1, -1, total, number)
        for x in range(w):
            sums[u64(x + 1)] = sums[u64(x)] + total[u64(x)]  # wraps round; differences do not
            numbers[u64(x + 1)] = numbers[u64(x)] + number[u64(x)]
        for x in range(out.shape[1]):
            a = u64(max(0, left + x - NEAR))
            b = u64(min(w, left + x + NEAR + 1))
            n = np.int32(numbers[b] - numbers[a])
            out[u64(y), u64(x)] = np.int32(sums[b] - sums[a]) // n if n else 0


@njit(nogil=True, cache=True)
def _add_row(values, counts, y, sign, total, number):
    for x in range(values.shape[1]):
        n = sign * np.int32(counts[u64(y), u64(x)])
        total[u64(x)] += n * np.int32(values[u64(y), u64(x)])
        number[u64(x)] += n


def grid_markers(
    leading: np.ndarray,
    valid: np.ndarray | None,
    window: Box,
    ring: Box,
    step: int,
    marked: np.ndarray,
) -> np.ndarray:
    """Mark the lowest pixel of every cell of the global grid; return distances to the own one."""
    known = np.ones(leading.shape, bool) if valid is None else valid
    out = np.empty(ring.shape, np.uint16)
    _mark_cells(leading, known, window.start, ring.start, step, marked, out)
    return out


@njit(nogil=True, cache=True)
def _mark_cells(leading, known, origin, start, step, marked, out):
    """Half the squared distance (step <= 256: it fits), cell by cell; ties: raster order."""
    h, w = leading.shape
    y0, x0 = start[0] - origin[0], start[1] - origin[1]
    y1, x1 = y0 + out.shape[0], x0 + out.shape[1]
    for top in range(start[0] // step * step - origin[0], y1, step):
        for left in range(start[1] // step * step - origin[1], x1, step):
            bottom, right = min(top + step, h), min(left + step, w)
            best = np.uint16(65535)
            by, bx = -1, -1
            for y in range(max(top, 0), bottom):
                for x in range(max(left, 0), right):
                    if known[y, x] and leading[y, x] < best:
                        best = leading[y, x]
                        by, bx = y, x
            for y in range(max(top, y0), min(bottom, y1)):
                for x in range(max(left, x0), min(right, x1)):
                    away = ((y - by) ** 2 + (x - bx) ** 2) >> 1
                    out[y - y0, x - x0] = min(away, 65535)
                    marked[y - y0, x - x0] = y == by and x == bx


def near_points(points: np.ndarray, ring: Box, marked: np.ndarray) -> np.ndarray:
    """Mark the points that lie in `ring`; return distances to the nearest one, up to `FAR`."""
    wide = np.ones([n + 2 * FAR for n in ring.shape], bool)
    near = points - ring.start + FAR
    near = near[((near >= 0) & (near < wide.shape)).all(axis=1)]
    wide[tuple(near.T)] = False
    inner = (slice(FAR, -FAR), slice(FAR, -FAR))
    marked |= ~wide[inner]
    return distances(wide)[inner]


def distances(free: np.ndarray, far: int = FAR) -> np.ndarray:
    """Return the distance to the nearest pixel that is not free in 1/256 pixel, up to `far`."""
    if free.all():  # SciPy would measure to a pixel outside
        return np.full(free.shape, 256 * far, np.uint16)
    return np.minimum(distance_transform_edt(free) * 256, 256 * far).astype(np.uint16)
