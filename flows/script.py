"""A flow as a script: a Prefect server for it, and an end that a shell understands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer
from prefect import Flow
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import prefect_server
from segpipe.cli import shared as cli
from segpipe.cli.stop import obey_signals, stop
from segpipe.errors import SegpipeError


def run_script(main: Callable[..., None], kept: str) -> None:
    """Run `main` as a command; `kept` is what an interruption leaves, such as "finished tiles"."""
    obey_signals()
    kept = f"{kept} are kept, the same command goes on"
    try:
        with stop.keeping(kept):
            typer.run(main)
    except SegpipeError as error:
        cli.fail(error)
    except SystemExit as end:
        if end.code == cli.EXIT_INTERRUPTED:
            cli.err.print(f"segpipe: interrupted; {kept}", markup=False)
        raise


def run_flow(flow: Flow[..., dict[str, str]], *arguments: Any) -> dict[str, str]:
    """Run a flow on the configured Prefect server, or on one that lives as long as this process."""
    address = prefect_server()
    cli.out.print(f"prefect    {address}/runs (progress: the artifacts of the run)", markup=False)
    with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
        # somebody is watching: no waiting for a second try
        return flow.with_options(retries=0)(*arguments)
