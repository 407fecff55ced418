"""All scores of one segmentation against one annotator, by name and with their meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from segpipe.quality import agreement, borders, overlap
from segpipe.quality.classes import Classes, classes
from segpipe.quality.contingency import Contingency, as_labels, counted, overlaps, tabulate
from segpipe.quality.instances import THRESHOLDS, Matches, matches

Best = Literal["high", "low"]


@dataclass(frozen=True)
class Metric:
    """What a score is called and what it means."""

    name: str
    best: Best
    """Whether high or low values are good."""
    meaning: str


METRICS = {
    "boundary_recall": Metric(
        "boundary recall", "high", "share of the truth's borders that segment borders follow"
    ),
    "boundary_precision": Metric(
        "boundary precision", "high", "share of segment borders that lie on borders of the truth"
    ),
    "boundary_f": Metric("boundary F", "high", "harmonic mean of the two"),
    "undersegmentation": Metric(
        "under-segmentation (NP)",
        "low",
        "share of pixels on the smaller side of segments cut in two",
    ),
    "leakage": Metric(
        "under-segmentation (leak)",
        "low",
        "area leaking out of an object by segments that touch it",
    ),
    "asa": Metric(
        "achievable accuracy (ASA)", "high", "pixels right if every segment got its best object"
    ),
    "containment": Metric("containment", "high", "share of segments that lie inside one object"),
    "covering": Metric("covering", "high", "how well an object's best segment fits it (Jaccard)"),
    "rand": Metric(
        "Rand index (mean: PRI)", "high", "share of pixel pairs, together or apart in both"
    ),
    "adjusted_rand": Metric("adjusted Rand (ARI)", "high", "the same beyond chance, 0 = by chance"),
    "adapted_rand_error": Metric(
        "adapted Rand error", "low", "1 - F of the pixel pairs that are together"
    ),
    "vi": Metric("variation of information", "low", "bits the two partitions do not share"),
    "vi_split": Metric("  of it by splits", "low", "bits lost because objects are cut"),
    "vi_merge": Metric("  of it by merges", "low", "bits lost because objects are joined"),
    "accuracy": Metric("pixel accuracy", "high", "share of pixels whose class is right"),
    "mean_dice": Metric("mean Dice", "high", "overlap 2 |L∩T| / (|L|+|T|), mean over classes"),
    "mean_jaccard": Metric("mean Jaccard (mIoU)", "high", "overlap |L∩T| / |L∪T|, mean of classes"),
    "pq": Metric("panoptic quality (PQ)", "high", "objects found times how well they fit"),
    "sq": Metric("  segmentation (SQ)", "high", "mean IoU of the objects found"),
    "rq": Metric("  recognition (RQ)", "high", "F1 of finding objects at IoU above 0.5"),
    "ap": Metric("average precision (AP)", "high", "TP / (TP + FP + FN), mean over IoU thresholds"),
}
"""Every score that there is, in the order in which they are shown."""


def score(
    labels: np.ndarray,
    truth: np.ndarray,
    *,
    radius: int | None = None,
    share: float = overlap.SHARE,
    ignore: Sequence[int] = (),
    ignore_labels: Sequence[int] = (),
) -> dict[str, float]:
    """Score a segmentation against a true one, as partitions of the image.

    Parameters
    ----------
    labels, truth
        (H, W) integers; 0 is a label like the others.
    radius
        Tolerance of borders in pixels; None: 0.0025 of the diagonal.
    share
        Share of a segment that makes it lie inside an object, for ``containment``.
    ignore, ignore_labels
        Values of `truth` and of `labels` whose pixels do not count.

    Returns
    -------
    dict
        Values by the names of `METRICS`, those of `class_scores` and `instance_scores` apart.

    Raises
    ------
    ValueError
        The shapes differ, a parameter is out of its range, or no pixel counts.

    Examples
    --------
    >>> truth = np.repeat([[1, 2]], 4, axis=0).repeat(3, axis=1)
    >>> found = score(truth + 5, truth)
    >>> found["boundary_recall"], found["asa"], found["vi"]
    (1.0, 1.0, 0.0)
    """
    labels, truth = as_labels(labels), as_labels(truth)
    valid = counted(labels, truth, ignore, ignore_labels)
    radius = borders.tolerance(labels.shape) if radius is None else radius
    edges = borders.border_counts(labels, truth, radius, valid=valid)
    return region_scores(tabulate(overlaps(labels, truth, valid)), edges, share)


def region_scores(
    table: Contingency, edges: np.ndarray, share: float = overlap.SHARE
) -> dict[str, float]:
    """Return the scores of a partition from its overlaps and its border counts."""
    split, merge = agreement.variation_of_information(table)
    return {
        "boundary_recall": borders.recall(edges),
        "boundary_precision": borders.precision(edges),
        "boundary_f": borders.f_measure(edges),
        "undersegmentation": overlap.undersegmentation(table),
        "leakage": overlap.leakage(table),
        "asa": overlap.achievable_accuracy(table),
        "containment": overlap.containment(table, share),
        "covering": overlap.covering(table),
        "rand": agreement.rand_index(table),
        "adjusted_rand": agreement.adjusted_rand_index(table),
        "adapted_rand_error": agreement.adapted_rand_error(table),
        "vi": split + merge,
        "vi_split": split,
        "vi_merge": merge,
    }


def class_scores(table: Contingency) -> tuple[dict[str, float], Classes]:
    """Return the scores of labels that are classes, and the pixels of each class."""
    found = classes(table)
    n = len(found.values)
    return {
        "accuracy": found.accuracy,
        "mean_dice": math.fsum(found.dice) / n,
        "mean_jaccard": math.fsum(found.jaccard) / n,
    }, found


def instance_scores(
    table: Contingency, thresholds: Sequence[float] = THRESHOLDS
) -> tuple[dict[str, float], list[Matches]]:
    """Return the scores of labels that are objects, and the matches at each threshold of IoU."""
    panoptic = matches(table, above=True)
    found = [matches(table, iou) for iou in thresholds]
    return {
        "pq": panoptic.pq,
        "sq": panoptic.mean_iou,
        "rq": panoptic.f1,
        "ap": math.fsum(one.ap for one in found) / len(found),
    }, found
