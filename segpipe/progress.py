"""Progress in the terminal: one bar per step."""

from __future__ import annotations

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


class TerminalProgress:
    """A `Watch` that draws bars; on anything but a terminal it prints a line per finished step."""

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

    def __enter__(self) -> TerminalProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, step: str, total: int) -> None:
        """Add a bar."""
        self._tasks[step] = self._bars.add_task(step, total=total)

    def advance(self, step: str, done: int) -> None:
        """Move a bar."""
        self._bars.advance(self._tasks[step], done)

    def end(self, step: str) -> None:
        """Say that a step is done."""
        if not self._console.is_terminal:
            task = self._bars.tasks[self._tasks[step]]
            self._console.print(f"{step}: {int(task.completed)} tasks", markup=False)
