"""The end of a training: thresholds, scores, and the files that people take away."""

from __future__ import annotations

from pathlib import Path

import torch

from segpipe.nets import weights
from segpipe.nets.card import ModelCard, Training
from segpipe.nets.model import Model
from segpipe.nets.training import evaluate
from segpipe.nets.training.batches import Sample
from segpipe.nets.training.loop import State
from segpipe.nets.training.pages import as_markdown, report_of
from segpipe.nets.training.progress import write

MODEL, CARD, REPORT = "model.safetensors", "card.md", "report.html"
TRIAL = "trial.safetensors"
"""Without thresholds and scores: none that anybody should take for the model."""
STORED = torch.float16
"""Half the bytes; what is scored is what is stored."""


def finished(
    folder: Path,
    network: torch.nn.Module,
    card: ModelCard,
    training: Training,
    state: State,
    samples: dict[str, list[Sample]],
) -> dict[str, str]:
    """Choose thresholds by the validation part, score, write model, card and report.

    Returns
    -------
    dict
        Where everything is, and the scores.
    """
    path, trial = folder / MODEL, folder / TRIAL
    weights.save(trial, network, card, STORED)
    network, _card = weights.load_network(trial)
    trial.unlink()
    if card.grouping is not None and samples["validation"]:
        grouping = evaluate.chosen(Model(network, card), samples["validation"])
        card = card.model_copy(update={"grouping": grouping})
    scores = {
        part: evaluate.score(Model(network, card), samples[part])
        for part in ("validation", "test")
        if samples[part]
    }
    rounded = {
        part: {name: round(value, 4) for name, value in row.items()} for part, row in scores.items()
    }
    card = card.model_copy(update={"training": training.model_copy(update={"metrics": rounded})})
    weights.save(path, network, card, STORED)
    write(folder / CARD, as_markdown(card))
    shown = samples["test"] or samples["validation"]
    write(folder / REPORT, report_of(Model(network, card), state.history, shown))
    said = {
        part: ", ".join(f"{name} {value:.3f}" for name, value in row.items())
        for part, row in scores.items()
    }
    return {
        "model": str(path),
        "card": str(folder / CARD),
        "report": str(folder / REPORT),
        **said,
    }
