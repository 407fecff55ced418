"""Errors that a user can act on: what was given, what is allowed, what to do."""

from __future__ import annotations


class SegpipeError(Exception):
    """Base of all errors whose message is written for the user (the CLI prints no traceback)."""


class InputError(SegpipeError, ValueError):
    """Something that was given cannot be used; nothing was started."""


class DoesNotFit(InputError):
    """Tiles need more memory than a worker has."""


class RunError(SegpipeError, RuntimeError):
    """A run could not go on; what it finished is kept and can be resumed."""


class Unavailable(RunError):
    """The output or the cluster failed, not an image: no other image would fare better."""
