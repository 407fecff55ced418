"""The command line: `segpipe run | plan | resume | methods | digest | verify | view`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import segpipe
from segpipe.errors import InputError, SegpipeError

EXIT_INPUT, EXIT_FAILED, EXIT_INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="segpipe",
    help="Exact image segmentation at any size: labels whose tiles do not show.",
    epilog="Exit codes: 0 done, 1 the run failed (resume it), 2 something given cannot be used, "
    "130 interrupted (resume it).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigPath = Annotated[Path, typer.Argument(help="The YAML of the run.", show_default=False)]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run (or its URL).")]
Input = Annotated[str | None, typer.Option(help="Image to segment, instead of the YAML's.")]
OutputPath = Annotated[str | None, typer.Option(help="Folder of the run, instead of the YAML's.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key, e.g. tiles.size=512."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", help="A cluster YAML (configs/cluster/…) or a scheduler address."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes on this machine.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def main() -> None:
    """Run the command line; errors that a user can act on end without a traceback."""
    debug = "--debug" in sys.argv
    try:
        app()
    except SegpipeError as error:
        if debug:
            raise
        err.print(f"segpipe: {error}", style="red", markup=False)
        sys.exit(EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED)
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # what typer makes of KeyboardInterrupt
            err.print("segpipe: interrupted; finished tiles are kept, go on with `segpipe resume`")
        raise


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(segpipe.__version__)
        raise typer.Exit


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
    from segpipe.session import execute, load_config

    chosen = load_config(config, set or (), input, output, cluster, workers)
    show(execute(chosen, watch=_progress(), resume=False, started=_say))


@app.command()
def resume(
    run: RunPath,
    cluster: ClusterOption = None,
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Go on with an interrupted run: what is finished and intact is not done again."""
    from segpipe.session import execute, stored_config

    chosen = stored_config(run, cluster, workers)
    show(execute(chosen, watch=_progress(), resume=True, started=_say))


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
    from segpipe.plan import calibrated
    from segpipe.session import load_config, prepare

    found = prepare(load_config(config, set or (), input, output, cluster, workers))
    _show_plan(found, calibrated(found))


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Explain this method.")] = None,
    debug: Debug = False,
) -> None:
    """List the methods, or explain one and its parameters."""
    from segpipe.methods import everything, find, parameters

    if name:
        method = find(name)
        out.print(f"{name} ({method.exactness}): {method.__doc__}\n", markup=False)
        table = Table("parameter", "default", "meaning", box=None, pad_edge=False)
        for field, _kind, default, meaning in parameters(method):
            table.add_row(field, default, " ".join(meaning.split()))
        out.print(table)
        return
    table = Table("method", "tiles", "what it does", box=None, pad_edge=False)
    for key, method in everything().items():
        table.add_row(key, method.exactness, (method.__doc__ or "").strip().splitlines()[0])
    out.print(table)


@app.command()
def digest(
    run: RunPath,
    stage: Annotated[str | None, typer.Option(help="Label image, when there are several.")] = None,
    debug: Debug = False,
) -> None:
    """Print the SHA-256 of a run's labels: equal labels, equal digest, whatever the tiles were."""
    from segpipe.session import digest_of

    print(digest_of(run, stage))


@app.command()
def verify(run: RunPath, debug: Debug = False) -> None:
    """Read a run's labels, image and records again and compare them with their checksums."""
    from segpipe.session import verify_run

    bad = verify_run(run)
    for line in bad:
        err.print(line, style="red", markup=False)
    if bad:
        err.print("segpipe: the result is damaged; delete the folder and run again", style="red")
        sys.exit(EXIT_FAILED)
    out.print("all arrays, tables and digests are as they were written")


@app.command()
def view(
    run: RunPath,
    port: Annotated[int, typer.Option(help="Port; 0 = any free one.")] = 0,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    debug: Debug = False,
) -> None:
    """Look at image and labels in the browser (neuroglancer, offline, this machine only)."""
    from segpipe.view import serve

    serve(run, port=port, bind=bind, say=lambda text: out.print(text, markup=False))


def _say(text: str) -> None:
    out.print(text, markup=False)


def _progress() -> Any:
    from segpipe.progress import TerminalProgress

    return TerminalProgress(err)


def show(result: dict[str, str]) -> None:
    """Print what a run ended with, one thing a line."""
    width = max(len(key) for key in result)
    for key, value in result.items():
        out.print(f"{key:<{width}}  {value}", markup=False)


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


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if n >= 10 or unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError
