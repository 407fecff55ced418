"""Who may work in a run folder, and what ``run.json`` says when a run begins."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import psutil

import segpipe
from segpipe.difference import difference, files_of
from segpipe.errors import InputError
from segpipe.state import COLLECTION, RUN, read_state

CLAIMS = "claims"
"""Who began and resumed an unfinished run: one object each, which only one process can create."""
LIBRARIES = ("numpy", "numba", "zarr", "dask", "tifffile", "imagecodecs", "pyvips")
"""Libraries whose versions are written down."""

if TYPE_CHECKING:
    from segpipe.passes import Pass
    from segpipe.plan import Plan
    from segpipe.store.folder import Folder


def claim(folder: Folder, plan: Plan, *, resume: bool) -> dict[str, Any]:
    """Make a run folder ours and return its state.

    Raises
    ------
    InputError
        The folder holds something else, a finished run, or (without `resume`) an unfinished one.
    """

    def check(stored: dict[str, Any]) -> None:
        _check_same(folder, stored, plan, resume=resume)

    return take_over(folder, RUN, new_state(plan), check)


def take_over(
    folder: Folder,
    document: str,
    state: dict[str, Any],
    check: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Make an output folder ours and return its state: `state`, or the one it goes on with.

    Parameters
    ----------
    folder, document
        Where to, and the name of what says how far it is.
    state
        What it says in the beginning.
    check
        Refuses a state that is there already, if it cannot be gone on with.
    """
    stored = read_state(folder, document)
    if stored is not None:
        check(stored)
    elif _is_taken(folder):
        raise InputError(
            f"the output folder {folder} holds {_held(folder)}; choose another `output`"
        )
    folder.check_writable()
    _take(folder, stored["resumed"] + 1 if stored else 0, state["process"])
    if stored is not None:
        state["started"] = stored["started"]
        state["resumed"] = stored["resumed"] + 1
        state["seconds_before"] = stored["seconds_before"] + stored["seconds_here"]
    folder.put_json(document, state)
    return state


def _held(folder: Folder) -> str:
    """Say what else an output folder holds."""
    if folder.get(RUN) is not None:
        return "the run of a single image"
    if folder.get(COLLECTION) is not None:
        return "a collection of runs"
    return "files that are no segpipe run"


def _is_taken(folder: Folder) -> bool:
    """Whether there is more here than claims: all that one leaves who could not begin."""
    here = folder.local
    if here is not None:
        return here.is_dir() and any(p.name != CLAIMS for p in here.iterdir())
    pages = folder.objects().list()
    return any(not entry["path"].startswith(f"{CLAIMS}/") for page in pages for entry in page)


def task_key(plan: Plan, name: str, passes: Iterable[Pass], *more: int) -> str:
    """Digest of all that decides a task's output besides its number."""
    parts: list[Any] = [plan.identity, plan.grid.size, name, [p.name for p in passes], more]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def timestamp() -> str:
    """Now, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _check_same(folder: Folder, stored: dict[str, Any], plan: Plan, *, resume: bool) -> None:
    if stored["identity"] != plan.identity or stored["tile"] != list(plan.grid.size):
        found = "\n  ".join(difference(stored, plan, _resolved(plan)))
        raise InputError(
            f"the output folder {folder} holds another run:\n  {found}\n"
            f"choose another `output`, or delete it"
        )
    if stored["state"] == "complete":
        raise InputError(
            f"the run in {folder} is complete; look at {folder}/report.html, or choose another "
            f"`output`"
        )
    check_alone(folder, stored)
    if not resume:
        raise InputError(
            f"{folder} holds this run, unfinished; go on with `segpipe resume {folder}`"
        )


def check_alone(folder: Folder, stored: Mapping[str, Any]) -> None:
    """Refuse a folder that another process works on."""
    process = stored["process"]
    if _alive(process):
        raise InputError(
            f"process {process['pid']} is working on {folder} at this moment; wait for it, or "
            f"stop it"
        )


def _take(folder: Folder, number: int, process: Mapping[str, Any]) -> None:
    """Be the one who begins (0) or resumes (1, 2, …) a run: of two at the same time, one wins."""
    for attempt in itertools.count():
        name = f"{CLAIMS}/{number}-{attempt}.json"
        if folder.create(name, json.dumps(process).encode()):
            return
        holder = folder.get_json(name)
        if holder and _alive(holder):
            raise InputError(
                f"process {holder['pid']} is working on {folder} at this moment; wait for it, or "
                f"stop it"
            )


def _alive(process: Mapping[str, Any]) -> bool:
    """Whether the process that began a run still exists (can be told on its own machine only)."""
    if process["host"] != socket.gethostname() or process["pid"] == os.getpid():
        return False
    try:
        found = psutil.Process(process["pid"])
        # numbers of processes come again, soon and always the same ones in a container
        same = abs(found.create_time() - process["since"]) < 1.0
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def new_state(plan: Plan) -> dict[str, Any]:
    """Return what ``run.json`` says when a run begins."""
    return {
        "segpipe": segpipe.__version__,
        "versions": versions(),
        "state": "running",
        "identity": plan.identity,
        "config": _resolved(plan),
        "source": dataclasses.asdict(plan.source),
        "files": files_of(plan),
        "tile": list(plan.grid.size),
        "exactness": {stage.name: stage.method.exactness for stage in plan.stages},
        "machine": machine(plan.limits.workers, plan.limits.memory),
        **beginning(),
        "labels": {},
        "steps": {},
    }


def _resolved(plan: Plan) -> dict[str, Any]:
    """Return the configuration with everything filled in, as a resume needs it."""
    values = plan.config.model_dump(mode="json", exclude_none=True)
    values.pop("method", None)
    values.pop("parameters", None)
    values["stages"] = [
        {
            "method": stage.method.name,
            "name": stage.name,
            "reads": stage.reads,
            "parameters": dataclasses.asdict(stage.method),  # type: ignore[call-overload]
        }
        for stage in plan.stages
    ]
    return values | {"tiles": {"size": list(plan.grid.size)}}


@cache
def versions() -> dict[str, str]:
    """Versions of the libraries that results may depend on."""
    return {name: metadata.version(name) for name in LIBRARIES}


def beginning() -> dict[str, Any]:
    """Return who begins something, and when."""
    return {
        "process": process(),
        "started": timestamp(),
        "begun": time.time(),
        "seconds_before": 0.0,
        "seconds_here": 0.0,
        "resumed": 0,
    }


def process() -> dict[str, Any]:
    """Return what tells this process from all others, now and later."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": psutil.Process().create_time(),
    }


def machine(workers: int, memory: int) -> dict[str, Any]:
    """Describe this machine and the workers."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "workers": workers,
        "worker_memory": memory,
    }


@cache
def _processor() -> str:
    """Name of the processor; Linux keeps it in a file, elsewhere `platform` knows."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names: Sequence[str] = [line for line in lines if line.startswith("model name")]
            return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
