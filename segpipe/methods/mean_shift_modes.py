"""What mean shift finds besides labels: the filtered image, and the modes of its segments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from segpipe.colour import as_channels, known
from segpipe.methods.mean_shift import MeanShift, filtered_image
from segpipe.methods.mean_shift_features import Feature, chosen_features
from segpipe.methods.mean_shift_window import modes
from segpipe.methods.ranges import ranges_of
from segpipe.methods.whole import as_arrays, image_info
from segpipe.passes import run_in_memory
from segpipe.tiles import Box


class Found(NamedTuple):
    """What `mean_shift_modes` returns."""

    labels: np.ndarray
    """(H, W) uint32: 0 where masked, else 1..N in raster order of each segment's first pixel."""
    filtered: np.ndarray
    """Every pixel's mode: the image's shape and type, or (H, W, K) float32, see there."""
    modes: dict[str, np.ndarray]
    """Columns with a row per segment, in the order of the labels."""


def mean_shift_modes(
    image: np.ndarray,
    spatial_bandwidth: int = 8,
    range_bandwidth: int = 16,
    min_size: int = 50,
    iterations: int = 10,
    *,
    mask: np.ndarray | None = None,
    **options: Any,
) -> Found:
    """Segment an image by mean shift; return the filtered image and the modes as well.

    Parameters
    ----------
    image, spatial_bandwidth, range_bandwidth, min_size, iterations, mask, **options
        See `segpipe.methods.mean_shift.mean_shift`.

    Returns
    -------
    labels
        Those of `mean_shift`.
    filtered
        That of `mean_shift_filter`.
    modes
        Columns ``label``, ``area``; ``mode-0``, ``mode-1``, mean row and column of the modes of the
        segment's pixels; ``intensity_mode-0`` …, their means in each plane of `filtered`; and
        those of `segpipe.regions.measure.measure` that are always there.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: identical for every tiling. In a run, ``filtered: true`` and ``modes: true``.

    Examples
    --------
    >>> image = np.array([[10, 12, 14, 90, 92, 94]], np.uint8)
    >>> labels, filtered, modes = mean_shift_modes(image, 3, 16, 1, sample=1)
    >>> filtered.tolist(), labels.tolist()
    ([[12, 12, 12, 92, 92, 92]], [[1, 1, 1, 2, 2, 2]])
    >>> modes["intensity_mode-0"].tolist(), modes["mode-1"].tolist()
    ([12.0, 92.0], [1.0, 4.0])
    """
    parameters = spatial_bandwidth, range_bandwidth, min_size, iterations
    method = MeanShift(*parameters, filtered=True, modes=True, **options)
    arrays = as_arrays(image, mask)
    wanted = replace(image_info(arrays), measure=frozenset())
    found, tables = run_in_memory(method.passes(wanted), arrays)
    return Found(found["labels"], _like(image, found["filtered"]), tables["segments"])


def mean_shift_filter(
    image: np.ndarray,
    spatial_bandwidth: int = 8,
    range_bandwidth: int = 16,
    iterations: int = 10,
    *,
    features: Feature | tuple[Feature, ...] = "colour",
    mask: np.ndarray | None = None,
    **options: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Filter an image by mean shift: every pixel becomes its mode.

    Parameters
    ----------
    image, spatial_bandwidth, range_bandwidth, iterations, features, mask, **options
        See `segpipe.methods.mean_shift.mean_shift`.

    Returns
    -------
    filtered
        The features of the modes: in shape and type of the image for ``colour`` and ``gaussian``
        (floats: float32), else (H, W, K) float32: CIELAB, mean gradients of four orientations, and
        whatever else is compared, in the order of `features`. 0 where masked.
    places
        (H, W, 2) int32, row and column of each pixel's mode.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range.

    Notes
    -----
    *Tiling*: a pixel depends on the image at most iterations * spatial_bandwidth pixels away, and
    what features see (and, for floats, on the ranges of the whole image).

    Examples
    --------
    >>> image = np.array([[10, 12, 14, 90, 92, 94]], np.uint8)
    >>> mean_shift_filter(image, 3, 16, sample=1)[0].tolist()
    [[12, 12, 12, 92, 92, 92]]
    """
    parameters = spatial_bandwidth, range_bandwidth, 1, iterations
    method = MeanShift(*parameters, features=features, **options)
    arrays = as_arrays(as_channels(image), mask)
    method.passes(image_info(arrays))
    pixels = arrays["image"]
    h, w, channels = pixels.shape
    valid = known(pixels, arrays.get("mask"))
    scale = ranges_of(pixels, valid) if pixels.dtype.kind == "f" else None
    chosen = chosen_features(method, pixels.dtype, scale)
    everything = Box((0, 0), (h, w))
    found, shift = modes(
        chosen.planes(pixels, valid), valid, everything, everything, (h, w), method, chosen.limit
    )
    values = filtered_image(chosen, found, valid, channels)
    places = np.moveaxis(shift, 0, 2) + np.moveaxis(np.indices((h, w), np.int32), 0, 2)
    return _like(image, values), places


def _like(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values (H, W, K) as (H, W) if the image has that shape and one plane is enough."""
    return values[:, :, 0] if np.ndim(image) == 2 and values.shape[2] == 1 else values
