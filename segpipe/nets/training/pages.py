"""What people read of a trained model: its card in Markdown, and the report of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segpipe.config import dump
from segpipe.nets.card import ModelCard
from segpipe.nets.grouping import group_instances
from segpipe.nets.model import Model
from segpipe.nets.training import evaluate
from segpipe.nets.training.batches import Sample
from segpipe.report.training import Example, training_page

EXAMPLES = 8
"""Images shown: from the worst score to the best, evenly."""


def as_markdown(card: ModelCard) -> str:
    """Return a model card as Markdown."""
    lines = [f"# {card.name}", "", *([card.description, ""] if card.description else [])]
    lines += [f"* **{name}**: {value}" for name, value in facts(card).items()]
    if card.training.metrics:
        names = list(next(iter(card.training.metrics.values())))
        lines += ["", "| mean over images | " + " | ".join(names) + " |"]
        lines += ["|---" * (len(names) + 1) + "|"]
        for part, scores in card.training.metrics.items():
            lines.append(f"| {part} | " + " | ".join(f"{scores[n]:.3f}" for n in names) + " |")
    lines += ["", "```yaml", dump(card.training.recipe).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def facts(card: ModelCard) -> dict[str, str]:
    """Return what is to be said of a model, by name."""
    shape, rule, training = card.architecture, card.normalisation, card.training
    low, high = (", ".join(f"{v:g}" for v in values) for values in (rule.low, rule.high))
    found = {
        "Network": f"{shape.kind}, {shape.depth} levels, {shape.width} channels,"
        f" {shape.padding} padding, {shape.upsampling} upsampling",
        "Margin": f"{card.margin} px; windows begin at multiples of {card.align} px",
        "Channels": ", ".join(channel.name for channel in card.channels),
        "Outputs": ", ".join(card.outputs),
        "Pixel size": f"{card.pixel_size.value:g} {card.pixel_size.unit}"
        if card.pixel_size
        else "any of those in the data",
        "Normalisation": f"{rule.method} {low} to {high} become 0 to 1",
        "Data": training.data,
        "Images": ", ".join(f"{number} {part}" for part, number in training.images.items()),
        "Split": training.split,
        "Training": f"the weights of step {training.steps}, seed {training.seed}",
        "Notes": training.notes,
        "Licence": card.licence,
    }
    if card.grouping is not None:
        found["Objects"] = ", ".join(
            f"{name.replace('_', ' ')} {value:g}" for name, value in card.grouping
        )
    return {name: value for name, value in found.items() if value}


def report_of(model: Model, history: Sequence[Mapping[str, Any]], samples: Sequence[Sample]) -> str:
    """Return the report of a training as HTML, with some of the `samples` as examples."""
    card = model.card
    return training_page(
        card.name,
        ({"About": card.description} if card.description else {}) | facts(card),
        card.training.metrics,
        history,
        _examples(model, samples),
        dump(card.training.recipe),
    )


def _examples(model: Model, samples: Sequence[Sample]) -> list[Example]:
    found = []
    for sample, outputs in evaluate.predicted(model, samples):
        scores = evaluate.score_one(outputs, sample, model)
        classes = outputs[..., : len(model.card.classes)]
        labels = (
            classes.argmax(axis=2)
            if model.card.grouping is None
            else group_instances(outputs, model.card)
        )
        few = dict(list(scores.items())[:2])
        found.append(Example(sample.name, _picture(sample), sample.labels, labels, few))
    found.sort(key=lambda example: next(iter(example.scores.values())))
    places = np.linspace(0, len(found) - 1, min(EXAMPLES, len(found))).round().astype(int)
    return [found[place] for place in places]


def _picture(sample: Sample) -> np.ndarray:
    channels = sample.inputs[:3] if len(sample.inputs) >= 3 else sample.inputs[:1]
    return channels[0] if len(channels) == 1 else channels.transpose(1, 2, 0)
