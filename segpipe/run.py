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

from segpipe.engine import Executor, Watch, Workload, merged, run_jobs
from segpipe.inspection import ScoreJob, SeamJob, Subject, check_seams, looked
from segpipe.jobs import (
    ArrayInput,
    DigestJob,
    LabelsInput,
    Levels,
    PassJob,
    PyramidJob,
    SourceInput,
    TableJob,
)
from segpipe.layers import Layer, layers_of
from segpipe.passes import Pass
from segpipe.plan import Plan, StagePlan
from segpipe.provenance import CLAIMS, claim, note_step, task_key, timestamp
from segpipe.report import write_report
from segpipe.store import IMAGE, table_name
from segpipe.store.arrays import create_array, drop_broken_metadata
from segpipe.store.folder import Folder
from segpipe.store.ome import (
    Calibration,
    level_shapes,
    publish_image,
    publish_labels,
    publish_map,
)
from segpipe.tasks import Report
from segpipe.tiles import Grid

PARTIAL = "partial.ome.zarr"
"""The image carries this name until it is complete (in an object store, where nothing can be
renamed, it has its final name from the start and gets its metadata last)."""
PYRAMID_BLOCK, PYRAMID_LEVELS = 4096, 4
"""One pyramid task reads a block and halves it this often; the smallest piece is a fair chunk."""
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
        steps = [Step("ingest", partial(self._sweep, "image", (plan.ingest,)))]
        for stage in plan.stages:
            for i, step in enumerate(stage.passes):
                sweep = partial(self._sweep, stage.name, stage.passes[: i + 1])
                steps.append(Step(f"{stage.name}-{step.name}", sweep))
        last = {"finish": self._finish, "seam-check": self._check_seams, "publish": self._publish}
        return steps + [Step(*step) for step in last.items()]

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
                self._create_levels(layer, job.levels[name], plan.tile_size)
        load = Workload(job, partial(self._part, former), _batches(plan, step))
        reports = self._timed(job.name, [load], executor, watch)[0]
        self.reports[stage, step.name] = reports
        if step.solve is not None:
            records = [report.record for report in reports]
            sent = [merged(step.merge, records)] if step.merge else records
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
            inputs = tuple(self._input(stage, name) for name in step.reads)
        key = task_key(self.plan, stage, passes)
        paths = {name: self._place(stage, name) for name in step.writes}
        kept = {name: self.layers.get((stage, name)) for name in step.writes}
        levels = {name: self._levels(layer) for name, layer in kept.items() if layer}
        name = f"{stage}-{step.name}"
        return PassJob(name, self.folder, key, step, self.plan.grid, inputs, paths, levels)

    def _levels(self, layer: Layer) -> Levels:
        """Levels of a pyramid that are made of the tile at hand, as far as it is whole blocks."""
        grid, made = self.plan.grid, []
        for level in range(1, len(level_shapes(self.plan.image.shape))):
            edges = [e for e, n in zip(grid.size, grid.counts, strict=True) if n > 1]
            if any(edge % 2**level or edge >> level < SMALLEST_BLOCK for edge in edges):
                break
            made.append(level)
        return Levels(self.image_folder, layer.prefix, 0, tuple(made))

    def _input(self, stage: str, name: str) -> ArrayInput | LabelsInput:
        """Return what a stage reads under `name`."""
        (plan,) = [s for s in self.plan.stages if s.name == stage]
        if name == "segments" and plan.fingerprint is not None:
            return LabelsInput(plan.reads, plan.fingerprint, self.plan.source)
        return ArrayInput(name, *self._place(stage, name))

    def _place(self, stage: str, name: str) -> tuple[Folder, str]:
        """Where array `name` of a stage lies."""
        plan = {s.name: s for s in self.plan.stages}.get(stage)
        if name == "image" and plan and plan.pixels:
            stage, name = plan.reads, "filtered"
        if name == "image":
            return self.image_folder, "0"
        if name == "segments" and plan:
            stage, name = plan.reads, "labels"
        if layer := self.layers.get((stage, name)):
            return self.image_folder, f"{layer.prefix}0"
        return self.folder / "work", name if name == "mask" else f"{stage}/{name}"

    def _finish(self, executor: Executor, watch: Watch) -> None:
        """Digests, tables, pyramids, a look at the result: done side by side."""
        stages, subjects = self.plan.stages, self._subjects()
        # the digests first: nothing else takes as long in one task
        maps = [layer for layer in self.layers.values() if layer.label_name]
        loads = [Workload(self._digest_job(layer)) for layer in maps]
        looks: list[Workload] = []
        for stage, subject in zip(stages, subjects, strict=True):
            tables = self._table_loads(stage)
            looks += [Workload(ScoreJob(subject), after=len(loads)), Workload(SeamJob(subject))]
            loads += tables
        first = len(loads)
        sources = {layer: len(self._levels(layer).made) for layer in self.layers.values()}
        loads += looks + self._pyramid_loads(sources)
        reports = self._timed("finish", loads, executor, watch)
        for layer, done in zip(maps, reports, strict=False):
            self._note_digest(layer, done[0].record["digest"].tobytes().decode())
        self.state |= looked(subjects, reports[first : first + len(looks)])
        while loads := self._pyramid_loads(sources):
            self._timed(f"pyramid-{min(sources.values())}", loads, executor, watch)

    def _note_digest(self, layer: Layer, digest: str) -> None:
        """Write down the digest of the labels of a stage, or of another map that it keeps."""
        if layer.array != "labels":
            self.state.setdefault("maps", {})[layer.label_name] = {"digest": digest}
            return
        (last,) = [stage.passes[-1] for stage in self.plan.stages if stage.name == layer.stage]
        count = self.solutions[layer.stage, last.name].count
        self.state["labels"][layer.stage] = {"digest": digest, "segments": count}

    def _digest_job(self, layer: Layer) -> DigestJob:
        (passes,) = [s.passes for s in self.plan.stages if s.name == layer.stage]
        key = task_key(self.plan, layer.stage, passes)
        place = self._place(layer.stage, layer.array)
        return DigestJob(f"{layer.name}-digest", self.folder, key, *place)

    def _table_loads(self, stage: StagePlan) -> list[Workload]:
        last = stage.passes[-1]
        key = task_key(self.plan, stage.name, stage.passes)
        loads = []
        for title, table in last.tables.items():
            target = table_name(title, stage.name, alone=len(self.plan.stages) == 1)
            place = f"work/tables/{stage.name}-{last.name}/{title}"
            name = f"{stage.name}-{title}"
            job = TableJob(name, self.folder, key, target, place, table, self.plan.grid)
            starts = self.solutions[stage.name, last.name].starts
            loads.append(Workload(job, partial(_same, starts)))
        return loads

    def _pyramid_loads(self, sources: dict[Layer, int]) -> list[Workload]:
        """Tasks that make the next few levels of every array from the level reached so far."""
        shapes, loads = level_shapes(self.plan.image.shape), []
        for layer, source in sources.items():
            made = tuple(range(source + 1, min(len(shapes), source + 1 + PYRAMID_LEVELS)))
            if not made:
                continue
            levels = Levels(self.image_folder, layer.prefix, source, made)
            grid = Grid(shapes[source], (PYRAMID_BLOCK, PYRAMID_BLOCK))
            self._create_levels(layer, levels, grid.size)
            key = task_key(self.plan, layer.name, (), *made)
            job = PyramidJob(f"{layer.name}-pyramid-{source}", self.folder, key, grid, levels)
            loads.append(Workload(job))
            sources[layer] = made[-1]
        return loads

    def _create_levels(self, layer: Layer, levels: Levels, block: tuple[int, ...]) -> None:
        """Create the arrays of levels that are made from blocks of this size."""
        shapes = level_shapes(self.plan.image.shape)
        for level in levels.made:
            factor = 2 ** (level - levels.source)
            edges = (-(-block[0] // factor), -(-block[1] // factor))
            place, shape = f"{levels.prefix}{level}", layer.planes + shapes[level]
            create_array(levels.image, place, shape, layer.dtype, edges)

    def _subjects(self) -> list[Subject]:
        """Return what is looked at: the labels of every stage."""
        plan, stages = self.plan, self.plan.stages
        subjects = []
        for stage in stages:
            reads = {name for step in stage.passes for name in step.reads}
            given = sorted(reads & {"image", "mask", "segments"} | {"image"})
            subject = Subject(
                stage.name,
                self.folder,
                self.image_folder,
                table_name("segments", stage.name, alone=len(stages) == 1),
                self.solutions[stage.name, stage.passes[-1].name].count,
                plan.grid,
                task_key(plan, stage.name, stage.passes),
                stage.method if plan.config.report.seam_check else None,
                stage.pixels or plan.image,
                tuple(self._input(stage.name, name) for name in given),
                plan.seconds,
            )
            subjects.append(subject)
        return subjects

    def _check_seams(self, executor: Executor, watch: Watch) -> None:
        """Segment a few windows again, with the seams elsewhere."""
        do = partial(self._timed, executor=executor, watch=watch)
        check_seams(self._subjects(), self.state, do)

    def _publish(self, _executor: Executor, _watch: Watch) -> None:
        """Make the result visible."""
        self.reveal()
        self.close()

    def reveal(self) -> None:
        """Write the metadata of the image and give it its final name."""
        source, levels = self.plan.source, len(level_shapes(self.plan.image.shape))
        calibration = Calibration(source.pixel_size or (1.0, 1.0), source.pixel_unit)
        for layer in self.layers.values():
            self._publish_layer(layer, levels, calibration)
        place = {"crs": source.crs, "transform": source.transform}
        publish_image(self.image_folder, levels, calibration, list(source.channel_names), place)
        if self.folder.local is not None:
            os.replace(self.folder.local / PARTIAL, self.folder.local / IMAGE)

    def close(self) -> None:
        """Have the last word: report and state."""
        wall = self.state["seconds_before"] + time.time() - self.state["begun"]
        self.state |= {"state": "complete", "ended": timestamp(), "wall_seconds": wall}
        if self.plan.config.report.page:
            self.folder.put("report.html", write_report(self.folder, self.state).encode())
        self.folder.put_json("run.json", self.state)
        self.folder.delete("work")
        self.folder.delete(CLAIMS)

    def _publish_layer(self, layer: Layer, levels: int, calibration: Calibration) -> None:
        """Write the metadata of what a stage has made."""
        if layer.array == "image":  # the last one: from then on the image is complete
            return
        (method,) = [stage.method for stage in self.plan.stages if stage.name == layer.stage]
        extra: dict[str, Any] = {"method": method.name}
        if layer.label_name is None:
            place = layer.prefix.rstrip("/")
            publish_map(self.image_folder, place, levels, calibration, extra)
            return
        extra |= (self.state["labels"] | self.state.get("maps", {}))[layer.label_name]
        publish_labels(self.image_folder, layer.label_name, levels, calibration, extra)

    def _timed(
        self, title: str, loads: Sequence[Workload], executor: Executor, watch: Watch
    ) -> list[list[Report]]:
        """Run jobs and note what they took."""
        begun = time.time()
        done = run_jobs(title, loads, executor, watch)
        note_step(self.state, title, begun, [report for reports in done for report in reports])
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


def _same(part: Any, _number: int) -> Any:
    """Tell every task the same."""
    return part


def _batches(plan: Plan, step: Pass) -> Iterable[Sequence[int]]:
    """Tiles per task: small ones together; rows of tiles (or all) where the source has an order."""
    count, across = len(plan.grid), plan.grid.counts[1]
    size = max(1, MIN_TASK_PIXELS // prod(plan.grid.size))
    if step.name == "ingest":
        size = {"tiles": size, "bands": across, "stream": count}[plan.source.access]
    return _ranges(count, size)


def _ranges(count: int, size: int) -> Iterator[range]:
    return (range(i, min(i + size, count)) for i in range(0, count, size))
