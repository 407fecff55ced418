"""The command line: one file per group of commands."""

from __future__ import annotations

import signal
import sys

# in the order of the help
from segpipe.cli import run

# isort: split
from segpipe.cli import show

# isort: split
from segpipe.cli import export, score

# isort: split
from segpipe.cli import train

# isort: split
from segpipe.cli.shared import EXIT_FAILED, EXIT_INPUT, app, err
from segpipe.errors import InputError, SegpipeError

__all__ = ["app", "export", "main", "run", "score", "show", "train"]


def main() -> None:
    """Run the command line; errors that a user can act on end without a traceback."""
    debug = "--debug" in sys.argv
    # a batch system's way to stop us is as good as Ctrl-C: a run ends in order
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except SegpipeError as error:
        if debug:
            raise
        err.print(f"segpipe: {error}", style="red", markup=False)
        sys.exit(EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILED)
