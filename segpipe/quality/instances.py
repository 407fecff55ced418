"""Scores of labels that are objects: each number one object, 0 the background.

Two objects match when their intersection over union (IoU) is high enough; an object matches at most
once. Pixels of the truth that do not count are left out of every object; a segment of which more
than half does not count is no false positive (as Kirillov et al. do with their void label).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from segpipe.quality.contingency import Contingency
from segpipe.quality.overlap import jaccard

BACKGROUND = 0
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""The usual thresholds of IoU."""


@dataclass(frozen=True)
class Matches:
    """Objects found, wrong and missed at a threshold of IoU."""

    iou: float
    true_positives: int
    false_positives: int
    false_negatives: int
    quality: float
    """Sum of the IoU of the matches."""

    @property
    def ap(self) -> float:
        """Average precision at one threshold, TP / (TP + FP + FN), 1 when there is no object."""
        return _ratio(self.true_positives, self._all)

    @property
    def f1(self) -> float:
        """TP / (TP + FP / 2 + FN / 2), the recognition quality RQ of Kirillov et al."""
        return _ratio(2 * self.true_positives, self._all + self.true_positives)

    @property
    def precision(self) -> float:
        """Share of the segments that are objects."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the objects that are found."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the matches, the segmentation quality SQ of Kirillov et al.; 0 without."""
        if not self.true_positives:
            return 0.0 if self._all else 1.0
        return self.quality / self.true_positives

    @property
    def pq(self) -> float:
        """Panoptic quality, SQ * RQ."""
        return self.mean_iou * self.f1

    @property
    def _all(self) -> int:
        return self.true_positives + self.false_positives + self.false_negatives


def matches(table: Contingency, iou: float = 0.5, *, above: bool = False) -> Matches:
    """Match segments with objects whose IoU is at least `iou`, as many as possible.

    Parameters
    ----------
    table
        From `contingency` or `tabulate`.
    iou
        Threshold, more than 0 and at most 1.
    above
        The IoU must be more than `iou`, not equal. From 0.5 on the matches are then unique.

    Raises
    ------
    ValueError
        The threshold is out of its range.

    Notes
    -----
    With `above`, ``matches(table).pq`` is the panoptic quality of Kirillov, He, Girshick, Rother,
    Dollar, "Panoptic segmentation", CVPR 2019, 10.1109/CVPR.2019.00963, for one class. Without,
    ``.ap`` is the average precision of the Data Science Bowl 2018 (Caicedo et al., Nature Methods
    16, 2019, 10.1038/s41592-019-0612-7) as StarDist computes it. Below 0.5 an object may have
    several candidates; the number of matches is then the largest possible.

    Examples
    --------
    >>> from segpipe.quality import contingency
    >>> table = contingency(np.array([[1, 1, 0, 2, 2, 2]]), np.array([[7, 7, 7, 0, 9, 9]]))
    >>> found = matches(table, 0.6)
    >>> found.true_positives, found.ap, matches(table, 0.7).ap
    (2, 1.0, 0.0)
    """
    if not 0 < iou <= 1:
        raise ValueError(f"the threshold of IoU must be more than 0 and at most 1, got {iou}")
    segments, objects = table.labels != BACKGROUND, table.truths != BACKGROUND
    values = jaccard(table)
    near = (values > iou if above else values >= iou) & segments[table.row] & objects[table.column]
    chosen = _matched(table.row[near], table.column[near], (len(segments), len(objects)))
    row = table.row[near][chosen]
    void = table.void_pixels > table.label_pixels
    void[row] = False
    return Matches(
        iou=iou,
        true_positives=len(row),
        false_positives=int((segments & ~void).sum()) - len(row),
        false_negatives=int(objects.sum()) - len(row),
        quality=math.fsum(values[near][chosen]),
    )


def average_precision(table: Contingency, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """Return the mean of TP / (TP + FP + FN) over thresholds of IoU."""
    return math.fsum(matches(table, iou).ap for iou in thresholds) / len(thresholds)


def _matched(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which of the candidate pairs are matched, one per segment and object at most."""
    if len(np.unique(row)) == len(row) and len(np.unique(column)) == len(column):
        return np.arange(len(row))
    graph = csr_array((np.ones(len(row), np.int8), (row, column)), shape=shape)
    partner = maximum_bipartite_matching(graph, perm_type="column")
    return np.flatnonzero(partner[row] == column)


def _ratio(part: int, of: int) -> float:
    return part / of if of else 1.0
