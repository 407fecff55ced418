"""What a worker does with the images of a collection: one after the other, each for itself.

The folder of an image is all that is known of it: ``run.json`` of a complete run, or ``aside.json``
with the reason why there is none. Whoever comes next looks there first; so nothing is done twice,
and nothing has to be kept in step with anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segpipe.collection.listing import Item
from segpipe.collection.whole import intact, segment_whole
from segpipe.config import Config
from segpipe.errors import DoesNotFit, InputError, Unavailable
from segpipe.plan import Limits, Plan
from segpipe.quality.conditions import NAMES
from segpipe.readers.places import open_place
from segpipe.report import thumbnail_jpeg
from segpipe.session import prepare
from segpipe.state import read_state
from segpipe.store import column_name
from segpipe.store.folder import Folder
from segpipe.store.space import is_full, write_error

DONE, ASIDE, LARGE = "done", "set aside", "large"
"""What became of an image; `LARGE` is one that all workers have to do together."""
REASON = "aside.json"
THUMBNAIL = "thumbnail.jpg"
SCORES = (*NAMES, "boundary_strength")
"""Conditions of a good segmentation that the table of images has."""

Row = dict[str, Any]
"""What the table of images says of one."""


@dataclass(frozen=True)
class Outcome:
    """What became of an image."""

    item: Item
    status: str
    row: Row
    reused: bool = False
    """It was found as it is: nothing had to be done."""


@dataclass(frozen=True)
class Images:
    """What is the same for all images of a collection."""

    config: Config
    home: Folder
    """Where the folders of the images lie."""
    limits: Limits
    """What the worker has that does an image alone."""
    retry: bool = False
    """Try what was set aside once more, even if it is still the same file."""

    def folder(self, item: Item) -> Folder:
        """Return the run folder of an image."""
        return self.home / item.name

    def config_of(self, item: Item, **changes: Any) -> Config:
        """Return the configuration of the run of one image."""
        own = {"input": item.where, "output": str(self.folder(item)), "mask": item.mask}
        page = self.config.report.model_copy(update={"page": self.config.collection.pages})
        return self.config.model_copy(update={**own, "report": page, **changes})

    def plan(self, item: Item) -> Plan | None:
        """Return the plan to do an image in one piece; None if it is too large for that."""
        whole = self.config.tiles.model_copy(update={"size": "whole"})
        try:
            plan = prepare(self.config_of(item, tiles=whole), self.limits)
        except DoesNotFit:
            return None
        height, width = plan.image.shape
        return plan if height * width <= self.config.collection.whole_pixels else None

    def look(self, folder: Folder, state: Mapping[str, Any]) -> None:
        """Leave a thumbnail with the borders of the last stage's segments."""
        if edge := self.config.collection.thumbnail:
            folder.put(THUMBNAIL, thumbnail_jpeg(folder, state, list(state["labels"])[-1], edge))


def do_images(images: Images, items: Sequence[Item]) -> list[Outcome]:
    """Do some images (what one Dask task does).

    Raises
    ------
    Unavailable
        Nothing can be written. What is wrong with an image is its outcome, not an error.
    """
    return [_do_image(images, item) for item in items]


def _do_image(images: Images, item: Item) -> Outcome:
    folder = images.folder(item)
    try:
        known = folder.exists
        if known and not images.retry and (reason := _reason(images, item)) is not None:
            return Outcome(item, ASIDE, aside_row(item, reason), reused=True)
        state = finished(images, item) if known else None
        if state is not None:
            return Outcome(item, DONE, done_row(item, state), reused=True)
        plan = images.plan(item)
        if plan is None:
            return Outcome(item, LARGE, {})
        state = segment_whole(plan, folder, images.look)
        return Outcome(item, DONE, done_row(item, state))
    except Unavailable:
        raise
    except Exception as error:  # of whatever kind: the others have nothing to do with it
        if is_full(error):  # it is no fault of this image
            raise write_error(error, str(folder)) from error
        return set_aside(images, item, explained(error))


def finished(images: Images, item: Item) -> dict[str, Any] | None:
    """Return the state of an image's complete run, if it is this very run and its files are there.

    An image that cannot be reached any more has not changed: its result stays.
    """
    folder = images.folder(item)
    try:
        state = read_state(folder)
    except InputError:  # damaged: done again
        return None
    if state is None or state["state"] != "complete" or not intact(folder, state):
        return None
    try:
        plan = prepare(images.config_of(item), replace(images.limits, memory=1 << 62))
    except InputError:
        return None if _fingerprint(item) else state
    return state if state["identity"] == plan.identity else None


def set_aside(images: Images, item: Item, error: str, *, keep: bool = False) -> Outcome:
    """Note why there is no result; what an earlier version of the image has left goes.

    With `keep` it stays: a tiled run that failed can be gone on with.
    """
    folder = images.folder(item)
    if not keep:
        folder.delete("")
    folder.put_json(REASON, {"error": error, "source": _fingerprint(item), "path": item.where})
    return Outcome(item, ASIDE, aside_row(item, error))


def done_row(item: Item, state: Mapping[str, Any]) -> Row:
    """Return what the table of images says of a finished run."""
    source, stages = state["source"], state["labels"]
    row: Row = {
        **{"name": item.name, "path": item.where, "status": DONE, "error": ""},
        **{"height": source["shape"][0], "width": source["shape"][1]},
        **{"channels": source["channels"], "dtype": source["dtype"]},
        "seconds": state["wall_seconds"],
        "remark": "; ".join(state.get("remarks", {}).values()),
    }
    for stage, said in stages.items():
        scores = state.get("conditions", {}).get(stage, {})
        values = {**said, **{name: scores.get(name) for name in SCORES}}
        row |= {column_name(n, stage, alone=len(stages) == 1): v for n, v in values.items()}
    return row


def aside_row(item: Item, error: str) -> Row:
    """Return what the table of images says of an image that was set aside."""
    return {"name": item.name, "path": item.where, "status": ASIDE, "error": error, "remark": ""}


def explained(error: BaseException) -> str:
    """Return an error in one line; one that was not written for users begins with its kind."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _reason(images: Images, item: Item) -> str | None:
    """Return why an image was set aside, if it is still the same file."""
    try:
        said = images.folder(item).get_json(REASON)
        return str(said["error"]) if said and said["source"] == _fingerprint(item) else None
    except (ValueError, KeyError, TypeError):  # damaged
        return None


def _fingerprint(item: Item) -> str:
    """Return what tells that image or mask is another file; empty for what is no file."""
    found = []
    for where in filter(None, (item.where, item.mask)):
        try:
            place = open_place(where)
        except InputError:
            found.append("")
            continue
        found.append(place.fingerprint)
        place.close()
    return " ".join(found)
