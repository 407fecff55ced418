"""Reading ``run.json``: which run lies in a folder, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from segpipe.errors import InputError, first_line

if TYPE_CHECKING:
    from segpipe.store.folder import Folder

RUN, COLLECTION = "run.json", "collection.json"
"""What says how far a run, or a collection of runs, is."""
NEEDED = {
    COLLECTION: {"state", "identity", "config", "process", "resumed"},
    RUN: {"state", "identity", "config", "tile", "process", "labels", "resumed"},
}
"""Without these it is no use."""


def read_state(folder: Folder, document: str = RUN) -> dict[str, Any] | None:
    """Return what ``run.json`` says; None when there is no run.

    Raises
    ------
    InputError
        The file is damaged.
    """
    try:
        stored = folder.get_json(document)
    except ValueError:
        stored = {}
    except Exception as error:  # object stores have their own
        raise InputError(
            f"cannot look into {folder}: {first_line(error)}; check the address, and the rights"
        ) from error
    if stored is None:
        return None
    if not isinstance(stored, dict) or not set(stored) >= NEEDED[document]:
        raise InputError(
            f"{folder}/{document} is damaged, so the run in {folder} cannot go on; delete the "
            f"folder or choose another `output`"
        )
    return dict(stored)


def complete_state(run: str, folder: Folder) -> dict[str, Any]:
    """Return the state of a finished run.

    Raises
    ------
    InputError
        There is no run, or it is not complete.
    """
    state = read_state(folder)
    if state is None:
        raise no_run(run, folder)
    if state["state"] != "complete":
        raise InputError(f"the run in {run} is not complete; go on with `segpipe resume {run}`")
    return state


def no_run(run: str, folder: Folder) -> InputError:
    """Return what to say of a folder that is not the folder of a run."""
    if folder.get(COLLECTION) is not None:
        return InputError(
            f"{run} is a collection; give one of its images, which are runs: {run}/images/NAME"
        )
    return InputError(f"there is no run in {run} (no run.json)")


def chosen_stage(state: Mapping[str, Any], stage: str | None) -> str:
    """Return which label image of a run is meant: the last stage's unless one is named."""
    names = list(state["labels"])
    if stage is not None and stage not in names:
        raise InputError(f"the run has no label image `{stage}`; it has {', '.join(names)}")
    return stage or names[-1]
