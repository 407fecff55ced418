"""The command line: one file per group of commands."""

from __future__ import annotations

import sys

from segpipe.cli import export, run, show
from segpipe.cli.shared import EXIT_FAILED, EXIT_INPUT, EXIT_INTERRUPTED, app, err
from segpipe.errors import InputError, SegpipeError

__all__ = ["app", "export", "main", "run", "show"]


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
