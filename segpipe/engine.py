"""Runs a plan on any executor: bounded submission, records, resume, progress.

A run is a list of named steps (`Run.steps`), each doing one or a few jobs; a command line loops over
them, a Prefect flow makes one task of each. Everything a step needs from former steps it can read from
the run folder, so a run can stop anywhere and go on elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import numpy as np

import segpipe
from segpipe.errors import InputError, RunError, SegpipeError
from segpipe.jobs import (
    ArrayInput,
    DigestJob,
    Job,
    PassJob,
    PyramidJob,
    Report,
    SourceInput,
    TableJob,
    run_tasks,
)
from segpipe.passes import Pass, Solution
from segpipe.plan import Plan, StagePlan
from segpipe.store.arrays import create_array
from segpipe.store.folder import Folder
from segpipe.store.ome import Calibration, level_shapes, publish_image, publish_labels
from segpipe.tiles import Grid

PARTIAL, FINAL = "partial.ome.zarr", "image.ome.zarr"
"""The image carries the first name until it is complete (in an object store, where nothing can be
renamed, it has the second name from the start and gets its metadata last)."""
PYRAMID_BLOCK = 4096
PYRAMID_LEVELS = 4
"""One pyramid task reads a block and halves it this often; the smallest piece stays a fair chunk."""
IN_FLIGHT = 3
"""Tasks submitted ahead per worker: enough to keep it busy, few enough to keep the scheduler small."""
MIN_TASK_PIXELS = 1 << 20
"""Smaller tiles are done several to a task."""


class Executor(Protocol):
    """Where tasks run: `concurrent.futures` futures, whatever is behind them."""

    workers: int

    def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Any:
        """Start ``function(*args)``; tasks of one `name` belong together in a dashboard."""


class Watch(Protocol):
    """Who wants to know how far a run is."""

    def begin(self, step: str, total: int) -> None:
        """A step with `total` tasks begins."""

    def advance(self, step: str, done: int) -> None:
        """`done` more tasks of the step are finished."""

    def end(self, step: str) -> None:
        """The step is finished."""


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
    solutions: dict[tuple[str, str], Solution] = field(default_factory=dict)
    records: dict[tuple[str, str], list[Report]] = field(default_factory=dict)

    @property
    def image_folder(self) -> Folder:
        """Where the OME-Zarr image lies at the moment."""
        done = self.folder.local is None or self.state["state"] == "complete"
        return self.folder / (FINAL if done else PARTIAL)

    def steps(self) -> list[Step]:
        """Everything to do, in order."""
        plan = self.plan
        steps = [Step("ingest", partial(self._sweep, "image", plan.ingest, ()))]
        for stage in plan.stages:
            for i, step in enumerate(stage.passes):
                name = f"{stage.name}-{step.name}"
                steps.append(Step(name, partial(self._sweep, stage.name, step, stage.passes[:i])))
        steps.append(Step("finish", self._finish))
        steps.append(Step("publish", self._publish))
        return steps

    def _sweep(
        self, stage: str, step: Pass, former: Sequence[Pass], executor: Executor, watch: Watch
    ) -> None:
        """Do one pass over all tiles and solve what they sent."""
        plan, last = self.plan, former[-1] if former else None
        job = self._pass_job(stage, step, former)
        for name, dtype in step.writes.items():
            lead = (plan.image.channels,) if name == "image" else ()
            create_array(*job.paths[name], lead + plan.image.shape, dtype, plan.grid.size)
        parts = self._parts(stage, last)
        reports = self._do([(job, parts)], executor, watch, job.name, _batches(plan, step))[0]
        self.records[stage, step.name] = reports
        if step.solve is not None:
            records = [report.record for report in reports]
            sent = [_merged(step, records)] if step.merge else records
            before = self.solutions.get((stage, last.name)) if last else None
            self.solutions[stage, step.name] = step.solve(sent, plan.grid, before)

    def _parts(self, stage: str, last: Pass | None) -> Callable[[int], Any]:
        solution = self.solutions.get((stage, last.name)) if last else None
        if solution is None or last is None:
            return lambda _number: None
        reports, grid = self.records[stage, last.name], self.plan.grid
        return lambda n: solution.for_tile(grid.tile(n, last.halo), reports[n].record)

    def _pass_job(self, stage: str, step: Pass, former: Sequence[Pass]) -> PassJob:
        config, source = self.plan.config, self.plan.source
        inputs: tuple[ArrayInput | SourceInput, ...]
        if step.name == "ingest":
            masked = self.plan.image.masked
            inputs = (SourceInput(config.input, config.mask, masked, config.max_pixels),)
        else:
            inputs = tuple(ArrayInput(n, *self._place(stage, n)) for n in step.reads)
        key = _key(self.plan.identity, self.plan.grid.size, stage, [*former, step])
        paths = {name: self._place(stage, name) for name in step.writes}
        del source
        return PassJob(f"{stage}-{step.name}", self.folder, key, step, self.plan.grid, inputs, paths)

    def _place(self, stage: str, name: str) -> tuple[Folder, str]:
        """Where array `name` of a stage lies."""
        if name == "image":
            return self.image_folder, "0"
        if name == "labels":
            return self.image_folder, f"labels/{stage}/0"
        return self.folder / "work", name if name == "mask" else f"{stage}/{name}"

    def _finish(self, executor: Executor, watch: Watch) -> None:
        """Pyramids, tables and digests: independent of each other, so done side by side."""
        jobs: list[tuple[Job, Callable[[int], Any]]] = []
        for stage in self.plan.stages:
            folder, path = self._place(stage.name, "labels")
            key = _key(self.plan.identity, self.plan.grid.size, stage.name, stage.passes)
            name = f"{stage.name}-digest"
            jobs.append((DigestJob(name, self.folder, key, folder, path), lambda _n: None))
            jobs += self._table_job(stage, key)
        shapes = level_shapes(self.plan.image.shape)
        for source in range(0, len(shapes) - 1, PYRAMID_LEVELS):
            jobs += self._pyramid_jobs(shapes, source)
            reports = self._do(jobs, executor, watch, "finish" if source == 0 else "pyramid")
            self._note_digests(jobs, reports)
            jobs = []
        if jobs:  # a small image has no pyramid
            self._note_digests(jobs, self._do(jobs, executor, watch, "finish"))

    def _table_job(
        self, stage: StagePlan, key: str
    ) -> list[tuple[Job, Callable[[int], Any]]]:
        last = stage.passes[-1]
        if last.table is None:
            return []
        solution = self.solutions[stage.name, last.name]
        parts = [r.meta["objects"][0] for r in self.records[stage.name, last.name]]
        name = last.table if len(self.plan.stages) == 1 else f"{last.table}-{stage.name}"
        job = TableJob(
            f"{stage.name}-table", self.folder, key, f"{name}.parquet", tuple(parts), self.plan.grid
        )
        return [(job, lambda _n: solution.columns)]  # type: ignore[attr-defined]

    def _pyramid_jobs(
        self, shapes: list[tuple[int, int]], source: int
    ) -> list[tuple[Job, Callable[[int], Any]]]:
        plan = self.plan
        levels = tuple(range(source + 1, min(len(shapes), source + 1 + PYRAMID_LEVELS)))
        places = [("image", self.image_folder, "", True)]
        for stage in plan.stages:
            path = f"labels/{stage.name}"
            places.append((stage.name, self.image_folder / path, f"{path}/", False))
        jobs: list[tuple[Job, Callable[[int], Any]]] = []
        for name, array, _prefix, mean in places:
            kind = plan.image.dtype if mean else plan.stages[0].passes[-1].writes["labels"]
            lead = (plan.image.channels,) if mean else ()
            for level in levels:
                edge = PYRAMID_BLOCK >> (level - source)
                create_array(array, str(level), lead + shapes[level], kind, (edge, edge))
            key = _key(plan.identity, plan.grid.size, name, (), *levels)
            grid = Grid(shapes[source], (PYRAMID_BLOCK, PYRAMID_BLOCK))
            title = f"{name}-pyramid{source}"
            job = PyramidJob(title, self.folder, key, array, grid, source, levels, mean)
            jobs.append((job, lambda _n: None))
        return jobs

    def _note_digests(self, jobs: Sequence[Any], reports: Sequence[list[Report]]) -> None:
        for (job, _parts), done in zip(jobs, reports, strict=True):
            if isinstance(job, DigestJob):
                stage = job.name.removesuffix("-digest")
                last = next(s for s in self.plan.stages if s.name == stage).passes[-1].name
                count = getattr(self.solutions.get((stage, last)), "count", None)
                digest = done[0].record["digest"].tobytes().decode()
                self.state["labels"][stage] = {"digest": digest, "segments": count}

    def _publish(self, executor: Executor, watch: Watch) -> None:
        """Make the result visible: metadata, final name, state."""
        from segpipe.report import write_report

        plan, levels = self.plan, len(level_shapes(self.plan.image.shape))
        size = plan.source.pixel_size or (1.0, 1.0)
        calibration = Calibration(tuple(size), plan.source.pixel_unit)
        place = {"crs": plan.source.crs, "transform": plan.source.transform}
        for stage in plan.stages:
            provenance = {"method": stage.method.name, **self.state["labels"][stage.name]}
            publish_labels(self.image_folder, stage.name, levels, calibration, provenance)
        names = list(plan.source.channel_names)
        publish_image(self.image_folder, levels, calibration, names, place)
        if self.folder.local is not None:
            os.replace(self.folder.local / PARTIAL, self.folder.local / FINAL)
        self.folder.delete("work")
        self.state |= {"state": "complete", "ended": _now()}
        self.state["wall_seconds"] = time.time() - self.state["begun"]
        self.folder.put("report.html", write_report(self).encode())
        self._save()

    def _do(
        self,
        jobs: Sequence[tuple[Job, Callable[[int], Any]]],
        executor: Executor,
        watch: Watch,
        title: str,
        batches: Iterable[Sequence[int]] | None = None,
    ) -> list[list[Report]]:
        """Run all tasks of some jobs with a bounded number in flight; return their reports."""
        begun = time.time()
        watch.begin(title, sum(len(job) for job, _parts in jobs))
        found: list[list[Report | None]] = [[None] * len(job) for job, _parts in jobs]
        todo = (
            (i, batch)
            for i, (job, _parts) in enumerate(jobs)
            for batch in (batches or ([n] for n in range(len(job))))
        )
        for i, reports in _in_flight(jobs, todo, executor):
            for report in reports:
                found[i][report.number] = report
            watch.advance(title, len(reports))
        missing = sum(report is None for reports in found for report in reports)
        if missing:
            raise RunError(f"{title}: {missing} tasks were lost; `segpipe resume` does them again")
        watch.end(title)
        done = [[report for report in reports if report is not None] for reports in found]
        self._note_times(title, begun, [report for reports in done for report in reports])
        return done

    def _note_times(self, title: str, begun: float, reports: list[Report]) -> None:
        fresh = [r.meta for r in reports if not r.reused]
        seconds: dict[str, float] = {}
        for meta in fresh:
            for phase, value in meta["seconds"].items():
                seconds[phase] = seconds.get(phase, 0.0) + value
        self.state["steps"][title] = {
            "tasks": len(reports),
            "reused": len(reports) - len(fresh),
            "wall": time.time() - begun,
            **seconds,
            "peak_bytes": max((m["peak_bytes"] for m in fresh), default=0),
        }
        self._save()

    def _save(self) -> None:
        self.folder.put_json("run.json", self.state)


def open_run(plan: Plan, *, resume: bool) -> Run:
    """Claim the run folder for a plan.

    Raises
    ------
    InputError
        The folder holds something else, a finished run, or (without `resume`) an unfinished one.
    """
    folder = Folder(plan.config.output)
    stored = folder.get_json("run.json")
    if stored is None and folder.local is not None and folder.local.is_dir():
        if any(folder.local.iterdir()):
            raise InputError(
                f"the output folder {folder} holds files that are no segpipe run; "
                f"choose another `output`"
            )
    if stored is not None:
        _check_same(folder, stored, plan, resume=resume)
    folder.check_writable()
    state = {
        "segpipe": segpipe.__version__,
        "state": "running",
        "identity": plan.identity,
        "config": _resolved(plan),
        "source": {k: v for k, v in vars(plan.source).items()},
        "tile": list(plan.grid.size),
        "exactness": {s.name: s.method.exactness for s in plan.stages},
        "machine": _machine(plan),
        "started": _now(),
        "begun": time.time(),
        "process": {"host": socket.gethostname(), "pid": os.getpid()},
        "resumed": (stored or {}).get("resumed", 0) + (1 if stored else 0),
        "labels": {},
        "steps": {},
    }
    run = Run(plan, folder, state)
    run._save()
    return run


def _check_same(folder: Folder, stored: dict[str, Any], plan: Plan, *, resume: bool) -> None:
    if stored["identity"] != plan.identity or stored["tile"] != list(plan.grid.size):
        raise InputError(
            f"the output folder {folder} holds another run (other input, method, parameters, tile "
            f"size or version); choose another `output`, or delete it"
        )
    if stored["state"] == "complete":
        raise InputError(
            f"the run in {folder} is complete; look at {folder}/report.html, or choose another "
            f"`output`"
        )
    if _alive(stored.get("process", {})):
        raise InputError(
            f"process {stored['process']['pid']} is working on {folder} at this moment; "
            f"wait for it, or stop it"
        )
    if not resume:
        raise InputError(
            f"{folder} holds this run, unfinished; go on with `segpipe resume {folder}`"
        )


def _alive(process: dict[str, Any]) -> bool:
    """Whether the process that began a run still exists (told on its own machine only)."""
    pid = process.get("pid")
    if process.get("host") != socket.gethostname() or pid in (None, os.getpid()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _in_flight(
    jobs: Sequence[tuple[Job, Callable[[int], Any]]],
    todo: Iterator[tuple[int, Sequence[int]]],
    executor: Executor,
) -> Iterator[tuple[int, list[Report]]]:
    """Keep a bounded number of tasks submitted; yield (job index, reports) as they finish."""
    pending: dict[Any, int] = {}
    try:
        while True:
            while len(pending) < IN_FLIGHT * executor.workers:
                following = next(todo, None)
                if following is None:
                    break
                index, batch = following
                job, parts = jobs[index]
                tasks = [(n, parts(n)) for n in batch]
                pending[executor.submit(run_tasks, job, tasks, name=job.name)] = index
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                index = pending.pop(future)
                yield index, _result(future, jobs[index][0].name)
    finally:
        for future in pending:
            future.cancel()


def _result(future: Any, name: str) -> list[Report]:
    try:
        return future.result()  # type: ignore[no-any-return]
    except SegpipeError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise RunError(
            f"{name}: the cluster lost a task ({type(error).__name__}: {error}); finished tiles are "
            f"kept, go on with `segpipe resume`"
        ) from error


def _batches(plan: Plan, step: Pass) -> Iterator[Sequence[int]]:
    """Tiles per task: small tiles together; rows of tiles (or all) where the source has an order."""
    count, across = len(plan.grid), plan.grid.counts[1]
    size = max(1, MIN_TASK_PIXELS // int(np.prod(plan.grid.size)))
    if step.name == "ingest":
        size = {"tiles": size, "bands": across, "stream": count}[plan.source.access]
    return (range(i, min(i + size, count)) for i in range(0, count, size))


def _merged(step: Pass, records: list[Any]) -> Any:
    """Merge records as a tree of fan-in 16 (the sum does not depend on the tree)."""
    assert step.merge is not None
    while len(records) > 1:
        records = [step.merge(records[i : i + 16]) for i in range(0, len(records), 16)]
    return records[0]


def _key(identity: str, size: tuple[int, ...], stage: str, passes: Iterable[Pass], *more: int) -> str:
    """Digest of all that decides a task's output besides its number."""
    parts = [identity, size, stage, [step.name for step in passes], more]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _resolved(plan: Plan) -> dict[str, Any]:
    """Return the configuration with everything filled in, as a resume needs it."""
    import dataclasses

    values = plan.config.model_dump(mode="json", exclude_none=True)
    values.pop("method", None)
    values.pop("parameters", None)
    values["stages"] = [
        {"method": s.method.name, "name": s.name, "parameters": dataclasses.asdict(s.method)}  # type: ignore[call-overload]
        for s in plan.stages
    ]
    values["tiles"] = {"size": list(plan.grid.size)}
    return values


def _machine(plan: Plan) -> dict[str, Any]:
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "workers": plan.limits.workers,
        "worker_memory": plan.limits.memory,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
