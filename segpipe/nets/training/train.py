"""One training, from its recipe to what lies in its folder: begun, resumed, finished."""

from __future__ import annotations

import json
import logging
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import segpipe
from segpipe.errors import InputError
from segpipe.nets import weights
from segpipe.nets.card import Architecture, Channel, Grouping, ModelCard, Training
from segpipe.nets.files import located
from segpipe.nets.training import batches, loop, pairs, progress
from segpipe.nets.training.batches import Sample
from segpipe.nets.training.finish import finished
from segpipe.nets.training.processes import place
from segpipe.nets.training.recipe import Recipe

LOG = logging.getLogger(__name__)


def train(
    recipe: Recipe, tell: loop.Tell = lambda row: None, *, finish: bool = False
) -> dict[str, str]:
    """Train a model, or go on with it; a finished one is not trained again.

    Parameters
    ----------
    recipe
        What to train on what, and where to write.
    tell
        Called with numbers by name: the images of each part first, after some steps the pace, then
        the scores at each look at the validation part. See `said`.
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
    _check_initial(recipe, card)
    with place(recipe.schedule) as where:
        kept = progress.check(folder, recipe, found) if where.first else {}
        samples = {
            part: batches.load([pair for pair in found if pair.part == part], recipe, card)
            for part in (pairs.PARTS if where.first else pairs.PARTS[:1])
        }
        if where.first:
            progress.claim(folder, kept)
            _warn(samples)
        state = loop.start(recipe, card, where)
        progress.resume(folder, state)
        if where.first:
            tell(_begins(state, samples))
        if not finish and state.stale < recipe.schedule.patience:

            def checkpoint(state: loop.State, best: bool) -> None:
                progress.keep(folder, state, best, card)

            loop.run(state, recipe, card, samples, where, checkpoint, tell)
        if not where.first:
            return {}
        if not (folder / progress.BEST).exists():
            raise InputError(f"{folder} holds no model yet; train on")
        network, _card = weights.load_network(folder / progress.BEST)
        parts = dict(Counter(pair.part for pair in found))
        return finished(folder, network, card, _provenance(recipe, state, parts), state, samples)


def _warn(samples: Mapping[str, Sequence[Sample]]) -> None:
    """Say what nothing is chosen by."""
    if not samples["validation"]:
        LOG.warning(
            "segpipe: no validation images, so the last step is the model, with thresholds that"
            " nobody chose; give data.table with parts, or raise data.validation"
        )


def said(row: Mapping[str, Any]) -> str:
    """Return what `tell` is called with as a line for people.

    >>> said({"step": 200, "loss": 0.13831, "AP.5": 0.85442})
    'step 200  loss 0.1383  AP.5 0.8544'
    """
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
    return "  ".join(f"{name} {text}" for name, text in zip(row, texts, strict=True))


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
        grouping=_grouping(recipe),
    )


def _grouping(recipe: Recipe) -> Grouping | None:
    """Return the thresholds that looks at the validation part are made with."""
    if recipe.data.kind != "instances":
        return None
    before = _initial(recipe)
    return (before and before.grouping) or Grouping()


def _check_initial(recipe: Recipe, card: ModelCard) -> None:
    """Refuse weights of another network, before anything is written."""
    before = _initial(recipe)
    if before is None:
        return
    theirs, ours = _keys(before), _keys(card)
    wrong = [
        f"{key} {json.dumps(value)} (here {json.dumps(ours[key])})"
        for key, value in theirs.items()
        if value != ours[key]
    ]
    if wrong:
        raise InputError(
            f"initial: {recipe.initial} is another network than this recipe makes, it needs"
            f" {', '.join(wrong)}; set these, or begin with another model"
        )


def _keys(card: ModelCard) -> dict[str, Any]:
    """Return what of a recipe decides the shape of its network, as the recipe has it."""
    shape = card.architecture.model_dump(mode="json", exclude={"in_channels", "out_channels"})
    return {
        **{f"network.{key}": value for key, value in shape.items()},
        "targets.classes": list(card.classes),
        "targets.distance": card.distance,
    }


def _begins(state: loop.State, samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Say what training goes on with, before the first score, which may take minutes."""
    images = {f"{part} images": len(found) for part, found in samples.items()}
    numbers = sum(value.numel() for value in state.network.parameters())
    return {"step": state.step, **images, "parameters": numbers}


def _provenance(recipe: Recipe, state: loop.State, parts: dict[str, int]) -> Training:
    """Return where the weights of the best look come from; scores are added later."""
    data = recipe.data
    return Training(
        data=recipe.source,
        images=parts,
        split=f"by SHA-256 of '{pairs.SPLIT_SEED}/GROUP': the first {data.test:.0%} are test, the"
        f" next {data.validation:.0%} validation, the rest train; a part in the table goes before",
        seed=recipe.schedule.seed,
        steps=state.best_step,
        recipe=recipe.model_dump(
            mode="json", exclude={"output": True, "initial": True, "data": progress.PLACES}
        ),
        notes=_begun(recipe),
        versions={
            "segpipe": segpipe.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    )


def _begun(recipe: Recipe) -> str:
    """Say which weights training began with."""
    before = _initial(recipe)
    if before is None or recipe.initial is None:
        return ""
    return (
        f"began with the weights of {before.name}, trained for {before.training.steps} steps"
        f" (SHA-256 {progress.digest(recipe.initial)})"
    )


def _initial(recipe: Recipe) -> ModelCard | None:
    """Return the card of the model that training begins with, if it does."""
    if recipe.initial is None:
        return None
    place = located(recipe.initial)
    if place.suffix.lower() != ".safetensors":
        raise InputError(
            f"initial: {recipe.initial} is a model of others ({place.name}), which cannot be"
            " trained on; begin with nuclei, nuclei-rgb or a .safetensors file of segpipe train"
        )
    return weights.load_card(place)
