"""The command line in this process: what it does is the same, and starting Python is dear."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from segpipe import cli


def run_command(*arguments: str | Path) -> tuple[Any, str]:
    """Run the command line; return its exit code and what it printed, both streams."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        patch.setattr(sys, "argv", ["segpipe", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
    return code, printed.getvalue()
