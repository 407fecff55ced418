"""What a network learns of labels: classes, depth inside objects, weights of pixels."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

REACH = 3
"""The weight map is worked out as far as so many sigmas from an object; beyond it is below 1 %."""


def distance(labels: np.ndarray) -> np.ndarray:
    """Return how deep inside its object each pixel lies, float32 (H, W): 0 outside, 1 deepest.

    The Euclidean distance to the object's rim, over the largest one in that object; so small and
    large objects look alike, and a threshold splits both.

    >>> distance(np.array([[0, 3, 3, 3, 4, 4]])).tolist()
    [[0.0, 0.5, 1.0, 0.5, 0.5, 1.0]]
    """
    padded = np.pad(labels, 1, mode="edge")
    inner = labels > 0
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner &= padded[y : y + labels.shape[0], x : x + labels.shape[1]] == labels
    # outside the image nothing is known: no rim there
    depth = np.where(labels > 0, ndimage.distance_transform_edt(inner) + 1, 0)
    deepest = np.zeros(int(labels.max(initial=0)) + 1)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    return (depth / np.maximum(deepest, 1)[labels]).astype(np.float32)


def border_weights(
    labels: np.ndarray, weight: float, sigma: float, *, inside: bool = False
) -> np.ndarray:
    """Return the paper's map w0 exp(-(d1 + d2)^2 / (2 sigma^2)) of background pixels, 0 elsewhere.

    d1 and d2 are the distances to the nearest and the second nearest object (px). With `inside`,
    pixels of objects have it too: there d1 is 0, so it is high where objects touch.
    """
    if weight == 0:
        return np.zeros(labels.shape, np.float32)
    reach = int(np.ceil(REACH * sigma))
    nearest = np.full((2, *labels.shape), np.inf, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        around = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        away = ndimage.distance_transform_edt(labels[around] != number).astype(np.float32)
        first, second = nearest[0][around], nearest[1][around]
        np.minimum(second, np.maximum(first, away), out=second)
        np.minimum(first, away, out=first)
    found = weight * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2))
    return (found if inside else np.where(labels == 0, found, 0)).astype(np.float32)


def classes_of(labels: Tensor, border: int, number: int) -> Tensor:
    """Return classes of objects: 0 background, 1 interior, and if `number` is 3 a 2 for the border.

    Parameters
    ----------
    labels
        (N, H, W) float, whole numbers: 0 or the object.
    border
        Pixels of an object this near (Chebyshev distance, px) to anything else are its border.
    number
        Classes wanted, 2 or 3.
    """
    found = (labels > 0).long()
    if number < 3:
        return found
    edge = 2 * border + 1
    around = F.pad(labels[:, None], (border,) * 4, mode="replicate")
    high = F.max_pool2d(around, edge, stride=1)
    low = -F.max_pool2d(-around, edge, stride=1)
    return torch.where((labels > 0) & (high != low)[:, 0], 2, found)
