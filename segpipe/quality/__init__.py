"""Scores of a segmentation against a true one: plain functions, additive over tiles.

`overlaps` (who shares how many pixels with whom) and `border_counts` look at pixels; both are
integers that add up over tiles. Everything else is a function of the `Contingency` table that
`tabulate` makes of the overlaps. `score` does all of it for two arrays.
"""

from segpipe.quality.agreement import (
    adapted_rand_error,
    adjusted_rand_index,
    rand_index,
    variation_of_information,
)
from segpipe.quality.borders import (
    BORDER_COUNTS,
    border_counts,
    f_measure,
    precision,
    precision_stutz,
    recall,
    tolerance,
)
from segpipe.quality.classes import Classes, classes
from segpipe.quality.contingency import (
    LABEL,
    PIXELS,
    Contingency,
    as_labels,
    combine,
    contingency,
    counted,
    overlaps,
    tabulate,
)
from segpipe.quality.instances import THRESHOLDS, Matches, average_precision, matches
from segpipe.quality.overlap import (
    SHARE,
    achievable_accuracy,
    containment,
    covering,
    leakage,
    undersegmentation,
)
from segpipe.quality.scores import (
    METRICS,
    Metric,
    class_scores,
    instance_scores,
    region_scores,
    score,
)

__all__ = [
    "BORDER_COUNTS",
    "LABEL",
    "METRICS",
    "PIXELS",
    "SHARE",
    "THRESHOLDS",
    "Classes",
    "Contingency",
    "Matches",
    "Metric",
    "achievable_accuracy",
    "adapted_rand_error",
    "adjusted_rand_index",
    "as_labels",
    "average_precision",
    "border_counts",
    "class_scores",
    "classes",
    "combine",
    "containment",
    "contingency",
    "counted",
    "covering",
    "f_measure",
    "instance_scores",
    "leakage",
    "matches",
    "overlaps",
    "precision",
    "precision_stutz",
    "rand_index",
    "recall",
    "region_scores",
    "score",
    "tabulate",
    "tolerance",
    "undersegmentation",
    "variation_of_information",
]
