"""The words and numbers of the report."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from segpipe import methods
from segpipe.config import dump
from segpipe.report.words import duration, figure, grouped, moment, plain, without_secrets
from segpipe.store.folder import Folder
from segpipe.store.space import amount

PROMISES = {
    "exact": "Exact. The labels are those of the whole image done in one piece, pixel for pixel: "
    "tile size, number of workers and order of work cannot change them.",
    "certified": "Certified. Every tile proved that nothing beyond its window can change its "
    "labels, or was done again with a larger window.",
    "measured": "Measured. Tiles may differ from the whole image near their seams; the method "
    "cannot rule it out.",
}
"""What `exactness` of a method means to whoever uses the labels."""
UNSET = re.compile(r"(?:null: |, default )([^.;]+)")
"""What the meaning of a parameter says of not setting it."""
TOLD = 2
"""Most reasons for the retries of a step that the page names; ``run.json`` has more."""
PHASES = ("read", "compute", "write", "compile")


def page(folder: Folder, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page says of the run as a whole."""
    source, machine = state["source"], state["machine"]
    height, width = source["shape"]
    wall, pixels = state["wall_seconds"], height * width
    compiled = state.get("compile_seconds", 0.0)
    stages = state["config"].get("stages", ())
    return {
        "title": without_secrets(PurePosixPath(source["source"].split("?")[0]).name or "image"),
        "methods": ", ".join(dict.fromkeys(stage["method"] for stage in stages)),
        "status": state["state"],
        "ended": moment(state.get("ended")),
        "wall": duration(wall),
        "resumed": state.get("resumed", 0),
        "size": f"{grouped(width)} × {grouped(height)} px",
        "megapixels": figure(pixels / 1e6),
        "compiled": duration(compiled) if compiled >= 1 else "",
        "speed": figure(pixels / 1e6 / (wall - compiled)) if wall > compiled else "–",
        "image": _image(source, state.get("notes", {}).get("image")),
        "work": _work(state),
        "steps": [_step(name, step, pixels) for name, step in state["steps"].items()],
        "configuration": without_secrets(dump(dict(state["config"]))),
        "provenance": provenance(state, machine),
        "folder": without_secrets(str(folder)),
        "grouped": grouped,
        "seams": seams,
    }


def parameters(state: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the method of a stage and its parameters; of those not set, what is in force."""
    for stage in state["config"].get("stages", ()):
        if (stage.get("name") or stage["method"]) == name:
            given = stage.get("parameters", {})
            values = {key: plain(value) for key, value in given.items()}
            return {"method": stage["method"], **values, **_in_force(stage["method"], given)}
    return {}


def sentence(text: str) -> str:
    """Write what is said in a line as a sentence.

    >>> sentence("one segment covers 99 % of the pixels"), sentence("")
    ('One segment covers 99 % of the pixels.', '')
    """
    return text and f"{text[0].upper()}{text[1:]}."


def _in_force(method: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Say of each parameter that was not set what holds instead."""
    unset = {key for key, value in given.items() if value is None}
    if not unset:
        return {}
    kind, found = methods.find(method), {}
    for key, _type, _default, meaning in methods.parameters(kind):
        if key in unset and (says := UNSET.search(" ".join(meaning.split()))):
            found[key] = f"not set: {says[1]}"
    for key, told in getattr(kind, "derived", {}).items():
        if key in unset:
            found[key] = f"{getattr(kind(**given), told)} ({found[key]})"
    return found


def seams(rows: Sequence[int], columns: Sequence[int], exactness: str = "exact") -> str:
    """Say where tiles meet.

    >>> seams([512], [256, 512])
    'Tiles meet at x 256, 512 and at y 512, at the red ticks: nothing should show there.'
    >>> seams([512], [], "measured")
    'Tiles meet at y 512, at the red ticks: they may show there.'
    """
    lines = [(axis, at) for axis, at in (("x", columns), ("y", rows)) if at]
    if not lines:
        return "No tiles meet here."
    where = " and ".join(f"at {axis} {', '.join(map(grouped, at))}" for axis, at in lines)
    shows = "they may show there" if exactness == "measured" else "nothing should show there"
    return f"Tiles meet {where}, at the red ticks: {shows}."


def _image(source: Mapping[str, Any], note: str | None) -> dict[str, str]:
    height, width = source["shape"]
    facts = {
        "source": without_secrets(source["source"]),
        "size": f"{grouped(width)} × {grouped(height)} px",
        "channels": plain(source["channels"]),
        "pixel type": source["dtype"],
    }
    names = source.get("channel_names")
    if names:
        facts["channels"] += f" ({', '.join(names)})"
    if source.get("pixel_size"):
        sizes = [f"{value:.6g}" for value in source["pixel_size"]]
        unit = source.get("pixel_unit") or ""
        both = sizes[0] if sizes[0] == sizes[1] else f"{sizes[1]} × {sizes[0]}"
        facts["pixel size"] = f"{both} {unit}".strip()
    if source.get("crs"):
        facts["reference system"] = source["crs"]
    if source.get("nodata") is not None:
        facts["nodata"] = plain(source["nodata"])
    if note:
        facts["note"] = note
    return facts


def _work(state: Mapping[str, Any]) -> dict[str, str]:
    (rows, columns), (height, width) = state["tile"], state["source"]["shape"]
    down, across = -(-height // rows), -(-width // columns)
    machine = state["machine"]
    steps = state["steps"].values()
    tasks, reused = (sum(step[key] for step in steps) for key in ("tasks", "reused"))
    resumed = state.get("resumed", 0)
    return {
        "tiles": f"{grouped(down * across)} of {grouped(columns)} × {grouped(rows)} px",
        "workers": f"{machine['workers']}, {amount(machine['worker_memory'])} each",
        "peak memory": _peak(max((step["peak_bytes"] for step in steps), default=0)),
        "failures left": "none: every task is done and has its record",
        "retries": retries(state["steps"]) + (" since the last resume" if resumed else ""),
        "interruptions": f"resumed {resumed}×" if resumed else "none",
        "reused": f"{grouped(reused)} of {grouped(tasks)} tasks, found intact when tried again"
        if reused
        else f"none of {grouped(tasks)} tasks",
    }


def retries(steps: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how often tasks were given out again, in which steps, and why.

    >>> retries({"slic-label": {"retried": 2, "retried_after": ["the worker a was lost"]}, "b": {}})
    '2 in slic-label, after: the worker a was lost'
    """
    said = []
    for name, step in steps.items():
        if count := step.get("retried"):
            reasons = step["retried_after"]
            told = "; ".join(reasons[:TOLD]) + ("; …" if len(reasons) > TOLD else "")
            said.append(f"{grouped(count)} in {name}, after: {told}")
    return ". ".join(said) or "none"


def _step(name: str, step: Mapping[str, Any], pixels: int) -> dict[str, str]:
    fresh = step["tasks"] - step["reused"]
    share = fresh / step["tasks"] if step["tasks"] else 0.0
    wall = step["wall"]
    return {
        "step": name,
        "tasks": grouped(step["tasks"]),
        "reused": grouped(step["reused"]),
        "wall": duration(wall),
        "Mpx/s": figure(pixels * share / wall / 1e6) if fresh and wall else "–",
        **{phase: duration(round(step.get(phase, 0.0), 3)) for phase in PHASES},
        "peak memory": _peak(step["peak_bytes"]),
    }


def _peak(n: int) -> str:
    """Write the largest memory of a step; none is known of one that had nothing to do."""
    return amount(n) if n else "–"


def provenance(state: Mapping[str, Any], machine: Mapping[str, Any]) -> dict[str, str]:
    """Return what made the result: versions, machine, times."""
    return {
        "segpipe": state["segpipe"],
        "Python": machine["python"],
        **state.get("versions", {}),
        "machine": f"{machine['host']}, {machine['cores']} cores, {machine['processor']}",
        "system": machine["system"],
        "started": moment(state["started"]),
        "ended": moment(state.get("ended")),
        "run": state["identity"],
    }
