"""How far two partitions agree: pairs of pixels (Rand) and information.

All sums are over the multiset of region sizes, in integers of any length or exactly rounded, so
that they depend neither on names of regions nor on order.
"""

from __future__ import annotations

import math

import numpy as np

from segpipe.quality.contingency import Contingency


def rand_index(table: Contingency) -> float:
    """Return the share of pixel pairs on which both agree (together, or apart), 0 to 1.

    Rand, JASA 66(336), 1971, 10.1080/01621459.1971.10482356. Its mean over several annotators is
    the probabilistic Rand index (PRI) of Unnikrishnan, Pantofaru, Hebert, IEEE TPAMI 29(6), 2007,
    10.1109/TPAMI.2007.1046.
    """
    both, labels, truth, pairs = _pairs(table)
    return (pairs + 2 * both - labels - truth) / pairs if pairs else 1.0


def adjusted_rand_index(table: Contingency) -> float:
    """Return the Rand index corrected for chance: 1 = equal, about 0 = as good as random.

    Hubert, Arabie, "Comparing partitions", J. Classification 2, 1985, 10.1007/BF01908075.
    """
    both, labels, truth, pairs = _pairs(table)
    chance = labels * truth
    span = (labels + truth) * pairs - 2 * chance
    return 2 * (both * pairs - chance) / span if span else 1.0


def adapted_rand_error(table: Contingency) -> float:
    """Return 1 - F of the pairs that are together, 0 = equal; used for neurons in microscopy.

    Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
    connectomics", Front. Neuroanat. 9, 2015, 10.3389/fnana.2015.00142. As in scikit-image, which
    ignores the truth's label 0 unless told otherwise.
    """
    both, labels, truth, _pairs_of_all = _pairs(table)
    return 1 - 2 * both / (labels + truth) if labels + truth else 0.0


def variation_of_information(table: Contingency) -> tuple[float, float]:
    """Return (split, merge) in bits: H(labels | truth) and H(truth | labels); their sum is the VI.

    Meila, "Comparing clusterings: an information based distance", J. Multivariate Analysis 98,
    2007, 10.1016/j.jmva.2006.11.013. Split grows when objects are cut, merge when they are joined.
    """
    both = _logs(table.pixels)
    split = (_logs(table.truth_pixels) - both) / table.total
    merge = (_logs(table.label_pixels) - both) / table.total
    return max(split, 0.0), max(merge, 0.0)


def _pairs(table: Contingency) -> tuple[int, int, int, int]:
    """Count the pixel pairs together in both, in the labels, in the truth, and all pairs."""
    n = table.total
    counts = (table.pixels, table.label_pixels, table.truth_pixels)
    both, labels, truth = ((_squares(pixels) - n) // 2 for pixels in counts)
    return both, labels, truth, n * (n - 1) // 2


def _squares(pixels: np.ndarray) -> int:
    """Sum squares in Python's integers: those of a terapixel image do not fit in 64 bits."""
    return sum(n * n * times for n, times in _sizes(pixels))


def _logs(pixels: np.ndarray) -> float:
    """Sum n log2(n), exactly rounded."""
    return math.fsum(times * n * math.log2(n) for n, times in _sizes(pixels))


def _sizes(pixels: np.ndarray) -> list[tuple[int, int]]:
    """Return (size, how often it occurs): few, where regions are many."""
    sizes, times = np.unique(pixels, return_counts=True)
    return list(zip(sizes.tolist(), times.tolist(), strict=True))
