"""From a configuration to a finished run: what the command line and the Prefect flows share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segpipe import cluster as clusters
from segpipe.config import Config, Tiles, load, load_cluster, parse, placed
from segpipe.engine import Executor, Watch
from segpipe.errors import InputError, RunError
from segpipe.kernels import are_compiled
from segpipe.plan import Limits, Plan, make_plan
from segpipe.readers import open_mask, open_source
from segpipe.report.words import plain
from segpipe.run import Run, open_run
from segpipe.state import chosen_stage, complete_state, no_run, read_state
from segpipe.store import IMAGE, table_name
from segpipe.store.digest import label_digest
from segpipe.store.folder import Folder
from segpipe.store.space import amount, free_bytes, said_when_full
from segpipe.verify import verify


def load_config(
    path: str | Path,
    changes: Sequence[str] = (),
    input: str | None = None,
    output: str | None = None,
    cluster: str | None = None,
    workers: int | None = None,
) -> Config:
    """Read a configuration and apply what was given beside it."""
    overrides = {"input": input, "output": output, **_cluster_overrides(cluster, workers)}
    return load(path, changes, overrides)


def stored_config(run: str, cluster: str | None = None, workers: int | None = None) -> Config:
    """Return the resolved configuration of a run folder.

    Raises
    ------
    InputError
        There is no run in that folder.
    """
    return gone_on_with(_state(run)["config"], run, cluster, workers)


def gone_on_with(
    stored: Mapping[str, Any], output: str, cluster: str | None, workers: int | None
) -> Config:
    """Return a resolved configuration with what was named now instead of where it was begun."""
    values = {**stored, "output": output}
    # a run may go on elsewhere: what is named now replaces where it was begun
    place = {} if cluster is not None else dict(values.get("cluster", {}))
    if workers is not None and cluster is None:
        place = {k: v for k, v in place.items() if k not in ("address", "tls")}
    for key, value in _cluster_overrides(cluster, workers).items():
        place[key.removeprefix("cluster.")] = value
    values["cluster"] = place
    return parse(values, f"what is stored in {output}")


def prepare(
    config: Config, limits: Limits | None = None, say: Callable[[str], None] | None = None
) -> Plan:
    """Open the source and decide everything; nothing is written.

    `limits` is what workers have, if it is known already; `say` is told when workers of a cluster
    are waited for, which without it have to be there.
    """
    if not isinstance(config.input, str):
        raise InputError("the input is a collection of images, this works on one; name one")
    source = open_source(config.input, max_pixels=config.max_pixels)
    try:
        info = source.info
    finally:
        source.close()
    fingerprint = None
    if config.mask is not None:
        mask = open_mask(config.mask, info)  # an unusable mask is an error now, not in the night
        fingerprint = mask.fingerprint
        mask.close()
    return make_plan(config, info, limits or clusters.limits(config.cluster, say), fingerprint)


def as_begun(config: Config) -> Config:
    """Keep the tiles of an unfinished run, which `auto` may choose otherwise on other workers."""
    stored = read_state(Folder(config.output))
    if stored is None or config.tiles.size != "auto":
        return config
    return config.model_copy(update={"tiles": Tiles(size=tuple(stored["tile"]))})


def no_word(_text: str) -> None:
    """Say nothing."""


@contextmanager
def opened(
    config: Config, *, resume: bool, say: Callable[[str], None] = no_word
) -> Iterator[tuple[Run, Executor]]:
    """Plan, claim the run folder, start or join the cluster; `say` is told what is waited for."""
    clusters.start_early(config.cluster)
    config = placed(config)
    plan = prepare(config, say=say)
    run = open_run(plan, resume=resume)
    with said_when_full(config.output), clusters.open_executor(config.cluster) as executor:
        try:
            yield run, executor
        except InputError as error:
            raise InputError(f"{error}\n{_way_back(config.output)}") from error


def _way_back(output: str) -> str:
    """Say how to go on after an input that turned out to be unusable on the way."""
    return (
        f"When the file is mended, it is another one, and {output} holds tiles of the damaged one: "
        f"delete {output} (or give another --output) and run again. If it was all right and could "
        f"not be reached, go on with `segpipe resume {output}`."
    )


def execute(
    config: Config,
    watch: Watch,
    *,
    resume: bool,
    started: Callable[[str], None] = no_word,
) -> dict[str, str]:
    """Do a whole run; return what to tell the user in the end."""
    with opened(config, resume=resume, say=started) as (run, executor):
        if executor.dashboard:
            started(f"dashboard  {pages(executor.dashboard)}")
        for line in notes(run.plan):
            started(f"note       {line}")
        with watch:  # type: ignore[attr-defined]
            for step in run.steps():
                step.run(executor, watch)
    return summary(run, executor.dashboard)


def notes(plan: Plan) -> list[str]:
    """Return what is to be known before a run begins: advice, a small disk, kernels to compile."""
    return [*plan.advice, *_of_room(plan), *_to_compile(plan)]


def summary(run: Run, dashboard: str | None) -> dict[str, str]:
    """Where everything is."""
    folder, state = run.folder, run.state
    pixels = run.plan.image.shape[0] * run.plan.image.shape[1]
    lines: dict[str, str] = {}
    for name, found in state["labels"].items():
        prefix = "" if len(state["labels"]) == 1 else f"{name} "
        lines[f"{prefix}segments"] = str(found["segments"])
        (method,) = [s.method for s in run.plan.stages if s.name == name]
        for told in getattr(method, "tells", ()):
            if told in state["found"][name]:
                lines[f"{prefix}{told}"] = plain(state["found"][name][told])
        if remark := state["remarks"].get(name):
            lines[f"{prefix}note"] = remark
        lines[f"{prefix}labels"] = f"{folder}/{IMAGE}/labels/{name}"
        lines[f"{prefix}digest"] = found["digest"]
        table = table_name("segments", name, alone=len(state["labels"]) == 1)
        lines[f"{prefix}table"] = f"{folder}/{table}"
    for layer in run.layers.values():
        if layer.array not in ("image", "labels"):
            lines[layer.name] = f"{folder}/{IMAGE}/{layer.prefix.rstrip('/')}"
    if note := state.get("notes", {}).get("image"):
        lines["note"] = note
    if run.plan.config.report.page:
        lines["report"] = f"{folder}/report.html"
    steps = state["steps"].values()
    if reused := sum(step["reused"] for step in steps):
        lines["reused"] = f"{reused} of {sum(step['tasks'] for step in steps)} tasks"
    if retried := sum(step.get("retried", 0) for step in steps):
        since = " since the last resume" if state["resumed"] else ""
        lines["retried"] = f"{retried} times a task was given out again{since}; run.json says why"
    lines["time"] = _times(state, pixels)
    if dashboard:
        lines["dashboard"] = f"{dashboard} (while a run is on)"
    lines["look"] = f"segpipe view {folder}"
    return lines


def pages(dashboard: str) -> str:
    """Say where progress is seen, of everything and of each pass.

    >>> pages("http://127.0.0.1:8787/status")
    'http://127.0.0.1:8787/status (how far each pass is: http://127.0.0.1:8787/individual-progress)'
    """
    home = dashboard.removesuffix("/status")
    return f"{dashboard} (how far each pass is: {home}/individual-progress)"


def _of_room(plan: Plan) -> list[str]:
    """Say when the disk may be too small."""
    free = free_bytes(plan.config.output)
    if free is None or plan.written_bytes <= free:
        return []
    return [
        f"the run writes up to {amount(plan.written_bytes)} (labels are compressed, so it may be "
        f"less), but {amount(free)} are free where {plan.config.output} lies"
    ]


def _to_compile(plan: Plan) -> list[str]:
    """Say for which methods kernels will be compiled: nothing moves meanwhile."""
    names = [s.method.name for s in plan.stages if not are_compiled(type(s.method))]
    return [f"the first run of {name} compiles its kernels: up to a minute" for name in names]


def _times(state: dict[str, Any], pixels: int) -> str:
    """Say how long a run took, and how much of it went into compiling kernels."""
    seconds, compiled = state["wall_seconds"], state.get("compile_seconds", 0.0)
    if compiled < 1:
        return f"{seconds:.1f} s, {_speed(pixels / seconds)}"
    return f"{seconds:.1f} s, about {compiled:.0f} s of it compiling kernels (the first time only)"


def _speed(pixels: float) -> str:
    """Write pixels per second in a unit that leaves digits.

    >>> _speed(38_420_000), _speed(48_000.0), _speed(512)
    ('38.4 Mpx/s', '48.0 kpx/s', '512 px/s')
    """
    if pixels < 1000:
        return f"{pixels:.0f} px/s"
    return f"{pixels / 1e3:.1f} kpx/s" if pixels < 1e6 else f"{pixels / 1e6:.1f} Mpx/s"


def digest_of(run: str, stage: str | None = None) -> str:
    """Compute the digest of a finished run's labels from the pixels."""
    state = complete_state(run, Folder(run))
    labels = state["labels"] | state.get("maps", {})
    name = stage if stage is not None and stage in labels else chosen_stage(state, stage)
    found = label_digest(Folder(run) / IMAGE, f"labels/{name}/0")
    if found != labels[name]["digest"]:
        raise RunError(
            f"the labels in {run} are not those that the run wrote (their digest is {found}); "
            f"`segpipe verify {run}` says where; delete the folder and run again"
        )
    return found


def labels_of(run: str) -> dict[str, Any]:
    """Return what a finished run says of its label images, by stage."""
    return dict(complete_state(run, Folder(run))["labels"])


def is_complete(run: str) -> bool:
    """Whether there is nothing left to do in a run folder."""
    return bool(_state(run)["state"] == "complete")


def verify_run(run: str) -> list[str]:
    """Read everything again; return a line for each thing that is not as it was written."""
    return verify(Folder(run), complete_state(run, Folder(run)))


def _state(run: str) -> dict[str, Any]:
    state = read_state(Folder(run))
    if state is None:
        raise no_run(run, Folder(run))
    return state


def _cluster_overrides(cluster: str | None, workers: int | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if cluster is not None:
        if Path(cluster).suffix in (".yaml", ".yml"):
            values = {f"cluster.{key}": value for key, value in load_cluster(cluster).items()}
        elif "://" in cluster:
            values["cluster.address"] = cluster
        else:
            raise InputError(
                f"--cluster {cluster}: give a YAML file or an address such as tcp://host:8786"
            )
    if workers is not None:
        values["cluster.workers"] = workers
    return values
