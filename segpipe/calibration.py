"""How fast this machine is, measured beside the costs that passes state."""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from segpipe.passes import Method, run_in_memory
from segpipe.plan import Plan

SAMPLE = 768
"""Edge of the image that a calibration segments (px)."""


def calibrated(plan: Plan) -> float:
    """Return how many times slower this machine is than the costs that the passes state.

    Runs every stage once to compile it and once to time it, on a small image of smooth noise.
    """
    rng = np.random.default_rng(0)
    coarse = rng.random((SAMPLE // 8, SAMPLE // 8, plan.image.channels)) * 200
    pixels = coarse.repeat(8, axis=0).repeat(8, axis=1) + rng.random((SAMPLE, SAMPLE, 1)) * 20
    arrays = {"image": pixels.astype(plan.image.dtype)}
    if plan.image.masked:
        arrays["mask"] = np.ones((SAMPLE, SAMPLE), np.uint8)
    image = dataclasses.replace(plan.image, shape=(SAMPLE, SAMPLE))
    taken = stated = 0.0
    labels: dict[str, np.ndarray] = {}
    for stage in plan.stages:
        passes = _brought_in(stage.method).passes(image)
        if stage.reads != "image":
            arrays["segments"] = labels[stage.reads] if stage.reads in labels else _squares()
        labels[stage.name] = run_in_memory(passes, arrays)[0]["labels"]
        begun = time.perf_counter()
        run_in_memory(passes, arrays)
        taken += time.perf_counter() - begun
        stated += sum(step.cost_ns for step in passes) * 1e-9 * SAMPLE**2
    return taken / stated


def _brought_in(method: Method) -> Method:
    """Return a method whose points, if it has any, lie inside the small image."""
    name = str(getattr(method, "points", ""))
    given = getattr(method, name, None)
    if not isinstance(given, tuple):
        return method
    inside = {(y % SAMPLE, x % SAMPLE): tuple(label) for y, x, *label in given}
    points = tuple((*place, *label) for place, label in inside.items())
    return dataclasses.replace(method, **{name: points})  # type: ignore[type-var]


def _squares() -> np.ndarray:
    """Return labels for a calibration, where those of a file are not at hand."""
    y, x = np.divmod(np.arange(SAMPLE**2, dtype=np.uint32), SAMPLE)
    return (y // 16 * SAMPLE + x // 16 + 1).reshape(SAMPLE, SAMPLE)
