"""One training, from its recipe to what lies in its folder: begun, resumed, finished."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path

import torch

import segpipe
from segpipe.errors import InputError
from segpipe.nets import weights
from segpipe.nets.card import Architecture, Channel, Grouping, ModelCard, Training
from segpipe.nets.model import Model
from segpipe.nets.training import batches, evaluate, loop, pairs
from segpipe.nets.training.processes import Place, place
from segpipe.nets.training.recipe import Recipe

CHECKPOINT, BEST, MODEL = "checkpoint.pt", "best.safetensors", "model.safetensors"
RECIPE, LOG, CARD, REPORT = "recipe.json", "log.jsonl", "card.md", "report.html"
FREE = {"schedule": {"threads", "device"}, "output": True}
"""Keys that may differ when a training goes on."""


def train(
    recipe: Recipe, tell: loop.Tell = lambda row: None, *, finish: bool = False
) -> dict[str, str]:
    """Train a model, or go on with it; a finished one is not trained again.

    Parameters
    ----------
    recipe
        What to train on what, and where to write.
    tell
        Called with a row of scores at each look at the validation part.
    finish
        Train no further: make the model of the best look so far.

    Returns
    -------
    dict
        Where everything is, and the scores.

    Raises
    ------
    InputError
        The data cannot be used, or the folder holds another training.
    """
    card = card_of(recipe)
    found = pairs.find(recipe.data)
    folder = Path(recipe.output)
    with place(recipe.schedule) as where:
        if where.first:
            _claim(folder, recipe)
        samples = {
            part: batches.load([pair for pair in found if pair.part == part], recipe, card)
            for part in (pairs.PARTS if where.first else pairs.PARTS[:1])
        }
        state = loop.start(recipe, card, where)
        _resume(folder, state, where)
        if not finish and state.stale < recipe.schedule.patience:

            def checkpoint(state: loop.State, best: bool) -> None:
                _keep(folder, state, best, card)

            loop.run(state, recipe, card, samples, where, checkpoint, tell)
        if not where.first:
            return {}
        return _finished(folder, recipe, state, samples, found)


def card_of(recipe: Recipe) -> ModelCard:
    """Return the card of the model that a recipe makes, without scores."""
    targets = recipe.targets
    return ModelCard(
        name=recipe.name,
        description=recipe.description,
        licence=recipe.licence,
        architecture=Architecture(
            **recipe.network.model_dump(),
            in_channels=len(recipe.channels),
            out_channels=len(targets.classes) + targets.distance,
        ),
        classes=targets.classes,
        distance=targets.distance,
        channels=tuple(Channel(name=name) for name in recipe.channels),
        pixel_size=recipe.pixel_size,
        normalisation=recipe.normalisation,
        grouping=Grouping() if recipe.data.kind == "instances" else None,
    )


def _claim(folder: Path, recipe: Recipe) -> None:
    """Take a new folder, or one of this very training."""
    mine, path = recipe.model_dump(mode="json", exclude=FREE), folder / RECIPE
    if path.exists():
        theirs = json.loads(path.read_text("utf-8"))
        if theirs != mine:
            keys = sorted(key for key in mine if mine[key] != theirs.get(key))
            raise InputError(
                f"{folder} holds a training with another {', '.join(keys)}; give a new output, or"
                " the same values to go on with it"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no training; give a new output")
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(mine, indent=1))


def _resume(folder: Path, state: loop.State, where: Place) -> None:
    path = folder / CHECKPOINT
    if path.exists():
        # tensors, numbers and text only: no program in the file is executed
        state.restore(torch.load(path, map_location=where.device, weights_only=True))


def _keep(folder: Path, state: loop.State, best: bool, card: ModelCard) -> None:
    """Write the checkpoint, each file complete or not at all."""
    part = folder / f"{CHECKPOINT}.part"
    torch.save(state.to_dict(), part)
    if best:
        weights.save(folder / BEST, state.average.module, card)
    part.replace(folder / CHECKPOINT)
    _write(folder / LOG, "".join(f"{json.dumps(row)}\n" for row in state.history))


def _finished(
    folder: Path,
    recipe: Recipe,
    state: loop.State,
    samples: dict[str, list[batches.Sample]],
    found: list[pairs.Pair],
) -> dict[str, str]:
    """Choose thresholds, score every part, write model, card and report."""
    if not (folder / BEST).exists():
        raise InputError(f"{folder} holds no model yet; train on")
    network, card = weights.load_network(folder / BEST)
    # what is scored is what is stored: half precision
    network.load_state_dict({k: v.half().to(v.dtype) if v.is_floating_point() else v
                             for k, v in network.state_dict().items()})  # fmt: skip
    if card.grouping is not None and samples["validation"]:
        grouping = evaluate.chosen(Model(network, card), samples["validation"])
        card = card.model_copy(update={"grouping": grouping})
    scores = {
        part: evaluate.score(Model(network, card), samples[part])
        for part in ("validation", "test")
        if samples[part]
    }
    card = card.model_copy(update={"training": _provenance(recipe, state, found, scores)})
    weights.save(folder / MODEL, network, card, torch.float16)
    from segpipe.nets.training.pages import as_markdown, write_report

    _write(folder / CARD, as_markdown(card))
    write_report(folder / REPORT, card, state.history, Model(network, card), samples)
    return {
        "model": str(folder / MODEL),
        "card": str(folder / CARD),
        "report": str(folder / REPORT),
        **{
            part: ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            for part, found in scores.items()
        },
    }


def _provenance(
    recipe: Recipe,
    state: loop.State,
    found: list[pairs.Pair],
    scores: dict[str, dict[str, float]],
) -> Training:
    split = "by the table" if recipe.data.table else ""
    return Training(
        data=recipe.source,
        images=dict(Counter(pair.part for pair in found)),
        split=f"SHA-256 of '{pairs.SPLIT_SEED}/GROUP': the first {recipe.data.test:.0%} test, the"
        f" next {recipe.data.validation:.0%} validation, the rest train {split}".strip(),
        seed=recipe.schedule.seed,
        steps=state.best_step,
        metrics={
            part: {name: round(value, 4) for name, value in row.items()}
            for part, row in scores.items()
        },
        recipe=recipe.model_dump(mode="json", exclude={"output": True, "data": PATHS}),
        versions={"segpipe": segpipe.__version__, "torch": torch.__version__,
                  "python": platform.python_version()},
    )  # fmt: skip


PATHS = {"images", "labels", "table"}
"""Keys of the data that say where it lies on some machine."""


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
