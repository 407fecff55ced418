"""What all commands share: the application, its options, and where it prints."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

import segpipe
from segpipe.errors import SegpipeError

EXIT_FAILED, EXIT_ASIDE, EXIT_INTERRUPTED = 1, 3, 130

app = typer.Typer(
    name="segpipe",
    help="Exact image segmentation at any size: labels whose tiles do not show.",
    epilog="Exit codes: 0 done, 1 the run failed (resume it), 2 something given cannot be used "
    "or the disk is full, "
    "3 some images of a collection were set aside, 130 interrupted (resume it).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigPath = Annotated[Path, typer.Argument(help="The YAML of the run.", show_default=False)]
RecipePath = Annotated[Path, typer.Argument(help="The YAML of the training.", show_default=False)]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run (or its URL).")]
Input = Annotated[
    str | None,
    typer.Option(help="Image, folder, pattern or manifest of images, instead of the YAML's."),
]
OutputPath = Annotated[str | None, typer.Option(help="Folder of the run, instead of the YAML's.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key of the YAML."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", help="A cluster YAML (configs/cluster/…) or a scheduler address."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes on this machine.")]
Retry = Annotated[
    bool, typer.Option("--retry", help="Try images of a collection that were set aside again.")
]
StageOption = Annotated[
    str | None,
    typer.Option("--stage", help="Which label image of several stages; the last one's if omitted."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        out.print(segpipe.__version__)
        raise typer.Exit


def say(text: str) -> None:
    """Print a line that is no result."""
    out.print(text, markup=False)


def fail(error: SegpipeError) -> NoReturn:
    """End a command with what went wrong."""
    err.print(f"segpipe: {error}", style="red", markup=False)
    sys.exit(error.exit_code)


def say_stage(run: str, stage: str | None) -> None:
    """Say which label image is meant when a run has several and none was chosen."""
    from segpipe.state import chosen_stage, read_state
    from segpipe.store.folder import Folder

    state = None if stage is not None else read_state(Folder(run))
    if state is not None and len(state["labels"]) > 1:
        name = chosen_stage(state, None)
        others = ", ".join(other for other in state["labels"] if other != name)
        err.print(f"stage {name}, the last (--stage: {others})", style="dim", markup=False)


def with_start(result: dict[str, str]) -> dict[str, str]:
    """Add to the time of a run what a user's clock shows: Python starts before it."""
    return result | {"time": f"{result['time']}; the command {_age():.1f} s, its start included"}


def _age() -> float:
    """Return how many seconds ago this process began."""
    import psutil  # of all commands, only those that end a run need it

    began, clock = psutil.Process().create_time(), getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None:
        return time.time() - began
    # Linux tells it in ticks since a boot whose time is known to a second only
    return time.clock_gettime(clock) - (began - psutil.boot_time())


def show(result: dict[str, str]) -> None:
    """Print what a run ended with, one thing a line."""
    width = max(len(key) for key in result)
    for key, value in result.items():
        out.print(f"{key:<{width}}  {value}", markup=False)
