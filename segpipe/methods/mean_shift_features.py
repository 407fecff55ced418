"""What mean shift compares: the features of pixels, as integers of at most 16 bits.

Features are planes (K, rows, columns) in 1/`unit` of a unit, or in `divisor` units; several kinds
are laid one behind the other. A feature depends on pixels at most `halo` away, and where those do
not exist or do not count, on the pixel itself or on the others: never on a tile.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numba import njit

from segpipe import colour
from segpipe.methods import smooth_kernels
from segpipe.methods.gradient_histogram import ORIENTATIONS, gradient_histogram

if TYPE_CHECKING:
    from segpipe.methods.mean_shift import MeanShift

Feature = Literal["colour", "lab", "gaussian", "gradient-histogram"]
WIDEST = 254
"""Largest range bandwidth that the kernels compare, in their units."""
OFFSET = 32768
"""Lifts signed values to unsigned ones."""
FLOAT_RANGE = 255.0
"""Images of floats are scaled to this range, as if they had 8 bits before the point."""
FINEST = 8
"""Steps per unit of CIELAB and of gradients of 8 bits, at most …"""
FINEST_FLOAT = 64
"""… and of floats, so that the range fits 16 bits."""


@dataclass(frozen=True)
class Features:
    """How the pixels of an image become integers, and the squared bandwidth in their units."""

    names: tuple[Feature, ...]
    dtype: np.dtype
    """Type of the image."""
    scale: colour.Scaling | None
    """Of the whole image; only for floats."""
    sigma: float
    """Of ``gaussian`` (px)."""
    radius: int
    """Of ``gradient-histogram`` (px)."""
    unit: int
    divisor: int
    limit: int

    @property
    def halo(self) -> int:
        """How far a feature sees, in pixels."""
        sees = {
            "gaussian": smooth_kernels.radius(self.sigma),
            "gradient-histogram": self.radius + 1,
        }
        return max(sees.get(name, 0) for name in self.names)

    @property
    def out_dtype(self) -> np.dtype:
        """Type of `restored`: the image's where all features are values of it, else float32."""
        values = {"colour", "gaussian"}.issuperset(self.names) and self.dtype.kind != "f"
        return self.dtype if values else np.dtype(np.float32)

    def count(self, channels: int) -> int:
        """Return the number of planes for an image of so many channels."""
        return sum(self._width(name, channels) for name in self.names)

    def planes(self, image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        """Return the features (K, h, w) uint8 or uint16 of an (h, w, C) window.

        They are those of the whole image `halo` pixels inside the window; `valid` (h, w) bool says
        which pixels count.
        """
        found = [self._planes(name, image, valid) for name in self.names]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def own_colours(self, planes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return `colours` of an image, given its `planes`."""
        return planes if self.names in (("colour",), ("lab",)) else self.colours(image)

    def colours(self, image: np.ndarray) -> np.ndarray:
        """Return what means of regions are taken of: CIELAB if it is a feature, else the values."""
        return self._lab(image) if "lab" in self.names else self._planar(image)

    def restored(self, found: np.ndarray, channels: int) -> np.ndarray:
        """Turn planes (K, h, w) into (h, w, K) of `out_dtype`, in units of what they are."""
        out = np.empty((*found.shape[1:], len(found)), self.out_dtype)
        at = 0
        for name in self.names:
            width = self._width(name, channels)
            self._restore(name, found[at : at + width], out[:, :, at : at + width])
            at += width
        return out

    def _width(self, name: Feature, channels: int) -> int:
        return ORIENTATIONS if name == "gradient-histogram" else channels

    def _planes(self, name: Feature, image: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
        if name == "lab":
            return self._lab(image)
        values = self._values(image)
        if name == "gaussian":
            # the weights add up to 1, so that a constant may be taken off and put on again
            lifted = (values.astype(np.int32) - OFFSET).astype(np.int16)
            smoothed = smooth_kernels.smooth(lifted, valid, self.sigma)
            return (smoothed.astype(np.int32) + OFFSET).astype(values.dtype)
        if name == "gradient-histogram":
            return gradient_histogram(values, valid, self.radius)
        return values

    def _lab(self, image: np.ndarray) -> np.ndarray:
        lab = colour.planes(np.ascontiguousarray(image), self.unit, None)
        return (lab.astype(np.int32) + OFFSET).astype(np.uint16)

    def _values(self, image: np.ndarray) -> np.ndarray:
        """Return the image's own values; each is a function of the pixel's value only."""
        return np.ascontiguousarray(self._planar(image))

    def _planar(self, image: np.ndarray) -> np.ndarray:
        """Return `_values`, perhaps as a view: what reads them once needs no copy."""
        if self.scale is not None:
            return self._scaled(np.ascontiguousarray(np.moveaxis(image, 2, 0)), self.scale)
        if image.dtype == np.int16:
            image = (image.astype(np.int32) + OFFSET).astype(np.uint16)
        if self.unit > 1:
            image = image * np.uint16(self.unit)
        elif self.divisor > 1:
            image = _quotients(image.ravel(), self.divisor).reshape(image.shape)
        return np.moveaxis(image, 2, 0)

    def _scaled(self, values: np.ndarray, scale: colour.Scaling) -> np.ndarray:
        out = np.zeros(values.shape, np.uint16)
        span = FLOAT_RANGE * self.unit
        for c, (low, high) in enumerate(zip(scale.low, scale.high, strict=True)):
            if high > low:
                with np.errstate(invalid="ignore"):  # NaN: masked, whatever it becomes
                    lifted = (values[c].astype(np.float64) - low) * (span / (high - low))
                    lifted = np.clip(np.nan_to_num(lifted), 0.0, span)
                out[c] = np.floor(lifted + 0.5).astype(np.uint16)
        return out

    def _restore(self, name: Feature, found: np.ndarray, out: np.ndarray) -> None:
        for k, plane in enumerate(found):
            for_unit = plane.astype(np.float64) * self.divisor / self.unit
            if name == "lab":
                for_unit += (50 if k == 0 else 0) - OFFSET / self.unit
            elif name != "gradient-histogram" and self.scale is not None:
                low, high = self.scale.low[k], self.scale.high[k]
                for_unit = for_unit / FLOAT_RANGE * (high - low) + low
            elif name != "gradient-histogram" and self.dtype == np.int16:
                for_unit -= OFFSET
            if out.dtype.kind in "ui":
                limits = np.iinfo(out.dtype)
                for_unit = for_unit.clip(limits.min, limits.max)
            out[:, :, k] = for_unit


@njit(nogil=True, cache=True, error_model="numpy")
def _quotients(values, divisor):
    """Return values of 16 bits over a divisor, rounded half up; NumPy takes five times as long."""
    out = np.empty(values.size, np.uint16)
    half, whole = np.int32(divisor // 2), np.float32(divisor)
    for i in range(values.size):
        out[i] = np.int32(np.float32(np.int32(values[i]) + half) / whole)  # exact below 2^24
    return out


def chosen_features(method: MeanShift, dtype: np.dtype, scale: colour.Scaling | None) -> Features:
    """Choose the integers for an image type: as fine as the kernels can compare."""
    names = method.feature_names
    floating = dtype.kind == "f"
    fine = floating or (dtype == np.uint8 and bool({"lab", "gradient-histogram"} & set(names)))
    bandwidth = method.range_bandwidth
    finest = FINEST_FLOAT if floating else FINEST
    unit = max(1, min(finest, WIDEST // bandwidth)) if fine else 1
    divisor = 1 if fine else -(-bandwidth // WIDEST)
    limit = (bandwidth * unit) ** 2 // divisor**2
    return Features(
        names, dtype, scale, method.sigma, method.histogram_radius, unit, divisor, limit
    )
