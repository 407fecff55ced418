"""The run of a collection: steps that a command line loops over and a Prefect flow makes tasks of.

Small images are done by the workers alone, some images a task; what kills its worker is tried again
with nothing beside it, so that it cannot be another's fault; what is too large for one worker is
done in tiles by all of them. The driver knows names and outcomes alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from segpipe import __version__
from segpipe import cluster as clusters
from segpipe.collection.listing import Item, find_items
from segpipe.collection.work import (
    ASIDE,
    DONE,
    LARGE,
    REASON,
    SCORES,
    Images,
    Outcome,
    do_images,
    done_row,
    explained,
    set_aside,
)
from segpipe.config import Config, placed
from segpipe.engine import Executor, Watch, bounded
from segpipe.errors import InputError, SegpipeError, Unavailable
from segpipe.plan import Limits
from segpipe.progress import Silent
from segpipe.provenance import (
    CLAIMS,
    beginning,
    check_alone,
    machine,
    take_over,
    timestamp,
    versions,
)
from segpipe.report.gallery import write_gallery
from segpipe.run import Step, open_run
from segpipe.session import as_begun, no_word, prepare
from segpipe.stage_plans import build_method
from segpipe.state import COLLECTION, read_state
from segpipe.steps import retries
from segpipe.store import column_name
from segpipe.store.columns import batches
from segpipe.store.folder import Folder
from segpipe.store.space import said_when_full
from segpipe.store.summary import Rows

IMAGES = "images"
"""Folder of the run folders of all images."""
TABLE = "images.parquet"
BATCH = 8
"""Images a task: enough to hide what a task costs, few enough to lose little with a worker."""
TEXTS: dict[str, type] = dict.fromkeys(("name", "path", "status", "error", "remark", "dtype"), str)
NUMBERS: dict[str, type] = {"height": int, "width": int, "channels": int, "seconds": float}


@dataclass
class CollectionRun:
    """A collection at work in its folder."""

    config: Config
    folder: Folder
    items: tuple[Item, ...]
    images: Images
    state: dict[str, Any]
    """What ``collection.json`` says."""
    rows: Rows
    suspects: list[Item] = field(default_factory=list)
    """Images in tasks that were lost."""
    large: list[Item] = field(default_factory=list)

    def steps(self) -> list[Step]:
        """Everything to do, in order."""
        return [
            Step("images", self._images),
            Step("suspects", self._suspects),
            Step("large images", self._large),
            Step("report", self._report),
        ]

    def _images(self, executor: Executor, watch: Watch) -> None:
        """Do all images that a worker can do alone."""
        size = max(1, min(BATCH, len(self.items) // (4 * executor.workers)))
        todo = (self.items[i : i + size] for i in range(0, len(self.items), size))

        def submit() -> tuple[Any, Sequence[Item]] | None:
            items = next(todo, None)
            return None if items is None else (self._submit(executor, items), items)

        watch.begin("images", len(self.items))
        for future, items in bounded(executor, submit):
            try:
                self._note(future.result())
            except (SegpipeError, KeyboardInterrupt):
                raise
            except BaseException:  # the worker died, of one of these images or of another task's
                self.suspects += items
            watch.advance("images", len(items))
        watch.end("images")

    def _suspects(self, executor: Executor, watch: Watch) -> None:
        """Do what was lost with its worker one by one, with nothing beside it."""
        if not self.suspects:
            return
        watch.begin("suspects", len(self.suspects))
        for item in self.suspects:
            try:
                self._note(self._submit(executor, [item]).result())
            except (SegpipeError, KeyboardInterrupt):
                raise
            except BaseException as error:
                why = (
                    f"every worker that tried it died, for lack of memory or in a decoder "
                    f"({type(error).__name__}); look at the file, or allow more cluster.memory"
                )
                self._note([set_aside(self.images, item, why)])
            watch.advance("suspects", 1)
        watch.end("suspects")

    def _submit(self, executor: Executor, items: Sequence[Item]) -> Any:
        return executor.submit(do_images, self.images, items, name="images")

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        """Take in what became of some images."""
        counts = self.state["counts"]
        for outcome in outcomes:
            if outcome.status == LARGE:
                self.large.append(outcome.item)
                continue
            self.rows.add(outcome.row)
            counts[outcome.status] += 1
            counts["reused"] += outcome.reused
            counts["remarked"] += bool(outcome.row.get("remark"))

    def _large(self, executor: Executor, watch: Watch) -> None:
        """Do large images in tiles, as a mosaic is done: one after the other, by all workers."""
        if not self.large:
            return
        watch.begin("large images", len(self.large))
        for item in self.large:
            try:
                self._note([self._tiled(item, executor)])
            except Unavailable:
                raise
            except SegpipeError as error:
                self._note([set_aside(self.images, item, explained(error), keep=True)])
            watch.advance("large images", 1)
        watch.end("large images")

    def _tiled(self, item: Item, executor: Executor) -> Outcome:
        """Run a large image, or go on with its run."""
        folder, config = self.images.folder(item), self.images.config_of(item)
        stored, limits = _unfinished(folder), _limits(self.state)
        plan = prepare(as_begun(config) if stored else config, limits)
        if stored is None or stored["identity"] != plan.identity:
            folder.delete("")
            plan = prepare(config, limits)
        elif folder.get(REASON) is not None:
            folder.delete_object(REASON)
        run = open_run(plan, resume=True)
        for step in run.steps():
            step.run(executor, Silent())  # a collection counts images, not their tiles
        self.images.look(folder, run.state)
        return Outcome(item, DONE, done_row(item, run.state))

    def _report(self, executor: Executor, watch: Watch) -> None:
        """Write the table of images, the digest of all, and the page that shows them."""
        watch.begin("report", 1)
        self.rows.write(self.folder, TABLE, "name")
        spent = time.time() - self.state["begun"]
        self.state |= {
            "state": "complete",
            "ended": timestamp(),
            **retries(executor.retried()),
            "digest": combined_digest(self.folder, result_column(self.config, "digest")),
            "seconds_here": spent,
            "wall_seconds": self.state["seconds_before"] + spent,
        }
        page = write_gallery(self.folder, self.state)
        self.folder.put("report.html", page.encode())
        self.folder.put_json(COLLECTION, self.state)
        self.folder.delete(CLAIMS)
        watch.advance("report", 1)
        watch.end("report")


def open_collection(
    config: Config, *, resume: bool, retry: bool = False, say: Callable[[str], None] = no_word
) -> CollectionRun:
    """Find the images, check the configuration, and claim the folder.

    Raises
    ------
    InputError
        Nothing was begun: a key or parameter is wrong, there are no images, or the folder holds
        something else.
    """
    identity = identity_of(config)
    items = find_items(config.input, config.output, config.mask)
    limits, folder = clusters.limits(config.cluster, say), Folder(config.output)
    state = {
        "segpipe": __version__,
        "versions": versions(),
        "state": "running",
        "identity": identity,
        "config": resolved(config),
        "machine": machine(limits.workers, limits.memory),
        "counts": {"images": len(items), DONE: 0, ASIDE: 0, "reused": 0, "remarked": 0},
        **beginning(),
    }
    check = partial(_check_same, folder, identity, resume=resume)
    state = take_over(folder, COLLECTION, state, check)
    images = Images(config, folder / IMAGES, replace(limits, workers=1), retry)
    return CollectionRun(config, folder, items, images, state, Rows(columns_of(config)))


@contextmanager
def opened(
    config: Config, *, resume: bool, retry: bool = False, say: Callable[[str], None] = no_word
) -> Iterator[tuple[CollectionRun, Executor]]:
    """Claim the folder, start or join the cluster; `say` is told what is waited for."""
    clusters.start_early(config.cluster)
    config = placed(config)
    run = open_collection(config, resume=resume, retry=retry, say=say)
    with said_when_full(config.output), clusters.open_executor(config.cluster) as executor:
        yield run, executor


def identity_of(config: Config) -> str:
    """Digest of what decides labels and tables of any image: methods, parameters, version."""
    stages = [
        [s.output, s.reads, s.method, dataclasses.asdict(build_method(s.method, s.parameters))]  # type: ignore[call-overload]
        for s in config.work
    ]
    parts = [__version__, stages, config.measure]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def resolved(config: Config) -> dict[str, Any]:
    """Return the configuration with everything filled in, as a resume needs it."""
    values = config.model_dump(mode="json", exclude_none=True, exclude={"method", "parameters"})
    values["stages"] = [
        {
            **stage.model_dump(mode="json", exclude_none=True),
            "name": stage.output,
            "parameters": dataclasses.asdict(build_method(stage.method, stage.parameters)),  # type: ignore[call-overload]
        }
        for stage in config.work
    ]
    return values


def columns_of(config: Config) -> dict[str, type]:
    """Return the columns of the table of images."""
    figures = {"segments": int, "digest": str, **dict.fromkeys(SCORES, float)}
    stages = [stage.output for stage in config.work]
    of_stages = {
        column_name(name, stage, alone=len(stages) == 1): kind
        for stage in stages
        for name, kind in figures.items()
    }
    return {**TEXTS, **NUMBERS, **of_stages}


def result_column(config: Config, name: str) -> str:
    """Return the column of a figure of the last stage: that of the result."""
    stages = [stage.output for stage in config.work]
    return column_name(name, stages[-1], alone=len(stages) == 1)


def combined_digest(folder: Folder, column: str = "digest") -> str:
    """SHA-256 over the lines ``DIGEST  NAME`` of all images that are done, sorted by name.

    The lines are those of ``sha256sum``: two spaces, a line feed behind each, UTF-8.
    """
    found = hashlib.sha256()
    for name, digest in digests(folder, column):
        found.update(f"{digest}  {name}\n".encode())
    return found.hexdigest()


def digests(folder: Folder, column: str = "digest") -> Iterator[tuple[str, str]]:
    """Yield name and digest of all images that are done, as the table has them: by name."""
    for rows in batches(folder, TABLE, ["name", "status", column]):
        for name, status, digest in zip(rows["name"], rows["status"], rows[column], strict=True):
            if status == DONE:
                yield name, digest


def _check_same(folder: Folder, identity: str, stored: Mapping[str, Any], *, resume: bool) -> None:
    if stored["identity"] != identity:
        raise InputError(
            f"the output folder {folder} holds another collection (other method, parameters or "
            f"version); choose another `output`, or delete it"
        )
    check_alone(folder, stored)
    if not resume:
        what = "complete" if stored["state"] == "complete" else "unfinished"
        raise InputError(
            f"{folder} holds this collection, {what}; `segpipe resume {folder}` does what is "
            f"missing, new or changed"
        )


def _unfinished(folder: Folder) -> dict[str, Any] | None:
    """Return the state of a run that can be gone on with."""
    try:
        stored = read_state(folder)
    except InputError:  # damaged: begun anew
        return None
    return None if stored is None or stored["state"] == "complete" else stored


def _limits(state: Mapping[str, Any]) -> Limits:
    return Limits(state["machine"]["workers"], state["machine"]["worker_memory"])
