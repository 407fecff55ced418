"""Scores of labels that are classes: the same number means the same thing in both images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segpipe.quality.contingency import Contingency


@dataclass(frozen=True)
class Classes:
    """Pixels of every class that occurs in one of the images."""

    values: np.ndarray
    """int64[n], sorted."""
    both: np.ndarray
    """int64[n], pixels of the class in both images."""
    labels: np.ndarray
    """int64[n], pixels of the class in the labels."""
    truth: np.ndarray
    """int64[n], pixels of the class in the truth."""

    @property
    def dice(self) -> np.ndarray:
        """2 |L and T| / (|L| + |T|) of each class (Dice, Ecology 26(3), 1945, 10.2307/1932409)."""
        return 2 * self.both / (self.labels + self.truth)

    @property
    def jaccard(self) -> np.ndarray:
        """Intersection over union of each class (Jaccard 1912, 10.1111/j.1469-8137.1912.tb05611.x).

        Its mean over the classes is the mIoU.
        """
        return self.both / (self.labels + self.truth - self.both)

    @property
    def accuracy(self) -> float:
        """Share of pixels whose class is right."""
        return int(self.both.sum()) / int(self.truth.sum())


def classes(table: Contingency) -> Classes:
    """Count the pixels of every class.

    A class that occurs in one image only counts, with Dice and Jaccard 0.

    Examples
    --------
    >>> from segpipe.quality import contingency
    >>> found = classes(contingency(np.array([[0, 1, 1, 2]]), np.array([[0, 1, 2, 2]])))
    >>> found.values.tolist(), found.jaccard.tolist(), found.accuracy
    ([0, 1, 2], [1.0, 0.5, 0.5], 0.75)
    """
    values = np.union1d(table.labels, table.truths)
    both, labels, truth = (np.zeros(len(values), np.int64) for _ in range(3))
    labels[np.searchsorted(values, table.labels)] = table.label_pixels
    truth[np.searchsorted(values, table.truths)] = table.truth_pixels
    same = table.labels[table.row] == table.truths[table.column]
    both[np.searchsorted(values, table.labels[table.row[same]])] = table.pixels[same]
    return Classes(values, both, labels, truth)
