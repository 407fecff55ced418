"""What of a finished result a user should know, and what to turn about it."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.passes import Method
    from segpipe.plan import Plan

MOST = 0.9
"""Share of the pixels from which on one segment is nearly everything."""


def remarks(plan: Plan, state: Mapping[str, Any]) -> dict[str, str]:
    """Return what is remarkable of the labels of stages, as ``run.json`` says it."""
    found = {}
    for stage in plan.stages:
        scored = state["conditions"][stage.name]
        labelled = (scored["mean_area"] or 0) * state["labels"][stage.name]["segments"]
        text = remark(stage.method, scored, labelled / prod(plan.image.shape))
        if text is not None:
            found[stage.name] = text
    return found


def found(plan: Plan, state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the passes of each stage noted: what is global, and so was computed once."""
    notes, told = state.get("notes", {}), {}
    for stage in plan.stages:
        of_passes = [notes.get(f"{stage.name}-{step.name}", {}) for step in stage.passes]
        told[stage.name] = {name: value for said in of_passes for name, value in said.items()}
    return told


def remark(method: Method, scored: Mapping[str, Any], labelled: float) -> str | None:
    """Say that one segment is nearly everything, and which of the method's parameters to turn.

    Parameters
    ----------
    method
        Its `finer` says what gives a finer result; of a method without it nothing is said.
    scored
        What `segpipe.quality.conditions.scores` has found.
    labelled
        Share of the image that lies in segments. Of a method that may leave pixels unlabelled
        (`partial`), one segment may well be all there is, unless it fills the image.
    """
    share, finer = scored["largest_share"], getattr(method, "finer", "")
    if share is None or not finer or scored["intra_cluster_variation"] == 0:
        return None  # where all segments are of one value, there was nothing to tell apart
    if getattr(method, "partial", False):
        share *= labelled
    if share < MOST:
        return None
    tenths = floor(1000 * share + 1e-6)  # all only if it is all
    return f"one segment covers {tenths / 10:g} % of the pixels; for a finer result, {finer}"
