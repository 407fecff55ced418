"""The command line: one file per group of commands."""

from __future__ import annotations

import logging
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
from segpipe.cli.shared import EXIT_INTERRUPTED, app, fail
from segpipe.cli.stop import ignore_signals, obey_signals
from segpipe.errors import SegpipeError

__all__ = ["app", "export", "main", "run", "score", "show", "train"]


def main() -> None:
    """Run the command line; errors that a user can act on end without a traceback."""
    debug = "--debug" in sys.argv
    if not debug:
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # errors say what matters of it
    obey_signals()
    try:
        app()
    except SegpipeError as error:
        if debug:
            raise
        fail(error)
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:
            ignore_signals()
        raise
