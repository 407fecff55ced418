"""How the run that is in a folder differs from another one, in words for who has both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import segpipe

if TYPE_CHECKING:
    from segpipe.plan import Plan

UNSAID = "the same settings, but a file that it reads has changed"
LINES = 6
"""Most differences that are told."""


def difference(stored: Mapping[str, Any], plan: Plan, resolved: Mapping[str, Any]) -> list[str]:
    """Say what a run in the folder has and this one has not, a line for each, the first few.

    Parameters
    ----------
    stored
        What ``run.json`` says of the one in the folder.
    plan, resolved
        The other one, and its configuration with everything filled in.
    """
    theirs, ours = _flat(stored["config"]), _flat(json.loads(json.dumps(resolved)))
    theirs |= {"version": stored.get("segpipe"), "tile": stored["tile"]}
    ours |= {"version": segpipe.__version__, "tile": list(plan.grid.size)}
    # what never changes a result may differ
    keys = [k for k in {**theirs, **ours} if not k.startswith(("cluster", "report", "output"))]
    keys = [k for k in keys if k not in ("tiles.size", "max_pixels")]
    found = [
        f"its {key} is {theirs.get(key)!r}, here {ours.get(key)!r}"
        for key in keys
        if theirs.get(key) != ours.get(key)
    ]
    # one stage, as most users have, is written without its number
    if len(plan.stages) == 1:
        found = [text.replace("its stages.0.", "its ", 1) for text in found]
    return [*_changed_files(stored, plan), *found][:LINES] or [UNSAID]


def _changed_files(stored: Mapping[str, Any], plan: Plan) -> list[str]:
    """Name the files that are not those that a run began with."""
    theirs = {"input": stored.get("source", {}).get("fingerprint")} | stored.get("files", {})
    ours = {"input": plan.source.fingerprint} | files_of(plan)
    return [
        f"its {key} was a file of {_described(theirs[key])}, now it is one of "
        f"{_described(ours[key])}: another file to a run, whose tiles were read from the first"
        for key in ours
        if theirs.get(key) not in (None, ours[key])
    ]


def files_of(plan: Plan) -> dict[str, str]:
    """Identities of the files besides the image, by the key that names them."""
    found = {"mask": plan.mask_fingerprint}
    found |= {f"stages.{n}.reads": stage.fingerprint for n, stage in enumerate(plan.stages)}
    return {key: identity for key, identity in found.items() if identity is not None}


def _described(fingerprint: str) -> str:
    """Say which file it was.

    >>> _described("/data/my a.tif 123456 1790000000000000000")
    '123,456 bytes, written 2026-09-21 14:13:20 UTC'
    """
    size, stamp = [*fingerprint.rsplit(" ", 2), "", ""][1:3]
    if not (size.isdigit() and stamp.isdigit()):
        return fingerprint
    moment = datetime.fromtimestamp(int(stamp) / 1e9, UTC)
    return f"{int(size):,} bytes, written {moment:%Y-%m-%d %H:%M:%S} UTC"


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key; those that are not set are left out.

    >>> _flat({"a": {"b": 1}, "c": [{"d": 2}], "e": None})
    {'a.b': 1, 'c.0.d': 2}
    """
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return {} if values is None else {prefix.rstrip("."): values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found
