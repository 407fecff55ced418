"""One training, from its recipe to what lies in its folder: begun, resumed, finished."""

from __future__ import annotations

import json
import pickle
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import segpipe
from segpipe.errors import InputError
from segpipe.nets import weights
from segpipe.nets.card import Architecture, Channel, Grouping, ModelCard, Training
from segpipe.nets.files import file_digest, located
from segpipe.nets.training import batches, loop, pairs
from segpipe.nets.training.finish import finished
from segpipe.nets.training.processes import place
from segpipe.nets.training.recipe import Recipe

CHECKPOINT, BEST = "checkpoint.pt", "best.safetensors"
RECIPE, LOG = "recipe.json", "log.jsonl"
WORDS = {"description", "licence", "source"}
PLACES = {"images", "labels", "table"}
FREE: dict[str, Any] = {
    **dict.fromkeys(WORDS, True),
    "output": True,
    "initial": True,
    "data": PLACES,
    "schedule": {"threads", "device"},
}
"""Keys that may differ when a training goes on: words, where data lies, where it is done."""


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
    _check_initial(recipe, card)
    with place(recipe.schedule) as where:
        if where.first:
            _claim(folder, recipe, found)
        samples = {
            part: batches.load([pair for pair in found if pair.part == part], recipe, card)
            for part in (pairs.PARTS if where.first else pairs.PARTS[:1])
        }
        state = loop.start(recipe, card, where)
        _resume(folder, state)
        if not finish and state.stale < recipe.schedule.patience:

            def checkpoint(state: loop.State, best: bool) -> None:
                _keep(folder, state, best, card)

            loop.run(state, recipe, card, samples, where, checkpoint, tell)
        if not where.first:
            return {}
        if not (folder / BEST).exists():
            raise InputError(f"{folder} holds no model yet; train on")
        network, _card = weights.load_network(folder / BEST)
        parts = dict(Counter(pair.part for pair in found))
        return finished(folder, network, card, _provenance(recipe, state, parts), state, samples)


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
    before = weights.load_card(located(recipe.initial)).grouping if recipe.initial else None
    return before or Grouping()


def _check_initial(recipe: Recipe, card: ModelCard) -> None:
    """Refuse weights of another network, before anything is written."""
    if recipe.initial is None:
        return
    theirs, ours = (_keys(one) for one in (weights.load_card(located(recipe.initial)), card))
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


def _claim(folder: Path, recipe: Recipe, found: list[pairs.Pair]) -> None:
    """Take a new folder, or one of this very training."""
    path, mine = folder / RECIPE, recipe.model_dump(mode="json", exclude=FREE)
    if recipe.initial is not None:
        mine["initial"] = _digest(recipe.initial)
    mine["parts"] = {part: [p.name for p in found if p.part == part] for part in pairs.PARTS}
    mine["weights"] = {pair.name: pair.weight for pair in found if pair.weight != 1}
    if path.exists():
        theirs = json.loads(path.read_text("utf-8"))
        if theirs != mine:
            keys = sorted(key for key in mine if mine[key] != theirs.get(key))
            raise InputError(
                f"{folder} holds a training that differs in {', '.join(keys)}; give a new output,"
                " or the same values to go on with it"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no training; give a new output")
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(mine, indent=1))


def _resume(folder: Path, state: loop.State) -> None:
    path = folder / CHECKPOINT
    if not path.exists():
        return
    try:
        # tensors, numbers and text only: no program in the file is executed
        # on the CPU: restoring copies to the device, and Adam counts its steps here
        state.restore(torch.load(path, map_location="cpu", weights_only=True))
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} is damaged or no checkpoint of this training; delete the folder and train anew"
        ) from error


def _keep(folder: Path, state: loop.State, best: bool, card: ModelCard) -> None:
    """Write the checkpoint, each file complete or not at all."""
    part = folder / f"{CHECKPOINT}.part"
    torch.save(state.to_dict(), part)
    if best:
        weights.save(folder / BEST, state.average.module, card)
    part.replace(folder / CHECKPOINT)
    _write(folder / LOG, "".join(f"{json.dumps(row)}\n" for row in state.history))


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
            mode="json", exclude={"output": True, "initial": True, "data": PLACES}
        ),
        notes=_begun(recipe),
        versions={
            "segpipe": segpipe.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    )


def _digest(model: str) -> str:
    """SHA-256 of the weights that training begins with."""
    return file_digest(str(located(model)))


def _begun(recipe: Recipe) -> str:
    """Say which weights training began with."""
    if recipe.initial is None:
        return ""
    card = weights.load_card(located(recipe.initial))
    return (
        f"began with the weights of {card.name}, trained for {card.training.steps} steps (SHA-256"
        f" {_digest(recipe.initial)})"
    )


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
