"""Commands that work: `segpipe run | resume | plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from rich.table import Table

from segpipe.cli.shared import (
    EXIT_ASIDE,
    EXIT_INTERRUPTED,
    Changes,
    ClusterOption,
    ConfigPath,
    Debug,
    Input,
    OutputPath,
    Retry,
    RunPath,
    Workers,
    app,
    err,
    out,
    say,
    show,
    with_start,
)
from segpipe.cli.stop import stop


@app.command()
def run(
    config: ConfigPath,
    input: Input = None,
    output: OutputPath = None,
    set: Changes = None,
    cluster: ClusterOption = None,
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Segment an image, or all of a collection: read, segment tiles, stitch, measure, report."""
    from segpipe.collection.session import is_collection
    from segpipe.session import load_config

    chosen = load_config(config, set or (), input, output, cluster, workers)
    if is_collection(chosen.input):
        _work_on_collection(chosen, resume=False)
    else:
        _work(chosen, resume=False)


@app.command()
def resume(
    run: RunPath,
    cluster: ClusterOption = None,
    workers: Workers = None,
    retry: Retry = False,
    debug: Debug = False,
) -> None:
    """Go on with an interrupted run: what is finished and intact is not done again.

    A collection is looked through again: new and changed images are done, too.
    """
    from segpipe.collection import session as collection
    from segpipe.finish import tidy
    from segpipe.session import is_complete, stored_config
    from segpipe.store.folder import Folder

    if collection.is_collection_folder(run):
        chosen = collection.stored_config(run, cluster, workers)
        _work_on_collection(chosen, resume=True, retry=retry)
        return
    if retry:
        raise typer.BadParameter(
            "is for collections; a run tries again anyway", param_hint="--retry"
        )
    if is_complete(run):
        tidy(Folder(run))
        out.print(f"the run in {run} is complete: nothing to do; see {run}/report.html")
        return
    _work(stored_config(run, cluster, workers), resume=True)


@app.command()
def plan(
    config: ConfigPath,
    input: Input = None,
    output: OutputPath = None,
    set: Changes = None,
    cluster: ClusterOption = None,
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Show what a run would do: tiles, passes, bytes, memory, time. Nothing is written."""
    from segpipe.calibration import calibrated
    from segpipe.collection.session import is_collection, sampled
    from segpipe.session import load_config, prepare

    chosen = load_config(config, set or (), input, output, cluster, workers)
    if is_collection(chosen.input):
        _show_sample(sampled(chosen), chosen)
        return
    found = prepare(chosen)
    _show_plan(found, calibrated(found))


def _work(config: Any, *, resume: bool) -> None:
    """Do a run and print what it ended with."""
    from segpipe.session import execute
    from segpipe.state import read_state
    from segpipe.store.folder import Folder

    kept = f"finished tiles are kept: segpipe resume {config.output}"
    try:
        with stop.keeping(kept):
            result = execute(config, watch=_progress(), resume=resume, started=say)
        show(with_start(result))
    except KeyboardInterrupt:
        state = read_state(Folder(config.output))
        if state is not None and state["state"] == "complete":
            out.print(f"the run in {config.output} was complete before the signal", markup=False)
            return
        err.print(f"segpipe: interrupted; {kept}", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _work_on_collection(config: Any, *, resume: bool, retry: bool = False) -> None:
    """Do a collection, print what it ended with, and say by the exit code if all is done."""
    from segpipe.collection.session import execute, summary

    kept = f"finished images are kept: segpipe resume {config.output}"
    try:
        with stop.keeping(kept):
            done = execute(config, _progress(), resume=resume, retry=retry, started=say)
    except KeyboardInterrupt:
        err.print(f"segpipe: interrupted; {kept}", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    show(with_start(summary(config.output, done.state)))
    if done.state["counts"]["set aside"]:
        raise typer.Exit(EXIT_ASIDE)


def _progress() -> Any:
    from segpipe.progress import TerminalProgress

    return TerminalProgress(err)


def _show_plan(found: Any, slower: float) -> None:
    from segpipe.plan import START_SECONDS
    from segpipe.store.space import amount, free_bytes

    grid, image = found.grid, found.image
    out.print(
        f"image    {image.shape[0]} x {image.shape[1]} x {image.channels} {image.dtype}"
        f"{', masked' if image.masked else ''}\n"
        f"tiles    {len(grid)} of {grid.size[0]} x {grid.size[1]}\n"
        f"workers  {found.limits.workers} with {amount(found.limits.memory)} each"
    )
    if (room := free_bytes(found.config.output)) is not None:
        out.print(
            f"disk     up to {amount(found.written_bytes)} to write, {amount(room)} free",
            markup=False,
        )
    times = Times([row.seconds * slower for row in found.rows()] + [START_SECONDS * slower])
    table = Table(box=None, pad_edge=False)
    for name in ("pass", "tiles", "halo", "pixels read", "read", "written", "memory", "time"):
        table.add_column(name, justify="left" if name == "pass" else "right")
    for row, seconds in zip(found.rows(), times.shown, strict=False):
        table.add_row(
            f"{row.stage}-{row.name}",
            str(row.tiles),
            f"{row.halo} px",
            f"{row.overhead:.2f} x",
            amount(row.read_bytes),
            amount(row.written_bytes),
            amount(row.peak_bytes),
            seconds,
        )
    table.add_row("start, report", *[""] * 6, times.shown[-1])
    out.print(table)
    out.print(
        f"about {times.total} on this machine's cores, at most "
        f"{amount(found.peak_bytes)} per worker"
    )
    for line in found.advice:
        out.print(f"note: {line}")


def _show_sample(found: Any, config: Any) -> None:
    from segpipe.calibration import calibrated
    from segpipe.cluster import limits
    from segpipe.store.space import amount

    workers = limits(config.cluster)
    lines = {"images": f"{len(found.items)}, {found.seen} of them looked at"}
    if found.plans:
        megapixels = sum(p.image.shape[0] * p.image.shape[1] for p in found.plans) / 1e6
        peak = max(plan.peak_bytes for plan in found.plans)
        lines["each"] = (
            f"{megapixels / len(found.plans):.2g} Mpx in one piece, at most {amount(peak)}"
        )
    lines["in tiles"] = f"{found.large} of those looked at, one after the other"
    lines["workers"] = f"{workers.workers} with {amount(workers.memory)} each"
    if found.plans:
        seconds = found.seconds * calibrated(found.plans[0]) * len(found.items) / workers.workers
        lines["time"] = f"about {seconds:.0f} s on this machine's cores"
    lines["unusable"] = f"{len(found.refused)} of those looked at would be set aside"
    show(lines | {f"  {name}": reason for name, reason in found.refused[:5]})


class Times:
    """Times of the parts of something, written so that they add up to what is said of the whole."""

    def __init__(self, seconds: Sequence[float]) -> None:
        digits = 1 if sum(seconds) < 100 else 0
        rounded = [round(second, digits) for second in seconds]
        self.shown = [f"{second:.{digits}f} s" for second in rounded]
        self.total = f"{sum(rounded):.{digits}f} s"
