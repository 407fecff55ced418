"""Runs jobs on any executor: bounded submission, retries left to it, nothing lost in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from segpipe.errors import RunError, SegpipeError, first_line
from segpipe.tasks import Job, Report, run_tasks

Mark = TypeVar("Mark")
IN_FLIGHT = 3
"""Tasks submitted ahead per worker: enough to keep it busy, few enough for a small scheduler."""
FAN_IN = 16
"""Records that are put together at a time."""
LOOK_SECONDS = 2.0
"""After so long without news the executor is asked whether there can be any."""


class Executor(Protocol):
    """Where tasks run: `concurrent.futures` futures, whatever is behind them."""

    @property
    def workers(self) -> int:
        """Number of tasks that run at the same time."""

    @property
    def dashboard(self) -> str | None:
        """Address of a page that shows the work, if there is one."""

    def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Any:
        """Start ``function(*args)``; tasks of one `name` belong together in a dashboard."""

    def retried(self) -> Sequence[str]:
        """Return why tasks were given out again so far: a reason for each time."""

    def check(self) -> None:
        """Raise RunError if nothing submitted can ever finish; asked when nothing happens."""


@dataclass
class SerialExecutor:
    """Tasks in this process, one after the other, when they are submitted."""

    retries: int = 0
    """How often a failing task is tried again."""
    workers: int = 1
    dashboard: str | None = None
    _retried: list[str] = field(default_factory=list)

    def submit(self, function: Callable[..., Any], *args: Any, name: str) -> Future[Any]:
        """Do the task now."""
        future: Future[Any] = Future()
        left = self.retries
        while not future.done():
            try:
                future.set_result(function(*args))
            except Exception as error:
                if not left:
                    future.set_exception(error)
                else:
                    left -= 1
                    self._retried.append(first_line(error))
        return future

    def retried(self) -> Sequence[str]:
        """Return the errors after which tasks were done again."""
        return self._retried

    def check(self) -> None:
        """Have nothing to say: what was submitted is done."""


class Watch(Protocol):
    """Who wants to know how far a run is."""

    def begin(self, step: str, total: int) -> None:
        """Hear that a step with `total` tasks begins."""

    def advance(self, step: str, done: int) -> None:
        """Hear that `done` more tasks of the step are finished."""

    def end(self, step: str) -> None:
        """Hear that the step is finished."""


def no_part(_number: int) -> None:
    """Tell a task nothing: its job needs no solution."""


@dataclass(frozen=True)
class Workload:
    """All tasks of a job."""

    job: Job
    part: Callable[[int], Any] = no_part
    """Number of a task -> its part of the former solution; asked when the task is submitted."""
    batches: Iterable[Sequence[int]] | None = None
    """Which tasks are submitted as one, in order; None: each alone."""
    after: int | None = None
    """Index of the load whose tasks have to be done before; None: none has to."""
    merge: Callable[[Sequence[Any]], Any] | None = None
    """What puts records together, in any order: kept is one alone, which the first report has."""


def run_jobs(
    title: str, loads: Sequence[Workload], executor: Executor, watch: Watch
) -> list[list[Report]]:
    """Do all tasks of some independent jobs; return each job's reports in task order.

    Raises
    ------
    RunError
        A task failed for good, or the cluster was lost. Finished tasks have left their records.
    """
    watch.begin(title, sum(len(load.job) for load in loads))
    found: list[list[Report | None]] = [[None] * len(load.job) for load in loads]
    piles = [Pile(load.merge) for load in loads]
    for index, reports in _in_flight(loads, executor):
        for report in reports:
            found[index][report.number] = piles[index].kept(report)
        watch.advance(title, len(reports))
    missing = sum(report is None for reports in found for report in reports)
    if missing:
        raise RunError(f"{title}: {missing} tasks were lost; `segpipe resume` does them again")
    watch.end(title)
    done = [[report for report in reports if report is not None] for reports in found]
    return [pile.closed(reports) for pile, reports in zip(piles, done, strict=True)]


@dataclass
class Pile:
    """The records of a job as far as they have come, put together as they come."""

    merge: Callable[[Sequence[Any]], Any] | None
    records: list[Any] = field(default_factory=list)

    def kept(self, report: Report) -> Report:
        """Return what is kept of a report: without its record, if that is put together."""
        if self.merge is None:
            return report
        self.records.append(report.record)
        if len(self.records) == FAN_IN:
            self.records = [self.merge(self.records)]
        return replace(report, record={})

    def closed(self, reports: list[Report]) -> list[Report]:
        """Return the reports of a job, the first with the record of all."""
        if self.merge is None or not reports:
            return reports
        return [replace(reports[0], record=self.merge(self.records)), *reports[1:]]


def bounded(
    executor: Executor, submit: Callable[[], tuple[Any, Mark] | None]
) -> Iterator[tuple[Any, Mark]]:
    """Keep a bounded number of futures pending; yield each when it is done, with its mark.

    `submit` starts the next task and returns its future and a mark, or None as long as there is
    nothing to start.
    """
    pending: dict[Any, Mark] = {}
    try:
        while True:
            while len(pending) < IN_FLIGHT * executor.workers:
                started = submit()
                if started is None:
                    break
                pending[started[0]] = started[1]
            if not pending:
                return
            done, _ = wait(pending, LOOK_SECONDS, FIRST_COMPLETED)
            if not done:
                executor.check()
            for future in done:
                yield future, pending.pop(future)
    finally:
        for future in pending:
            future.cancel()


def _in_flight(loads: Sequence[Workload], executor: Executor) -> Iterator[tuple[int, list[Report]]]:
    """Keep a bounded number of tasks submitted; yield (job index, reports) as they finish."""
    todo = [iter(load.batches or ([n] for n in range(len(load.job)))) for load in loads]
    left = [len(load.job) for load in loads]

    def submit() -> tuple[Any, int] | None:
        following = _following(loads, todo, left)
        if following is None:
            return None
        index, batch = following
        load = loads[index]
        tasks = [(number, load.part(number)) for number in batch]
        return executor.submit(run_tasks, load.job, tasks, name=load.job.name), index

    for future, index in bounded(executor, submit):
        reports = _result(future, loads[index].job.name)
        left[index] -= len(reports)
        yield index, reports


def _following(
    loads: Sequence[Workload], todo: Sequence[Iterator[Sequence[int]]], left: Sequence[int]
) -> tuple[int, Sequence[int]] | None:
    """Return the next tasks to submit: of the first load that has some and need not wait."""
    for index, load in enumerate(loads):
        if load.after is None or not left[load.after]:
            batch = next(todo[index], None)
            if batch is not None:
                return index, batch
    return None


def _result(future: Any, name: str) -> list[Report]:
    try:
        return future.result()  # type: ignore[no-any-return]
    except (SegpipeError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise RunError(
            f"{name}: the cluster lost a task ({type(error).__name__}: {error}); finished tiles "
            f"are kept, go on with `segpipe resume`"
        ) from error
