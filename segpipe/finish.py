"""The end of a run: digests, tables, pyramids, a look at the result; then it is made visible."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from segpipe.engine import Executor, Watch, Workload
from segpipe.inspection import ScoreJob, SeamJob, Subject, check_seams, looked
from segpipe.jobs import DigestJob, Levels, PyramidJob, TableJob
from segpipe.layers import Layer, note_digest
from segpipe.provenance import CLAIMS, task_key, timestamp
from segpipe.remarks import found, remarks
from segpipe.report import write_report
from segpipe.stage_plans import StagePlan
from segpipe.steps import compile_seconds
from segpipe.store import IMAGE, table_name
from segpipe.store.folder import Folder
from segpipe.store.ome import (
    Calibration,
    level_shapes,
    publish_image,
    publish_labels,
    publish_map,
)
from segpipe.tiles import Grid

if TYPE_CHECKING:
    from segpipe.run import Run

PARTIAL = "partial.ome.zarr"
"""The image carries this name until it is complete (in an object store, where nothing can be
renamed, it has its final name from the start and gets its metadata last)."""
PYRAMID_BLOCK, PYRAMID_LEVELS = 4096, 4
"""One pyramid task reads a block and halves it this often; the smallest piece is a fair chunk."""


def finish(run: Run, executor: Executor, watch: Watch) -> None:
    """Digests, tables, pyramids, a look at the result: done side by side."""
    stages, subjects = run.plan.stages, _subjects(run)
    # the digests first: nothing else takes as long in one task
    maps = [layer for layer in run.layers.values() if layer.label_name]
    loads = [Workload(_digest_job(run, layer)) for layer in maps]
    looks: list[Workload] = []
    for stage, subject in zip(stages, subjects, strict=True):
        tables = _table_loads(run, stage)
        looks += [Workload(ScoreJob(subject), after=len(loads)), Workload(SeamJob(subject))]
        loads += tables
    first = len(loads)
    sources = {layer: len(run.levels_of(layer).made) for layer in run.layers.values()}
    loads += looks + _pyramid_loads(run, sources)
    reports = run.timed("finish", loads, executor, watch)
    for layer, done in zip(maps, reports, strict=False):
        digest = done[0].record["digest"].tobytes().decode()
        note_digest(run.state, layer, digest, _segments(run, layer.stage))
    run.state |= looked(subjects, reports[first : first + len(looks)])
    while loads := _pyramid_loads(run, sources):
        run.timed(f"pyramid-{min(sources.values())}", loads, executor, watch)


def _segments(run: Run, stage: str) -> int:
    """How many segments a stage has made."""
    (last,) = [s.passes[-1] for s in run.plan.stages if s.name == stage]
    return int(run.solutions[stage, last.name].count)


def _subjects(run: Run) -> list[Subject]:
    """Return what is looked at: the labels of every stage."""
    plan, stages = run.plan, run.plan.stages
    subjects = []
    for stage in stages:
        reads = {name for step in stage.passes for name in step.reads}
        given = sorted(reads & {"image", "mask", "segments"} | {"image"})
        subject = Subject(
            stage.name,
            run.folder,
            run.image_folder,
            table_name("segments", stage.name, alone=len(stages) == 1),
            _segments(run, stage.name),
            plan.grid,
            task_key(plan, stage.name, stage.passes),
            stage.method if plan.config.report.seam_check else None,
            stage.pixels or plan.image,
            tuple(run.input_of(stage.name, name) for name in given),
            getattr(stage.method, "partial", False),
            plan.seconds,
        )
        subjects.append(subject)
    return subjects


def _digest_job(run: Run, layer: Layer) -> DigestJob:
    (passes,) = [s.passes for s in run.plan.stages if s.name == layer.stage]
    key = task_key(run.plan, layer.stage, passes)
    place = run.place(layer.stage, layer.array)
    return DigestJob(f"{layer.name}-digest", run.folder, key, *place)


def _table_loads(run: Run, stage: StagePlan) -> list[Workload]:
    last = stage.passes[-1]
    key = task_key(run.plan, stage.name, stage.passes)
    loads = []
    for title, table in last.tables.items():
        target = table_name(title, stage.name, alone=len(run.plan.stages) == 1)
        place = f"work/tables/{stage.name}-{last.name}/{title}"
        name = f"{stage.name}-{title}"
        job = TableJob(name, run.folder, key, target, place, table, run.plan.grid)
        starts = run.solutions[stage.name, last.name].starts
        loads.append(Workload(job, partial(_same, starts)))
    return loads


def _pyramid_loads(run: Run, sources: dict[Layer, int]) -> list[Workload]:
    """Tasks that make the next few levels of every array from the level reached so far."""
    shapes, loads = level_shapes(run.plan.image.shape), []
    for layer, source in sources.items():
        made = tuple(range(source + 1, min(len(shapes), source + 1 + PYRAMID_LEVELS)))
        if not made:
            continue
        levels = Levels(run.image_folder, layer.prefix, source, made)
        grid = Grid(shapes[source], (PYRAMID_BLOCK, PYRAMID_BLOCK))
        run.create_levels(layer, levels, grid.size)
        key = task_key(run.plan, layer.name, (), *made)
        job = PyramidJob(f"{layer.name}-pyramid-{source}", run.folder, key, grid, levels)
        loads.append(Workload(job))
        sources[layer] = made[-1]
    return loads


def look_at_seams(run: Run, executor: Executor, watch: Watch) -> None:
    """Segment a few windows again, with the seams elsewhere."""
    do = partial(run.timed, executor=executor, watch=watch)
    check_seams(_subjects(run), run.state, do)


def publish(run: Run, _executor: Executor, watch: Watch) -> None:
    """Make the result visible."""
    watch.begin("publish", 1)
    reveal(run)
    close(run)
    watch.advance("publish", 1)
    watch.end("publish")


def reveal(run: Run) -> None:
    """Write the metadata of the image and give it its final name."""
    source, levels = run.plan.source, len(level_shapes(run.plan.image.shape))
    calibration = Calibration(source.pixel_size or (1.0, 1.0), source.pixel_unit)
    for layer in run.layers.values():
        _publish_layer(run, layer, levels, calibration)
    place = {"crs": source.crs, "transform": source.transform}
    publish_image(run.image_folder, levels, calibration, list(source.channel_names), place)
    if run.folder.local is not None:
        os.replace(run.folder.local / PARTIAL, run.folder.local / IMAGE)


def close(run: Run) -> None:
    """Have the last word: report and state."""
    wall = run.state["seconds_before"] + time.time() - run.state["begun"]
    run.state |= {"state": "complete", "ended": timestamp(), "wall_seconds": wall}
    run.state["compile_seconds"] = compile_seconds(run.state)
    run.state["remarks"] = remarks(run.plan, run.state)
    run.state["found"] = found(run.plan, run.state)
    if run.plan.config.report.page:
        run.folder.put("report.html", write_report(run.folder, run.state).encode())
    run.folder.put_json("run.json", run.state)
    tidy(run.folder)


def tidy(folder: Folder) -> None:
    """Delete what only the work needed; killed behind its last word, a run leaves it."""
    for name in ("work", CLAIMS):
        folder.delete(name)


def _publish_layer(run: Run, layer: Layer, levels: int, calibration: Calibration) -> None:
    """Write the metadata of what a stage has made."""
    if layer.array == "image":  # the last one: from then on the image is complete
        return
    (method,) = [stage.method for stage in run.plan.stages if stage.name == layer.stage]
    extra: dict[str, Any] = {"method": method.name}
    if layer.label_name is None:
        place = layer.prefix.rstrip("/")
        publish_map(run.image_folder, place, levels, calibration, extra)
        return
    extra |= (run.state["labels"] | run.state.get("maps", {}))[layer.label_name]
    publish_labels(run.image_folder, layer.label_name, levels, calibration, extra)


def _same(part: Any, _number: int) -> Any:
    """Tell every task the same."""
    return part
