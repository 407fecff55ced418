"""From a configuration to a finished collection: what the command line and the flow share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from segpipe import cluster as clusters
from segpipe import session
from segpipe.collection.listing import Item, find_items, is_collection
from segpipe.collection.run import (
    IMAGES,
    TABLE,
    CollectionRun,
    combined_digest,
    digests,
    identity_of,
    opened,
    result_column,
)
from segpipe.collection.work import ASIDE, DONE, Images, explained
from segpipe.config import Config
from segpipe.engine import Watch, bounded
from segpipe.errors import InputError, RunError, SegpipeError
from segpipe.plan import Plan
from segpipe.report.gallery import reason
from segpipe.state import COLLECTION, read_state
from segpipe.store import column_name
from segpipe.store.columns import batches
from segpipe.store.folder import Folder

__all__ = [
    "aside",
    "check",
    "digest_of",
    "execute",
    "is_collection",
    "is_collection_folder",
    "opened",
    "sampled",
    "stored_config",
    "summary",
    "verify_collection",
]

SAMPLE = 100
"""Images whose headers a plan reads."""
TOLD = 5
"""Images set aside, or with a remark, that are named in the end; table and report name all."""
CHECKED = 32
"""Images read again per task."""
Check = Callable[[str, str], list[str]]
"""(run folder, digest in the table of images) -> what is wrong."""


def execute(
    config: Config,
    watch: Watch,
    *,
    resume: bool,
    retry: bool = False,
    started: Callable[[str], None] = session.no_word,
) -> CollectionRun:
    """Do a whole collection."""
    with opened(config, resume=resume, retry=retry, say=started) as (run, executor):
        if executor.dashboard:
            started(f"dashboard  {session.pages(executor.dashboard)}")
        with watch:  # type: ignore[attr-defined]
            for step in run.steps():
                step.run(executor, watch)
    return run


def check(config: Config) -> None:
    """Refuse what cannot work: a wrong parameter, no image. Nothing is written."""
    identity_of(config)
    find_items(config.input, config.output, config.mask)


def summary(folder: str, state: dict[str, Any]) -> dict[str, str]:
    """Where everything is, and what was set aside."""
    counts, seconds = state["counts"], state["wall_seconds"]
    done = f"{counts[DONE]} of {counts['images']} done"
    if counts["reused"] and state["resumed"]:
        done += f", {counts['reused']} found as they were"
    lines = {"images": done}
    for title, count, given, rows in (
        ("set aside", counts[ASIDE], "for reasons that table and report give", aside),
        ("remarks", counts["remarked"], "which table (`remark`) and report give", remarks),
    ):
        if count:
            some = f"; the first {TOLD}" if count > TOLD else ""
            lines[title] = f"{count}, {given}{some}:"
            lines |= {f"  {name}": text for name, text in rows(folder, TOLD)}
    lines |= {
        "labels": f"{folder}/{IMAGES}/NAME/image.ome.zarr",
        "table": f"{folder}/{TABLE}",
        "report": f"{folder}/report.html",
        "digest": state["digest"],
    }
    if retried := state.get("retried"):
        lines["retried"] = f"{retried} times a task was given out again; {COLLECTION} says why"
    fresh = counts["images"] - counts["reused"]
    speed = f", {fresh / state['seconds_here']:.1f} images/s" if fresh else ""
    lines["time"] = f"{seconds:.1f} s{speed}"
    return lines


def aside(folder: str, most: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield name and reason of images that were set aside."""
    rows = _table(folder, "name", "path", "status", "error")
    found = ((name, reason(path, error)) for name, path, status, error in rows if status == ASIDE)
    return islice(found, most)


def remarks(folder: str, most: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield name and remark of images of which there is something to know."""
    return islice((row for row in _table(folder, "name", "remark") if row[1]), most)


def _table(folder: str, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows of the table of images."""
    for rows in batches(Folder(folder), TABLE, columns):
        yield from zip(*(rows[name] for name in columns), strict=True)


def is_collection_folder(folder: str) -> bool:
    """Whether an output folder is that of a collection."""
    return Folder(folder).get(COLLECTION) is not None


def stored_config(folder: str, cluster: str | None = None, workers: int | None = None) -> Config:
    """Return the resolved configuration of a collection's folder."""
    return session.gone_on_with(_state(folder)["config"], folder, cluster, workers)


@dataclass(frozen=True)
class Sample:
    """What the headers of some images tell of all."""

    items: tuple[Item, ...]
    seen: int
    plans: tuple[Plan, ...]
    """Of those that can be done in one piece."""
    large: int
    refused: tuple[tuple[str, str], ...]
    """Name and reason."""

    @property
    def seconds(self) -> float:
        """Rough time of one worker per image, as the passes state their costs."""
        rows = [row.seconds for plan in self.plans for row in plan.rows()]
        return sum(rows) / max(1, len(self.plans))


def sampled(config: Config) -> Sample:
    """Open some images, evenly over the names, and decide what would be done to them."""
    identity_of(config)  # a wrong parameter is an error before any image is looked for
    items = find_items(config.input, config.output, config.mask)
    limits = replace(clusters.limits(config.cluster), workers=1)
    images = Images(config, Folder(config.output) / IMAGES, limits)
    chosen = items[:: max(1, len(items) // SAMPLE)][:SAMPLE]
    plans, refused = [], []
    for item in chosen:
        try:
            plans.append(images.plan(item))
        except InputError as error:
            refused.append((item.name, explained(error)))
    whole = tuple(plan for plan in plans if plan is not None)
    return Sample(items, len(chosen), whole, len(plans) - len(whole), tuple(refused))


def digest_of(folder: str, stage: str | None = None) -> str:
    """Compute the digest of a finished collection from the pixels of all images.

    Raises
    ------
    RunError
        Labels of an image are not those that its run wrote.
    """
    wanted = _column(_complete(folder), stage)
    bad = list(_over_images(folder, partial(_wrong_digest, stage), wanted))
    if bad:
        raise RunError("\n".join(bad))
    return combined_digest(Folder(folder), wanted)


def verify_collection(folder: str) -> list[str]:
    """Read everything of all images again; return a line for each thing that is not as written."""
    state = _complete(folder)
    wanted = result_column(stored_config(folder), "digest")
    bad = list(_over_images(folder, _wrong, wanted))
    if combined_digest(Folder(folder), wanted) != state["digest"]:
        bad.append(f"{TABLE}: its digests are not those of {COLLECTION}")
    return bad


def _column(state: dict[str, Any], stage: str | None) -> str:
    names = [stage["name"] for stage in state["config"]["stages"]]
    if stage is not None and stage not in names:
        raise InputError(f"the runs have no label image `{stage}`; they have {', '.join(names)}")
    return column_name("digest", stage or names[-1], alone=len(names) == 1)


def _over_images(folder: str, check: Check, wanted: str) -> Iterator[str]:
    """Check all finished images with the workers of the configuration; yield what is wrong."""
    config, named = stored_config(folder), digests(Folder(folder), wanted)
    todo = iter(lambda: list(islice(named, CHECKED)), [])
    cluster = config.cluster
    if _state(folder)["counts"][DONE] <= CHECKED:
        cluster = cluster.model_copy(update={"workers": "none", "address": None})
    with clusters.open_executor(cluster) as executor:

        def submit() -> tuple[Any, None] | None:
            images = next(todo, None)
            if images is None:
                return None
            return executor.submit(_checked, check, folder, images, name="verify"), None

        for future, _ in bounded(executor, submit):
            yield from future.result()


def _checked(check: Check, folder: str, images: list[tuple[str, str]]) -> list[str]:
    """Check some images (what one Dask task does)."""
    found = []
    for name, digest in images:
        try:
            wrong = check(f"{folder}/{IMAGES}/{name}", digest)
        except SegpipeError as error:
            wrong = [str(error)]
        found += [f"{name}: {line}" for line in wrong]
    return found


def _wrong(run: str, digest: str) -> list[str]:
    """Return what of a run is not as it was written, or not as the table says."""
    said = session.labels_of(run).values()
    other = [] if digest in [one["digest"] for one in said] else [f"{TABLE} has another digest"]
    return other + session.verify_run(run)


def _wrong_digest(stage: str | None, run: str, digest: str) -> list[str]:
    found = session.digest_of(run, stage)
    return [] if found == digest else [f"{TABLE} has another digest than the labels: {found}"]


def _state(folder: str) -> dict[str, Any]:
    state = read_state(Folder(folder), COLLECTION)
    if state is None:
        raise InputError(f"there is no collection in {folder} (no {COLLECTION})")
    return state


def _complete(folder: str) -> dict[str, Any]:
    state = _state(folder)
    if state["state"] != "complete":
        raise InputError(
            f"the collection in {folder} is not complete; go on with `segpipe resume {folder}`"
        )
    return state
