"""How well segments fit into the truth's regions: errors of leaking, and what could be achieved.

L is a segment, T a region of the truth, |.| a number of pixels, N all pixels that count.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from segpipe.quality.contingency import Contingency

SHARE = 0.95
"""A segment lies inside one object when this share of it does."""


def undersegmentation(table: Contingency) -> float:
    """Return the under-segmentation error after Neubert and Protzel, 0 to about 1.

    Sum over all pairs that meet of min(|L and T|, |L without T|), divided by N. Neubert, Protzel,
    "Superpixel benchmark and comparison", Forum Bildverarbeitung 2012; as in Stutz et al., CVIU
    166, 2018, 10.1016/j.cviu.2017.03.007.
    """
    outside = table.label_pixels[table.row] - table.pixels
    return int(np.minimum(table.pixels, outside).sum()) / table.total


def leakage(table: Contingency) -> float:
    """Return the under-segmentation error after Levinshtein et al., 0 or more.

    For every T, the pixels of the segments that touch it beyond its own, divided by |T|; the mean
    over all T. Levinshtein, Stere, Kutulakos, Fleet, Dickinson, Siddiqi, "TurboPixels", IEEE TPAMI
    31(12), 2009, 10.1109/TPAMI.2009.96, normalised as in Stutz et al. 2018. Hard on small objects.
    """
    reached = np.zeros(len(table.truths), np.int64)
    np.add.at(reached, table.column, table.label_pixels[table.row])
    return math.fsum((reached - table.truth_pixels) / table.truth_pixels) / len(table.truths)


def achievable_accuracy(table: Contingency) -> float:
    """Return the achievable segmentation accuracy (ASA), 0 to 1.

    Share of pixels that are right when every segment is given to the T it shares most with. Liu,
    Tuzel, Ramalingam, Chellappa, "Entropy rate superpixel segmentation", CVPR 2011,
    10.1109/CVPR.2011.5995323. 1 - ASA is the "corrected" under-segmentation error of van den Bergh
    et al. and the ``UE`` in the code of Stutz et al.
    """
    return int(_largest(table).sum()) / table.total


def containment(table: Contingency, share: float = SHARE) -> float:
    """Return the share of segments of which at least `share` (0 to 1) lies in one T."""
    if not 0 <= share <= 1:
        raise ValueError(f"the share of a segment must be 0 to 1, got {share}")
    wanted = Fraction(share).limit_denominator(10**6)
    inside = _largest(table) * wanted.denominator >= table.label_pixels * wanted.numerator
    return int(inside.sum()) / len(inside)


def covering(table: Contingency) -> float:
    """Return how well segments cover the truth, 0 to 1: mean over pixels of the best Jaccard of T.

    Arbelaez, Maire, Fowlkes, Malik, "Contour detection and hierarchical image segmentation", IEEE
    TPAMI 33(5), 2011, 10.1109/TPAMI.2010.161.
    """
    best = np.zeros(len(table.truths))
    np.maximum.at(best, table.column, jaccard(table))
    return math.fsum(best * table.truth_pixels) / table.total


def jaccard(table: Contingency) -> np.ndarray:
    """Return intersection over union of every pair that meets."""
    union = table.label_pixels[table.row] + table.truth_pixels[table.column] - table.pixels
    return table.pixels / union


def _largest(table: Contingency) -> np.ndarray:
    """Return int64[L], the pixels each segment shares with the T it shares most with."""
    largest = np.zeros(len(table.labels), np.int64)
    np.maximum.at(largest, table.row, table.pixels)
    return largest
