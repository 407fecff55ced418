"""What the plain functions share: an array in memory, the same passes on one tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segpipe.colour import as_channels, channels_last
from segpipe.passes import ImageInfo, Pass, run_in_memory
from segpipe.regions.label import label_codes
from segpipe.regions.pieces import CONNECTIVITY, counted

TILE = 4096
IN_ONE_PIECE = 1 << 29
"""Arrays of more pixels are segmented in tiles: kernels count pixels, and edges, in 32 bits."""


def segment(
    passes: Callable[[ImageInfo], tuple[Pass, ...]], image: np.ndarray, mask: np.ndarray | None
) -> np.ndarray:
    """Segment an array by a method's passes; the last one is `segpipe.regions.finish.label_pass`.

    On a single tile the regions, numbered by first pixel, already are the labels: the last pass
    would only copy and measure them.

    Parameters
    ----------
    passes
        The method's ``passes``.
    image
        (H, W) or (H, W, C): bool, integers of up to 32 bits, or floats.
    mask
        (H, W), non-zero where there are pixels to segment; None: everywhere.

    Returns
    -------
    (H, W) uint32 labels.

    Raises
    ------
    ValueError
        If the image or the mask is out of its range, or the method cannot segment the image.
    """
    return _labels(passes, as_arrays(image, mask))


def group(
    passes: Callable[[ImageInfo], tuple[Pass, ...]], image: np.ndarray, segments: np.ndarray
) -> np.ndarray:
    """Group the segments of an array by a method's passes, as `segment` does.

    Segments are the connected pieces of what is given (see `segpipe.regions.pieces`).

    Raises
    ------
    ValueError
        If the image or the segments are out of their range.
    """
    image, segments = as_channels(image), np.asarray(segments)
    if segments.shape != image.shape[:2] or segments.dtype.kind not in "ui":
        raise ValueError(
            f"segments must be integers of the shape {image.shape[:2]} of the image, got"
            f" {segments.dtype} of {segments.shape}"
        )
    if segments.size and segments.min() < 0:
        raise ValueError(f"segments must be 0 or more, got {segments.min()}")
    pieces, _count = label_codes(counted(segments, image, None), CONNECTIVITY, 0)
    return _labels(passes, {"image": image, "segments": pieces})


def _labels(
    passes: Callable[[ImageInfo], tuple[Pass, ...]], arrays: dict[str, np.ndarray]
) -> np.ndarray:
    """Return the labels that passes give: on a single tile, or in tiles if it is too large."""
    steps = passes(image_info(arrays))
    height, width = arrays["image"].shape[:2]
    if height * width > IN_ONE_PIECE:
        return run_in_memory(steps, arrays, (TILE, TILE))[0]["labels"]
    return run_in_memory(steps[:-1], arrays)[0]["regions"]


def as_arrays(image: np.ndarray, mask: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return ``image`` (H, W, C) and perhaps ``mask``, as passes read them; refuse others."""
    image = channels_last(image)
    image = image.view(np.uint8) if image.dtype == bool else image
    kind, size = image.dtype.kind, image.dtype.itemsize
    if kind not in "uif" or (size > 4 and kind != "f") or (size < 4 and kind == "f"):
        raise ValueError(
            f"image must be bool, integers of up to 32 bits or float32/64, got {image.dtype};"
            " convert it first"
        )
    if mask is None:
        return {"image": image}
    if np.shape(mask) != image.shape[:2]:
        raise ValueError(
            f"mask must have the shape {image.shape[:2]} of the image, got {np.shape(mask)}"
        )
    return {"image": image, "mask": np.asarray(mask, bool).view(np.uint8)}


def image_info(arrays: dict[str, np.ndarray]) -> ImageInfo:
    """Describe arrays as the engine describes an image."""
    image = arrays["image"]
    height, width, channels = image.shape
    rgb = channels == 3 and image.dtype == np.uint8
    return ImageInfo((height, width), channels, image.dtype.name, rgb, "mask" in arrays)


def check_channel(channel: int | None, image: ImageInfo) -> None:
    """Refuse a channel that the image does not have."""
    if channel is not None and not 0 <= channel < image.channels:
        have = "one channel" if image.channels == 1 else f"{image.channels} channels"
        raise ValueError(
            f"channel must be 0 to {image.channels - 1}, got {channel}: the image has {have}"
        )


def gray(image: np.ndarray, channel: int | None) -> np.ndarray:
    """Return one grey value per pixel of an (h, w, C) image, of the image's type.

    A given channel as it is; else the luminance of three channels of unsigned integers (weights of
    ITU-R BT.601 in 1/65536, as Pillow), else the mean of all channels, rounded for integers.
    """
    if channel is not None or image.shape[2] == 1:
        return np.ascontiguousarray(image[:, :, channel or 0])
    if image.shape[2] == 3 and image.dtype.kind == "u":
        total = np.full(
            image.shape[:2], 1 << 15, np.uint64 if image.dtype.itemsize > 1 else np.uint32
        )
        for c, weight in enumerate((19595, 38470, 7471)):
            total += image[:, :, c] * total.dtype.type(weight)
        return (total >> total.dtype.type(16)).astype(image.dtype)
    total = np.zeros(image.shape[:2], np.float64 if image.dtype.kind == "f" else np.int64)
    for c in range(image.shape[2]):  # in this order: sums of floats have one
        total += image[:, :, c]
    if image.dtype.kind == "f":
        return (total / image.shape[2]).astype(image.dtype)
    return ((2 * total + image.shape[2]) // (2 * image.shape[2])).astype(image.dtype)
