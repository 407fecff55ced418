"""What the steps of a run took, as ``run.json`` has it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.tasks import Report

REASONS = 5
"""Most reasons for retries that are written down of a step."""


def note_step(
    state: dict[str, Any],
    title: str,
    begun: float,
    reports: list[Report],
    retried: Sequence[str] = (),
) -> None:
    """Write down what a step took: tasks done, reused and retried, seconds by phase, memory."""
    fresh = [report.meta for report in reports if not report.reused]
    seconds = {"read": 0.0, "compute": 0.0, "write": 0.0, "compile": 0.0}
    for meta in fresh:
        for phase, value in meta["seconds"].items():
            seconds[phase] += value
    now = time.time()
    state["seconds_here"] = now - state["begun"]
    state["steps"][title] = {
        "tasks": len(reports),
        "reused": len(reports) - len(fresh),
        **retries(retried),
        "wall": now - begun,
        **seconds,
        "peak_bytes": max((meta["peak_bytes"] for meta in fresh), default=0),
    }


def compile_seconds(state: Mapping[str, Any]) -> float:
    """Return about how long a run waited for kernels: workers compile at the same time."""
    workers = state["machine"]["workers"]
    steps = state["steps"].values()
    return sum(float(s["compile"]) / max(1, min(workers, s["tasks"])) for s in steps)


def retries(reasons: Sequence[str]) -> dict[str, Any]:
    """Return what is kept of reasons why tasks were given out again: how many, and the first.

    >>> retries(["a", "b", "a"]), retries([])
    ({'retried': 3, 'retried_after': ['a', 'b']}, {'retried': 0})
    """
    told = list(dict.fromkeys(reasons))[:REASONS]
    return {"retried": len(reasons)} | ({"retried_after": told} if told else {})
