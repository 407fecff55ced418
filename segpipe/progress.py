"""Progress of a run, as its steps tell it: bars on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_SECONDS = 30.0
"""Off a terminal a long step says how far it is this often."""


class Silent:
    """A `Watch` that says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def begin(self, step: str, total: int) -> None:
        """Hear that a step begins."""

    def advance(self, step: str, done: int) -> None:
        """Hear that tasks are done."""

    def end(self, step: str) -> None:
        """Hear that a step is finished."""


class TerminalProgress(Silent):
    """A `Watch` that draws a bar per step; off a terminal, say in a log, it prints lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said = self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, step: str, total: int) -> None:
        """Add a bar."""
        self._tasks[step] = self._bars.add_task(step, total=total)
        self._said = self._began = time.monotonic()

    def advance(self, step: str, done: int) -> None:
        """Move a bar, or say how far a long step is."""
        self._bars.advance(self._tasks[step], done)
        task = self._bars.tasks[self._tasks[step]]
        late = time.monotonic() - self._said >= LINE_SECONDS
        if late and not task.finished:  # when it is, `end` says so
            self._said = time.monotonic()
            self._say(step, "")

    def end(self, step: str) -> None:
        """Say that a step is done."""
        self._say(step, f" in {time.monotonic() - self._began:.1f} s")

    def _say(self, step: str, more: str) -> None:
        if not self._console.is_terminal:
            task = self._bars.tasks[self._tasks[step]]
            line = f"{step}: {int(task.completed)} of {int(task.total or 0)} tasks{more}"
            self._console.print(line, markup=False)
