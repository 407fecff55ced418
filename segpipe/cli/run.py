"""Commands that work: `segpipe run | resume | plan`."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from segpipe.cli.shared import (
    EXIT_INTERRUPTED,
    Changes,
    ClusterOption,
    ConfigPath,
    Debug,
    Input,
    OutputPath,
    RunPath,
    Workers,
    app,
    err,
    out,
    show,
)


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
    """Segment an image: read it, segment all tiles, stitch, measure, report."""
    from segpipe.session import load_config

    _work(load_config(config, set or (), input, output, cluster, workers), resume=False)


@app.command()
def resume(
    run: RunPath,
    cluster: ClusterOption = None,
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Go on with an interrupted run: what is finished and intact is not done again."""
    from segpipe.session import stored_config

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
    from segpipe.session import load_config, prepare

    found = prepare(load_config(config, set or (), input, output, cluster, workers))
    _show_plan(found, calibrated(found))


def _work(config: Any, *, resume: bool) -> None:
    """Do a run and print what it ended with."""
    from segpipe.provenance import read_state
    from segpipe.session import execute
    from segpipe.store.folder import Folder

    try:
        show(execute(config, watch=_progress(), resume=resume, started=_say))
    except KeyboardInterrupt:
        state = read_state(Folder(config.output))
        if state is not None and state["state"] == "complete":
            out.print(f"the run in {config.output} was complete before the signal", markup=False)
            return
        err.print(
            f"segpipe: interrupted; finished tiles are kept: segpipe resume {config.output}",
            markup=False,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _say(text: str) -> None:
    out.print(text, markup=False)


def _progress() -> Any:
    from segpipe.progress import TerminalProgress

    return TerminalProgress(err)


def _show_plan(found: Any, slower: float) -> None:
    grid, image = found.grid, found.image
    out.print(
        f"image    {image.shape[0]} x {image.shape[1]} x {image.channels} {image.dtype}"
        f"{', masked' if image.masked else ''}\n"
        f"tiles    {len(grid)} of {grid.size[0]} x {grid.size[1]}\n"
        f"workers  {found.limits.workers} with {found.limits.memory / 1e9:.1f} GB each"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("pass", "tiles", "halo", "pixels read", "read", "written", "memory", "time"):
        table.add_column(name, justify="left" if name == "pass" else "right")
    for row in found.rows():
        table.add_row(
            f"{row.stage}-{row.name}",
            str(row.tiles),
            f"{row.halo} px",
            f"{row.overhead:.2f} x",
            _bytes(row.read_bytes),
            _bytes(row.written_bytes),
            _bytes(row.peak_bytes),
            f"{row.seconds * slower:.0f} s",
        )
    out.print(table)
    out.print(
        f"about {found.seconds * slower:.0f} s on this machine's cores, at most "
        f"{_bytes(found.peak_bytes)} per worker"
    )
    for line in found.advice:
        out.print(f"note: {line}")


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if n >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError
