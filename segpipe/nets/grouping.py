"""From outputs of a network to objects: markers where it is deep, and an exact watershed."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from segpipe.methods.watershed import watershed
from segpipe.nets.card import BORDER, DISTANCE, ModelCard

LEVELS = 255
"""Outputs are compared as whole 255ths: so they can be stored, and no rounding decides an order."""


def group_instances(outputs: np.ndarray, card: ModelCard) -> np.ndarray:
    """Return the objects that a network has found, numbered.

    Parameters
    ----------
    outputs
        (H, W, K) of `Model.predict`: float in 0 to 1, or uint8 in 255ths.
    card
        Of the model; `card.grouping` has the thresholds.

    Returns
    -------
    labels
        uint32 (H, W): 1..N in raster order of each object's first pixel, 0 = background.

    Raises
    ------
    ValueError
        The model finds classes only.

    Notes
    -----
    A pixel is foreground if it is probably not background. Where the depth, the distance or else
    the probability of the interior, reaches the threshold, each 4-connected part is a marker; the
    foreground is flooded from these, deepest pixels first. Foreground that no marker reaches, and
    objects that are too small, become background.

    *Tiling*: components, watershed and sizes are functions of whole numbers on the whole image,
    which tiles can work out together (`segpipe.regions`).
    """
    grouping = card.grouping
    if grouping is None:
        raise ValueError(
            f"the model {card.name} finds classes, not objects: its card has no grouping"
        )
    foreground, depth = fields(outputs, card)
    inside = foreground >= round(grouping.foreground * LEVELS)
    deep = inside & (depth >= round(grouping.marker * LEVELS))
    markers, number = ndimage.label(deep)
    if grouping.min_marker > 1:
        kept = np.bincount(markers.ravel(), minlength=number + 1) >= grouping.min_marker
        markers[~kept[markers]] = 0
    if not markers.any():
        return np.zeros(inside.shape, np.uint32)
    labels = watershed(LEVELS - depth, altitude="image", sigma=0, markers=markers, mask=inside)
    return numbered(labels, grouping.min_size)


def fields(outputs: np.ndarray, card: ModelCard) -> tuple[np.ndarray, np.ndarray]:
    """Return what objects are made of, uint8 (H, W) in 255ths: foreground and depth."""
    share = outputs if outputs.dtype == np.uint8 else quantised(outputs)
    foreground = LEVELS - share[..., 0]
    if card.distance:
        return foreground, share[..., card.outputs.index(DISTANCE)]
    inner = [n for n, name in enumerate(card.classes) if n and name != BORDER]
    return foreground, share[..., inner].max(axis=2)


def quantised(outputs: np.ndarray) -> np.ndarray:
    """Return shares (0 to 1) as whole 255ths, uint8.

    >>> quantised(np.array([0.0, 0.5, 1.0], np.float32)).tolist()
    [0, 128, 255]
    """
    return np.floor(outputs * np.float32(LEVELS) + np.float32(0.5)).astype(np.uint8)


def numbered(labels: np.ndarray, min_size: int = 1) -> np.ndarray:
    """Return labels numbered anew by first pixel, without those of less than `min_size` pixels.

    >>> numbered(np.array([[0, 9, 9], [4, 2, 2]]), min_size=2).tolist()
    [[0, 1, 1], [0, 2, 2]]
    """
    names, first, inverse, sizes = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    kept = (names != 0) & (sizes >= min_size)
    order = np.flatnonzero(kept)[np.argsort(first[kept])]
    number = np.zeros(len(names), np.uint32)
    number[order] = np.arange(1, len(order) + 1)
    return number[inverse].reshape(labels.shape)
