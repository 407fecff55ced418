"""A run: the steps from a plan to a finished folder.

`Run.steps` is a list of named steps; a command line loops over them, a Prefect flow makes one task
of each. What a step needs from former ones comes from the records in the run folder, so a run can
stop anywhere and go on elsewhere.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import prod
from typing import Any

from segpipe.engine import Executor, Watch, Workload, run_jobs
from segpipe.finish import PARTIAL, finish, look_at_seams, publish
from segpipe.jobs import ArrayInput, LabelsInput, Levels, PassJob, SourceInput
from segpipe.layers import Layer, layers_of
from segpipe.passes import Pass
from segpipe.plan import Plan
from segpipe.provenance import claim, task_key
from segpipe.steps import note_step
from segpipe.store import IMAGE
from segpipe.store.arrays import create_array, drop_broken_metadata
from segpipe.store.folder import Folder
from segpipe.store.ome import level_shapes
from segpipe.tasks import Report

SMALLEST_BLOCK = 128
"""Ingest leaves levels to later tasks whose share of a tile would be smaller than this."""
MIN_TASK_PIXELS = 1 << 20
"""Smaller tiles are done several to a task."""


@dataclass(frozen=True)
class Step:
    """One named part of a run; steps are done in order."""

    name: str
    run: Callable[[Executor, Watch], None]


@dataclass
class Run:
    """A plan at work in its folder."""

    plan: Plan
    folder: Folder
    state: dict[str, Any]
    """What ``run.json`` says."""
    solutions: dict[tuple[str, str], Any] = field(default_factory=dict)
    """(stage, pass) -> what was solved from the tiles' records."""
    reports: dict[tuple[str, str], list[Report]] = field(default_factory=dict)

    @cached_property
    def layers(self) -> dict[tuple[str, str], Layer]:
        """What the run leaves as OME-Zarr, by (stage, array)."""
        return layers_of(self.plan)

    @property
    def image_folder(self) -> Folder:
        """Where the OME-Zarr image lies at the moment."""
        done = self.folder.local is None or self.state["state"] == "complete"
        return self.folder / (IMAGE if done else PARTIAL)

    def steps(self) -> list[Step]:
        """Everything to do, in order."""
        plan = self.plan
        steps = [Step("ingest", self._ingest)]
        for stage in plan.stages:
            for i, step in enumerate(stage.passes):
                sweep = partial(self._sweep, stage.name, stage.passes[: i + 1])
                steps.append(Step(f"{stage.name}-{step.name}", sweep))
        last = {"finish": finish, "seam-check": look_at_seams, "publish": publish}
        return steps + [Step(name, partial(work, self)) for name, work in last.items()]

    def _ingest(self, executor: Executor, watch: Watch) -> None:
        """Copy the image; say when no pixel of it counts."""
        step = self.plan.ingest
        self._sweep("image", (step,), executor, watch)
        found = [report.record.get("counting") for report in self.reports["image", step.name]]
        if not any(count is None or count.any() for count in found):
            note_nothing(self.state, self.plan)

    def _sweep(self, stage: str, passes: Sequence[Pass], executor: Executor, watch: Watch) -> None:
        """Do the last of some passes over all tiles and solve what they sent."""
        plan, step = self.plan, passes[-1]
        former = (stage, passes[-2].name) if len(passes) > 1 else None
        job = self._pass_job(stage, passes)
        for name, dtype in step.writes.items():
            layer = self.layers.get((stage, name))
            lead = layer.planes if layer else (step.planes[name],) if name in step.planes else ()
            create_array(*job.paths[name], lead + plan.image.shape, dtype, plan.tile_size)
            if layer:
                self.create_levels(layer, job.levels[name], plan.tile_size)
        load = Workload(job, partial(self._part, former), _batches(plan, step), merge=step.merge)
        reports = self.timed(job.name, [load], executor, watch)[0]
        self.reports[stage, step.name] = reports
        if step.solve is not None:
            sent = [report.record for report in (reports[:1] if step.merge else reports)]
            before = self.solutions.get(former) if former else None
            solution = step.solve(sent, plan.grid, before)
            self.solutions[stage, step.name] = solution
            if notes := getattr(solution, "notes", None):
                self.state["notes"] = self.state.get("notes", {}) | {job.name: notes}

    def _part(self, former: tuple[str, str] | None, number: int) -> Any:
        """Return what tile `number` needs of the former pass's solution."""
        solution = self.solutions.get(former) if former else None
        if solution is None or former is None:
            return None
        return solution.for_tile(self.plan.grid.tile(number), self.reports[former][number].record)

    def _pass_job(self, stage: str, passes: Sequence[Pass]) -> PassJob:
        step = passes[-1]
        inputs: tuple[ArrayInput | SourceInput | LabelsInput, ...]
        if stage == "image":
            inputs = (source_input(self.plan),)
        else:
            inputs = tuple(self.input_of(stage, name) for name in step.reads)
        key = task_key(self.plan, stage, passes)
        paths = {name: self.place(stage, name) for name in step.writes}
        kept = {name: self.layers.get((stage, name)) for name in step.writes}
        levels = {name: self.levels_of(layer) for name, layer in kept.items() if layer}
        name = f"{stage}-{step.name}"
        return PassJob(name, self.folder, key, step, self.plan.grid, inputs, paths, levels)

    def levels_of(self, layer: Layer) -> Levels:
        """Levels of a pyramid that are made of the tile at hand, as far as it is whole blocks."""
        grid, made = self.plan.grid, []
        for level in range(1, len(level_shapes(self.plan.image.shape))):
            edges = [e for e, n in zip(grid.size, grid.counts, strict=True) if n > 1]
            if any(edge % 2**level or edge >> level < SMALLEST_BLOCK for edge in edges):
                break
            made.append(level)
        return Levels(self.image_folder, layer.prefix, 0, tuple(made))

    def input_of(self, stage: str, name: str) -> ArrayInput | LabelsInput:
        """Return what a stage reads under `name`."""
        (plan,) = [s for s in self.plan.stages if s.name == stage]
        if plan.fingerprint is not None and name == plan.given:
            return LabelsInput(plan.reads, plan.fingerprint, self.plan.source, name)
        return ArrayInput(name, *self.place(stage, name))

    def place(self, stage: str, name: str) -> tuple[Folder, str]:
        """Where array `name` of a stage lies."""
        plan = {s.name: s for s in self.plan.stages}.get(stage)
        if name == "image" and plan and plan.pixels:
            stage, name = plan.reads, "filtered"
        if name == "image":
            return self.image_folder, "0"
        if name == "segments" and plan and plan.fingerprint is None:
            stage, name = plan.reads, "labels"
        if layer := self.layers.get((stage, name)):
            return self.image_folder, f"{layer.prefix}0"
        return self.folder / "work", name if name == "mask" else f"{stage}/{name}"

    def create_levels(self, layer: Layer, levels: Levels, block: tuple[int, ...]) -> None:
        """Create the arrays of levels that are made from blocks of this size."""
        shapes = level_shapes(self.plan.image.shape)
        for level in levels.made:
            factor = 2 ** (level - levels.source)
            edges = (-(-block[0] // factor), -(-block[1] // factor))
            place, shape = f"{levels.prefix}{level}", layer.planes + shapes[level]
            create_array(levels.image, place, shape, layer.dtype, edges)

    def timed(
        self, title: str, loads: Sequence[Workload], executor: Executor, watch: Watch
    ) -> list[list[Report]]:
        """Run jobs and note what they took."""
        begun, before = time.time(), len(executor.retried())
        done = run_jobs(title, loads, executor, watch)
        reports = [report for of_job in done for report in of_job]
        note_step(self.state, title, begun, reports, executor.retried()[before:])
        self.folder.put_json("run.json", self.state)
        return done


def open_run(plan: Plan, *, resume: bool) -> Run:
    """Claim the run folder for a plan; see `segpipe.provenance.claim`."""
    folder = Folder(plan.config.output)
    run = Run(plan, folder, claim(folder, plan, resume=resume))
    if folder.local is not None and (folder.local / IMAGE).is_dir():
        # interrupted between the renaming and the last word in run.json
        if not (folder.local / PARTIAL).exists():
            os.replace(folder.local / IMAGE, folder.local / PARTIAL)
        folder.delete(IMAGE)
    if resume:
        for name in (PARTIAL, IMAGE, "work"):
            drop_broken_metadata(folder, name)
    return run


def source_input(plan: Plan) -> SourceInput:
    """Return how tasks read the image and its mask."""
    return SourceInput(
        where=plan.source.source,
        mask=plan.config.mask,
        masked=plan.image.masked,
        max_pixels=plan.config.max_pixels,
        fingerprint=plan.source.fingerprint,
        mask_fingerprint=plan.mask_fingerprint,
    )


def note_nothing(state: dict[str, Any], plan: Plan) -> None:
    """Write down that no pixel counts, and why that may be."""
    state["notes"] = state.get("notes", {}) | {"image": plan.nothing}


def _batches(plan: Plan, step: Pass) -> Iterable[Sequence[int]]:
    """Tiles per task: small ones together; rows of tiles (or all) where the source has an order."""
    count, across = len(plan.grid), plan.grid.counts[1]
    size = max(1, MIN_TASK_PIXELS // prod(plan.grid.size))
    if step.name == "ingest":
        size = {"tiles": size, "bands": across, "stream": count}[plan.source.access]
    return _ranges(count, size)


def _ranges(count: int, size: int) -> Iterator[range]:
    return (range(i, min(i + size, count)) for i in range(0, count, size))
