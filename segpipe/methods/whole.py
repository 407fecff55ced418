"""What the plain functions share: an array in memory, the same passes on one tile."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segpipe.passes import ImageInfo, Pass, run_in_memory


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
    image = np.asarray(image)
    image = image.view(np.uint8) if image.dtype == bool else image
    image = image[:, :, None] if image.ndim == 2 else image
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W) or (H, W, C) and not empty, got {image.shape}")
    kind, size = image.dtype.kind, image.dtype.itemsize
    if kind not in "uif" or (size > 4 and kind != "f") or (size < 4 and kind == "f"):
        raise ValueError(
            f"image must be bool, integers of up to 32 bits or float32/64, got {image.dtype};"
            " convert it first"
        )
    arrays = {"image": image}
    if mask is not None:
        if np.shape(mask) != image.shape[:2]:
            raise ValueError(
                f"mask must have the shape {image.shape[:2]} of the image, got {np.shape(mask)}"
            )
        arrays["mask"] = np.asarray(mask, bool).view(np.uint8)
    height, width, channels = image.shape
    rgb = channels == 3 and image.dtype == np.uint8
    info = ImageInfo((height, width), channels, image.dtype.name, rgb, mask is not None)
    arrays, _tables = run_in_memory(passes(info)[:-1], arrays)
    return arrays["regions"]


def check_channel(channel: int | None, image: ImageInfo) -> None:
    """Refuse a channel that the image does not have."""
    if channel is not None and not 0 <= channel < image.channels:
        have = "one channel" if image.channels == 1 else f"{image.channels} channels"
        raise ValueError(
            f"channel must be 0 to {image.channels - 1}, got {channel}: the image has {have}"
        )
