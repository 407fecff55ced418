"""How good a model is on images it has not seen, and which thresholds suit its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import fmean
from typing import Any

import numpy as np

from segpipe.nets import card
from segpipe.nets.card import Grouping
from segpipe.nets.grouping import group_instances, quantised
from segpipe.nets.model import Model
from segpipe.nets.training.batches import Sample
from segpipe.quality import contingency, matches

TRIED: dict[str, tuple[float, ...]] = {
    "dynamics": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
    "marker": (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65),
    "foreground": (0.3, 0.35, 0.4, 0.45, 0.5),
    "min_size": (1, 12, 24, 36),
}
"""Thresholds that are tried, one after the other …"""
BORDER = (0.0, 0.25, 0.5, 0.75)
"""… for each of these shares, which decide what depth is."""
ROUNDS = 2


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
    if model.card.grouping is None:
        return _class_scores(outputs, sample, model.card.classes)
    labels = group_instances(outputs, model.card)
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
    """Return the thresholds of the highest mean AP.5 + AP.7 on the samples; ties: the first.

    For every share of the border, one threshold after the other is set to its best value.
    """
    assert model.card.grouping is not None
    outputs = [(sample, quantised(out)) for sample, out in predicted(model, samples)]

    @cache
    def quality(grouping: Grouping) -> float:
        tried = Model(model.network, model.card.model_copy(update={"grouping": grouping}))
        scores = mean([score_one(out, sample, tried) for sample, out in outputs])
        return scores["AP.5"] + scores["AP.7"]

    ends = []
    for border in BORDER if card.BORDER in model.card.classes else BORDER[:1]:
        best = model.card.grouping.model_copy(update={"border": border})
        for _ in range(ROUNDS):
            for name, values in TRIED.items():
                tried = [best.model_copy(update={name: value}) for value in values]
                best = max([best, *tried], key=quality)
        ends.append(best)
    return max(ends, key=quality)


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
