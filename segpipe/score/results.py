"""From counts to scores, and to what a file of results says of one annotator."""

from __future__ import annotations

from typing import Any

import numpy as np

from segpipe import quality
from segpipe.errors import InputError
from segpipe.score.counts import Counted
from segpipe.score.options import UNLABELLED, Options


def annotator_scores(
    name: str,
    counts: Counted,
    options: Options,
    known: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Compute all scores against one annotator.

    Parameters
    ----------
    name
        What the annotator is called.
    counts
        Of `segpipe.score.counts.count`.
    options
        What to score.
    known
        Labels of the segments and their classes, int64; None: labels are classes.
    """
    rows, edges = counts
    labelled = rows[rows[:, quality.LABEL] != UNLABELLED] if options.leaves_out else rows
    parts = _tabulated(labelled, name)
    table = parts if labelled is rows else _tabulated(rows, name)
    scores = quality.region_scores(parts, edges, options.share)
    more: dict[str, Any] = {}
    if options.classes:
        values, found = quality.class_scores(_by_class(rows, known, name) if known else table)
        scores |= values
        more["classes"] = _class_rows(found)
    if options.instances:
        values, matches = quality.instance_scores(table, options.thresholds)
        scores |= values
        more["thresholds"] = [_match_row(one) for one in matches]
    return {
        "truth": name,
        "segments": len(parts.labels),
        "regions": len(parts.truths),
        "pixels": parts.total,
        "unlabelled": table.total - parts.total,
        "ignored": int(rows[:, quality.PIXELS].sum()) - table.total,
        "border_pixels": dict(zip(quality.BORDER_COUNTS, edges.tolist(), strict=True)),
        "scores": scores,
        **more,
    }


def _by_class(
    rows: np.ndarray, known: tuple[np.ndarray, np.ndarray], name: str
) -> quality.Contingency:
    """Put the class of each segment in its place.

    Pixels of no segment are class 0, the background; where segments have that class themselves,
    they are outside of what was segmented and do not count.
    """
    labels, classes = known
    rows = (rows[rows[:, 0] != 0] if (classes == 0).any() else rows).copy()
    inside = rows[:, 0] != 0
    rows[inside, 0] = classes[np.searchsorted(labels, rows[inside, 0])]
    return _tabulated(quality.combine(rows), name)


def _tabulated(rows: np.ndarray, name: str) -> quality.Contingency:
    try:
        return quality.tabulate(rows)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


def _class_rows(found: quality.Classes) -> list[dict[str, Any]]:
    columns = {
        "class": found.values,
        "dice": found.dice,
        "jaccard": found.jaccard,
        "pixels_both": found.both,
        "pixels_labels": found.labels,
        "pixels_truth": found.truth,
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _match_row(found: quality.Matches) -> dict[str, Any]:
    names = ("iou", "true_positives", "false_positives", "false_negatives")
    values = (*names, "precision", "recall", "f1", "ap", "mean_iou")
    return {name: getattr(found, name) for name in values}
