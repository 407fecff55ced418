"""What lies in the folder of a training, so that it can go on: recipe, checkpoint, best weights."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch

from segpipe.errors import InputError
from segpipe.nets import weights
from segpipe.nets.card import ModelCard
from segpipe.nets.files import file_digest, located
from segpipe.nets.training import loop, pairs
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
"""Keys that may differ when a training goes on: words, where data lies, where it is done. Of
`initial` the content must be the same, wherever it lies."""
WORKED_OUT = {
    "initial": "initial (other weights, or none)",
    "parts": "the images, or their parts",
    "weights": "weights of images",
}
"""What is kept of a recipe besides its keys, and how it is called."""


def check(folder: Path, recipe: Recipe, found: list[pairs.Pair]) -> dict[str, Any]:
    """Refuse a folder that holds something else; return what is kept of the recipe.

    A training that has left no checkpoint has not begun: another may take its folder.
    """
    path, mine = folder / RECIPE, recipe.model_dump(mode="json", exclude=FREE)
    if recipe.initial is not None:
        mine["initial"] = digest(recipe.initial)
    mine["parts"] = {part: [p.name for p in found if p.part == part] for part in pairs.PARTS}
    mine["weights"] = {pair.name: pair.weight for pair in found if pair.weight != 1}
    if path.exists():
        theirs = json.loads(path.read_text("utf-8"))
        if theirs != mine and (folder / CHECKPOINT).exists():
            raise InputError(
                f"{folder} holds a training that differs in {'; '.join(_differing(theirs, mine))};"
                " give a new output, or the same values to go on with it"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no training; give a new output")
    return mine


def claim(folder: Path, kept: dict[str, Any]) -> None:
    """Begin a training in a folder, or go on with it; see `check`."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / RECIPE, json.dumps(kept, indent=1))


def _differing(theirs: dict[str, Any], mine: dict[str, Any]) -> list[str]:
    """Name what two recipes differ in, with both values where they are short."""
    found = []
    for key in sorted(theirs.keys() | mine.keys()):
        there, here = theirs.get(key), mine.get(key)
        if there == here:
            continue
        if key in WORKED_OUT:
            found.append(WORKED_OUT[key])
        elif isinstance(there, dict) and isinstance(here, dict):
            found += [f"{key}.{line}" for line in _differing(there, here)]
        else:
            found.append(f"{key} {json.dumps(there)} (here {json.dumps(here)})")
    return found


def resume(folder: Path, state: loop.State) -> None:
    """Go on from the checkpoint, if there is one."""
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


def keep(folder: Path, state: loop.State, best: bool, card: ModelCard) -> None:
    """Write the checkpoint, each file complete or not at all."""
    part = folder / f"{CHECKPOINT}.part"
    torch.save(state.to_dict(), part)
    if best:
        weights.save(folder / BEST, state.average.module, card)
    part.replace(folder / CHECKPOINT)
    write(folder / LOG, "".join(f"{json.dumps(row)}\n" for row in state.history))


def digest(model: str) -> str:
    """SHA-256 of the weights that training begins with."""
    return file_digest(str(located(model)))


def write(path: Path, text: str) -> None:
    """Write a file complete or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
