"""Errors that a user can act on: what was given, what is allowed, what to do."""

from __future__ import annotations

import re
from typing import ClassVar

NUMBER = re.compile(r" \(os error \d+\)")
"""What libraries add to the system's words."""


class SegpipeError(Exception):
    """Base of all errors whose message is written for the user (the CLI prints no traceback)."""

    exit_code: ClassVar[int] = 1
    """What a command ends with: 1, what was going on failed."""


class InputError(SegpipeError, ValueError):
    """Something that was given cannot be used; nothing was started."""

    exit_code = 2


class DoesNotFit(InputError):
    """Tiles need more memory than a worker has."""


class RunError(SegpipeError, RuntimeError):
    """A run could not go on; what it finished is kept and can be resumed."""


class Unavailable(RunError):
    """The output or the cluster failed, not an image: no other image would fare better."""


class DiskFull(Unavailable):
    """There is no room left to write to: something given, the output, cannot be used as it is."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind.

    >>> first_line(OSError("No such file or directory (os error 2)"))
    'No such file or directory'
    """
    said = NUMBER.sub("", str(error)).strip()
    return said.splitlines()[0] if said else type(error).__name__
