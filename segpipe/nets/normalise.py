"""Values of an image as inputs of a network, by numbers that no tile has a say in."""

from __future__ import annotations

import numpy as np

from segpipe.errors import InputError
from segpipe.nets.card import Normalisation

Levels = tuple[np.ndarray, np.ndarray]
"""Values of each channel, float64[C], that become 0 and 1."""


def levels(image: np.ndarray, rule: Normalisation, mask: np.ndarray | None = None) -> Levels:
    """Return which values of each channel become 0 and 1.

    Parameters
    ----------
    image
        (H, W, C) whole image.
    rule
        How; of a model card.
    mask
        (H, W) bool, True where pixels count.

    Notes
    -----
    *Tiling*: a percentile is the smallest value that at least so many percent of the pixels do not
    exceed, a value of the image itself, so that it follows exactly from a histogram of values.
    """
    channels = image.shape[2]
    if rule.method != "percentiles":
        return each(rule.low, channels), each(rule.high, channels)
    values = image.reshape(-1, channels) if mask is None else image[mask]
    shares = zip(each(rule.low, channels), each(rule.high, channels), strict=True)
    found = [
        np.percentile(values[:, c], pair, method="inverted_cdf") if len(values) else (0, 0)
        for c, pair in enumerate(shares)
    ]
    low, high = np.asarray(found, np.float64).T
    return low, high


def normalise(image: np.ndarray, given: Levels, rule: Normalisation) -> np.ndarray:
    """Return (C, H, W) float32 inputs of an image (H, W, C); a channel without range becomes 0.

    Raises
    ------
    InputError
        The image holds values that are not finite.

    Examples
    --------
    >>> image, rule = np.array([[[10], [20], [60]]], np.uint8), Normalisation(low=(0,), high=(100,))
    >>> normalise(image, levels(image, rule), rule)
    array([[[0. , 0.2, 1. ]]], dtype=float32)
    """
    low, high = (values[:, None, None] for values in given)
    span = np.where(high > low, high - low, np.inf)
    inputs = (image.transpose(2, 0, 1).astype(np.float32) - low.astype(np.float32)) / span.astype(
        np.float32
    )
    if not np.isfinite(inputs).all():
        raise InputError("the image holds values that are not finite; mask them or replace them")
    return np.ascontiguousarray(inputs if rule.clip is None else inputs.clip(*rule.clip))


def each(values: tuple[float, ...], channels: int) -> np.ndarray:
    """Return a value for each channel; a single one stands for all."""
    return np.broadcast_to(np.asarray(values, np.float64), (channels,)).copy()
