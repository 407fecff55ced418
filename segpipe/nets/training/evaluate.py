"""How good a model is on images it has not seen, and which thresholds suit its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np

from segpipe.nets.card import Grouping
from segpipe.nets.grouping import group_instances
from segpipe.nets.model import Model
from segpipe.nets.training.batches import Sample
from segpipe.quality import contingency, matches

FOREGROUND = (0.35, 0.4, 0.45, 0.5)
MARKER = (0.35, 0.4, 0.45, 0.5, 0.55)
DYNAMICS = (0.25, 0.3, 0.35, 0.4)
MIN_SIZE = (1, 12, 24)
"""Thresholds that are tried."""


def score(model: Model, samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean scores over images: of objects if the model finds them, else of classes."""
    return mean(
        [score_one(outputs, sample, model) for sample, outputs in predicted(model, samples)]
    )


def predicted(model: Model, samples: Sequence[Sample]) -> list[tuple[Sample, np.ndarray]]:
    """Return every sample with its outputs (H, W, K)."""
    return [(sample, model.forward(sample.inputs)) for sample in samples]


def score_one(outputs: np.ndarray, sample: Sample, model: Model) -> dict[str, float]:
    """Return the scores of one image."""
    card = model.card
    if card.grouping is None:
        return _class_scores(outputs, sample, card.classes)
    labels = group_instances(outputs, card)
    table = contingency(np.where(sample.counts, labels, 0), sample.labels)
    at_half, at_seven = matches(table, 0.5), matches(table, 0.7)
    return {
        "AP.5": at_half.ap,
        "AP.7": at_seven.ap,
        "AP.5 to .95": fmean(matches(table, iou / 100).ap for iou in range(50, 100, 5)),
        "PQ": matches(table, 0.5, above=True).pq,
        "F1": at_half.f1,
        "precision": at_half.precision,
        "recall": at_half.recall,
    }


def chosen(model: Model, samples: Sequence[Sample]) -> Grouping:
    """Return the thresholds of the highest mean AP.5 + AP.7 on the samples; ties: the first."""
    assert model.card.grouping is not None
    outputs = predicted(model, samples)
    best, grouping = -1.0, model.card.grouping
    for foreground, marker, dynamics, size in product(FOREGROUND, MARKER, DYNAMICS, MIN_SIZE):
        tried = Grouping(foreground=foreground, marker=marker, dynamics=dynamics, min_size=size)
        card = model.card.model_copy(update={"grouping": tried})
        scores = mean(
            [score_one(out, sample, Model(model.network, card)) for sample, out in outputs]
        )
        if scores["AP.5"] + scores["AP.7"] > best:
            best, grouping = scores["AP.5"] + scores["AP.7"], tried
    return grouping


def mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each score."""
    return {name: fmean(one[name] for one in scores) for name in scores[0]} if scores else {}


def _class_scores(outputs: np.ndarray, sample: Sample, names: Sequence[str]) -> dict[str, float]:
    found = outputs[..., : len(names)].argmax(axis=2)[sample.counts]
    truth = sample.labels[sample.counts]
    per_class: dict[str, Any] = {
        name: _overlap(found == number, truth == number)
        for number, name in enumerate(names)
        if number
    }
    return {
        "Dice": fmean(per_class.values()),
        "accuracy": float((found == truth).mean()),
        **({f"Dice {name}": value for name, value in per_class.items()} if len(names) > 2 else {}),
    }


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    either = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / either if either else 1.0
