"""What mean shift finds besides labels: the filtered image, and the modes of its regions."""

from __future__ import annotations

from typing import Literal

import numpy as np

from segpipe import colour
from segpipe.colour import as_channels, known
from segpipe.methods.mean_shift import MeanShift, filtered
from segpipe.methods.mean_shift_window import Colours, colours
from segpipe.passes import ImageInfo
from segpipe.tiles import Box


def mean_shift_filter(
    image: np.ndarray,
    spatial_bandwidth: int = 8,
    range_bandwidth: int = 16,
    iterations: int = 10,
    *,
    kernel: Literal["flat", "epanechnikov", "gaussian"] = "flat",
    space: Literal["raw", "lab"] = "raw",
    sample: int = 2,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Filter an image by mean shift: every pixel becomes its mode.

    Parameters
    ----------
    image, spatial_bandwidth, range_bandwidth, iterations, kernel, space, sample, mask
        See `segpipe.methods.mean_shift.mean_shift`.

    Returns
    -------
    filtered
        The colours of the modes, in shape and type of the image; space ``lab``: float32 CIELAB.
        0 where masked.
    places
        (H, W, 2) int32, row and column of each pixel's mode.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: a pixel depends on the image at most iterations * spatial_bandwidth pixels away (and,
    for floats, on the ranges of the whole image).

    Examples
    --------
    >>> image = np.array([[10, 12, 14, 90, 92, 94]], np.uint8)
    >>> mean_shift_filter(image, 3, 16, sample=1)[0].tolist()
    [[12, 12, 12, 92, 92, 92]]
    """
    method = MeanShift(spatial_bandwidth, range_bandwidth, 1, iterations, kernel, space, sample)
    flat = np.ndim(image) == 2
    image = as_channels(image)
    h, w, channels = image.shape
    method.passes(ImageInfo((h, w), channels, image.dtype.name))
    if mask is not None and np.shape(mask) != (h, w):
        raise ValueError(f"mask must have the shape {(h, w)} of the image, got {np.shape(mask)}")
    valid = known(image, mask)
    scale = None
    if image.dtype.kind == "f":
        scale = colour.scaling(colour.histogram(image, valid), image.dtype)
    everything = Box((0, 0), (h, w))
    found, shift = filtered(method, image, valid, everything, everything, (h, w), scale)
    values = _restored(colours(image.dtype, space, range_bandwidth, scale), found, image.dtype)
    if valid is not None:
        values[~valid] = 0
    places = np.moveaxis(shift, 0, 2) + np.moveaxis(np.indices((h, w), np.int32), 0, 2)
    return values[:, :, 0] if flat else values, places


def _restored(chosen: Colours, found: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Turn the method's integers back into values of the image."""
    values = np.moveaxis(found, 0, 2)
    if chosen.space == "lab":
        return ((values.astype(np.int32) - 32768) / chosen.unit + [50, 0, 0]).astype(np.float32)
    if chosen.scale is not None:
        low, high = np.array(chosen.scale.low), np.array(chosen.scale.high)
        return (values / (255.0 * chosen.unit) * (high - low) + low).astype(dtype)
    lift = 32768 if dtype == np.int16 else 0
    limits = np.iinfo(dtype)
    back = values.astype(np.int64) * chosen.divisor - lift
    return np.ascontiguousarray(back.clip(limits.min, limits.max).astype(dtype))


def mean_shift_modes(
    labels: np.ndarray, filtered: np.ndarray, places: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the modes of regions: mean place and mean colour of their pixels' modes.

    Parameters
    ----------
    labels
        (H, W), 0 = none.
    filtered, places
        Of `mean_shift_filter`.

    Returns
    -------
    Columns of equal length: ``label``, ``area``, ``mode-0`` (row), ``mode-1`` (column) and
    ``intensity_mode-0`` … for the channels.

    Examples
    --------
    >>> image = np.array([[10, 12, 14, 90, 92, 94]], np.uint8)
    >>> found = mean_shift_filter(image, 3, 16, sample=1)
    >>> table = mean_shift_modes(np.array([[1, 1, 1, 2, 2, 2]]), *found)
    >>> table["intensity_mode-0"].tolist(), table["mode-1"].tolist()
    ([12.0, 92.0], [1.0, 4.0])
    """
    if labels.shape != filtered.shape[:2] or places.shape != (*labels.shape, 2):
        raise ValueError(
            f"labels, filtered and places must be of one image, got shapes {labels.shape},"
            f" {filtered.shape} and {places.shape}"
        )
    label, index = np.unique(labels, return_inverse=True)
    area = np.bincount(index.ravel())
    chosen = label > 0
    table = {"label": label[chosen], "area": area[chosen]}
    values = filtered.reshape(*labels.shape, -1)
    for title, planes in (("mode", places), ("intensity_mode", values)):
        for k in range(planes.shape[2]):
            total = np.bincount(index.ravel(), planes[..., k].ravel().astype(np.float64))
            table[f"{title}-{k}"] = (total / area)[chosen]
    return table
