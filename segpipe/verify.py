"""`segpipe verify`: read a finished run again and compare it with what its records say."""

from __future__ import annotations

import json
from typing import Any

from segpipe.errors import RunError
from segpipe.store import IMAGE
from segpipe.store.arrays import Region
from segpipe.store.digest import label_digest
from segpipe.store.folder import Folder
from segpipe.tasks import META, damaged
from segpipe.tiles import Box


def verify(folder: Folder, state: dict[str, Any]) -> list[str]:
    """Return one line for every region, table or digest that is not as it was written."""
    records = folder.names("records/")
    bad = _missing(folder, state, len(records))
    for name in records:
        stored = folder.get_arrays(name)
        if stored is None or META not in stored:
            bad.append(f"{name}: the record is damaged")
            continue
        meta = json.loads(stored[META].tobytes())
        # what lay in work/ was deleted when the run was complete
        objects = {k: v for k, v in meta["objects"].items() if not k.startswith("work/")}
        wrong = damaged(_regions(folder, meta), folder, meta | {"objects": objects})
        bad += [f"{part}: differs from {name}" for part in wrong]
    for stage, said in (state["labels"] | state.get("maps", {})).items():
        try:
            found = label_digest(folder / IMAGE, f"labels/{stage}/0")
        except RunError as error:
            bad.append(str(error))
            continue
        if found != said["digest"]:
            bad.append(f"labels/{stage}: the digest differs from run.json")
    return bad


def _missing(folder: Folder, state: dict[str, Any], records: int) -> list[str]:
    """Return what should be there: records of tasks, or files of an image in one piece."""
    if "sizes" in state:
        found = folder.sizes()
        return [f"{name}: missing" for name in state["sizes"] if name not in found]
    tasks = sum(step["tasks"] for step in state["steps"].values())
    lost = f"records: {tasks - records} of {tasks} are missing, and what they told of is unchecked"
    return [lost] if records < tasks else []


def _regions(folder: Folder, meta: dict[str, Any]) -> list[Region]:
    """Return the regions of the image that a task wrote."""
    image = folder / IMAGE
    return [
        Region(image, name.removeprefix("image/"), Box(tuple(wrote["start"]), tuple(wrote["stop"])))
        for name, wrote in meta["outputs"].items()
        if name.startswith("image/")
    ]
