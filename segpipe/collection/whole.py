"""An image in one piece: everything that a run does to it, in one task of one process.

The labels are those of any other run, since the passes on a single tile are what a method means
(`segpipe.passes`). What is left out is what a single tile does not need: intermediate arrays on the
disk, records of every pass, one file after the other that only another task would read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segpipe.finish import close, reveal
from segpipe.inspection import ScoreJob, SeamJob, Subject, looked
from segpipe.inspection.jobs import pack, unpack
from segpipe.jobs import LabelsInput
from segpipe.layers import Layer, layers_of, note_digest
from segpipe.passes import run_in_memory
from segpipe.plan import Plan
from segpipe.provenance import new_state, task_key
from segpipe.run import Run, note_nothing, source_input
from segpipe.stage_plans import StagePlan
from segpipe.steps import note_step
from segpipe.store import table_name
from segpipe.store.arrays import Region, as_planes, create_array
from segpipe.store.digest import array_digest
from segpipe.store.folder import Folder
from segpipe.store.ome import level_shapes
from segpipe.store.pyramid import coarser
from segpipe.store.tables import write_table
from segpipe.tasks import Report, Work, run_tasks
from segpipe.tiles import Box

NAME = "whole"
"""Of the one job, step and record of such a run."""


Look = Callable[[Folder, Mapping[str, Any]], None]
"""Does something with a result that is about to be complete, and its state."""


def segment_whole(plan: Plan, folder: Folder, look: Look | None = None) -> dict[str, Any]:
    """Segment an image in one go and leave a complete run folder; return what ``run.json`` says.

    Parameters
    ----------
    plan
        A plan of one tile.
    folder
        Where to; what an interrupted attempt has left there is deleted.
    look
        Called before the last word is written; what it writes belongs to the run.
    """
    if folder.exists:
        folder.delete("")
    run, begun = Run(plan, folder, new_state(plan)), time.time()
    (report,) = run_tasks(WholeJob(plan, folder, run.image_folder), [(0, None)])
    run.state |= unpack(report.record)
    note_step(run.state, NAME, begun, [report])
    reveal(run)
    if look is not None:
        look(folder, run.state)
    run.state["sizes"] = folder.sizes()
    close(run)
    return run.state


def intact(folder: Folder, state: Mapping[str, Any]) -> bool:
    """Whether a complete run's files are there with their sizes (of tiled runs: whether it ended).

    Cheap: no pixel is read. `segpipe.verify` reads everything.
    """
    expected = state.get("sizes")
    if expected is None:
        return True
    sizes = folder.sizes()
    return all(sizes.get(name) == size for name, size in expected.items())


@dataclass(frozen=True)
class WholeJob:
    """The one task of an image in one piece."""

    plan: Plan
    folder: Folder
    image: Folder
    """Where the OME-Zarr image lies until it is complete."""

    name = NAME

    @property
    def key(self) -> str:
        """Digest of all that decides the output."""
        return task_key(self.plan, NAME, [step for s in self.plan.stages for step in s.passes])

    def __len__(self) -> int:
        return 1

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the folder was emptied, so no former record is asked for."""
        return []

    def work(self, _number: int, _part: Any) -> Work:
        """Read the image, segment it, measure it and look at it."""
        work, shape = Work(), self.plan.image.shape
        arrays: dict[str, np.ndarray] = {}
        with work.timed("read"):
            source = source_input(self.plan)
            for name, (pixels, found) in source.read(Box((0, 0), shape)).items():
                arrays[name], work.inputs[name] = np.ascontiguousarray(pixels), found
        self._put(work, "", as_planes(arrays["image"]), self.plan.image.dtype)
        said: dict[str, Any] = {"labels": {}, "conditions": {}, "seams": {}}
        if "mask" in arrays and not arrays["mask"].any():
            note_nothing(said, self.plan)
        labels: dict[str, np.ndarray] = {}
        filtered: dict[str, np.ndarray] = {}
        for stage in self.plan.stages:
            instead = {"image": filtered[stage.reads]} if stage.pixels else {}
            if stage.reads in labels:
                arrays["segments"] = labels[stage.reads]
            elif stage.fingerprint is not None:
                name = stage.given
                file = LabelsInput(stage.reads, stage.fingerprint, self.plan.source, name)
                with work.timed("read"):
                    arrays[name], work.inputs[name] = file.read(Box((0, 0), shape))[name]
            known = self._segment(work, stage, arrays | instead, said)
            labels[stage.name] = known["labels"]
            if "filtered" in known:
                filtered[stage.name] = known["filtered"]
        work.record = pack(said)
        return work

    def _layers(self, stage: StagePlan) -> list[Layer]:
        """Return what a stage leaves as images."""
        return [layer for layer in layers_of(self.plan).values() if layer.stage == stage.name]

    def _segment(
        self, work: Work, stage: StagePlan, arrays: Mapping[str, np.ndarray], said: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Do one stage; return its arrays, and note in `said` what ``run.json`` says of it."""
        with work.timed("compute"):
            notes: dict[str, Any] = {}
            known, tables = run_in_memory(stage.passes, arrays, notes=notes)
            labels = known["labels"]
            segments = int(labels.max(initial=0))
        for layer in self._layers(stage):
            planes = np.moveaxis(known[layer.array], -1, 0) if layer.planes else known[layer.array]
            self._put(work, layer.prefix, planes, layer.dtype)
            if layer.label_name is not None:
                with work.timed("compute"):
                    note_digest(said, layer, array_digest(planes), segments)
        alone = len(self.plan.stages) == 1
        with work.timed("write"):
            for title, columns in tables.items():
                target = table_name(title, stage.name, alone=alone)
                work.objects[target] = write_table(self.folder, target, columns)
        with work.timed("compute"):
            held = {name: arrays[name] for name in ("image", "mask") if name in arrays}
            found = self._look(stage, held | {"labels": labels}, segments)
        if notes:
            said.setdefault("notes", {}).update({f"{stage.name}-{n}": v for n, v in notes.items()})
        for kind, of_stage in found.items():
            said[kind] |= of_stage
        return known

    def _look(
        self, stage: StagePlan, held: Mapping[str, np.ndarray], segments: int
    ) -> dict[str, Any]:
        """Score the labels; there are no seams to look at."""
        table = table_name("segments", stage.name, alone=len(self.plan.stages) == 1)
        subject = Held(
            stage.name, self.folder, self.image, table, segments, self.plan.grid, self.key,
            partial=getattr(stage.method, "partial", False), held=held,
        )  # fmt: skip
        done = [
            [Report(0, job.work(0, None).record, {})]
            for job in (ScoreJob(subject), SeamJob(subject))
        ]
        return looked([subject], done)

    def _put(self, work: Work, prefix: str, planes: np.ndarray, dtype: str) -> None:
        """Create the arrays of a pyramid; what is to be in them is written when all is done."""
        for level, shape in enumerate(level_shapes(self.plan.image.shape)):
            if level:
                planes = coarser(planes)
            path, lead = f"{prefix}{level}", planes.shape[:-2]
            with work.timed("write"):
                create_array(self.image, path, (*lead, *shape), dtype, shape)
            work.regions.append((Region(self.image, path, Box((0, 0), shape)), planes))


@dataclass(frozen=True)
class Held(Subject):
    """Labels that are looked at before they are on the disk."""

    held: Mapping[str, np.ndarray] = field(default_factory=dict)
    """``image`` (H, W, C), ``labels`` (H, W) and, if some pixels do not count, ``mask`` (H, W)."""

    def labels(self, box: Box) -> np.ndarray:
        """Return the labels in a box."""
        return self.held["labels"][box.slices]

    def pixels(self, box: Box) -> np.ndarray:
        """Return the image in a box."""
        return self.held["image"][box.slices]

    def mask(self, box: Box) -> np.ndarray | None:
        """Return which pixels of a box count; None if all do."""
        return self.held["mask"][box.slices] if "mask" in self.held else None
