"""A cluster that others run: it may go away, be shared, or not be there at all."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import TILES, Configure
from tests.faults.runs import (
    Process,
    check_result,
    finish,
    reused,
    segpipe,
    start,
    tiles_done,
    wait_for,
)


class Clusters:
    """Starts schedulers with one worker each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Process] = []

    def start(self) -> tuple[str, Process]:
        """Return the address of a new scheduler with a worker, and its process."""
        address, scheduler = self.start_scheduler()
        ready = self.start_worker(address)
        wait_for(lambda: "Registered to" in ready.said(), ready)
        return address, scheduler

    def start_scheduler(self) -> tuple[str, Process]:
        """Return the address of a new scheduler, and its process."""
        file = self.folder / f"scheduler-{len(self.started)}.json"
        place = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--port", "0"]
        self.started.append(start(["dask", "scheduler", *place, "--no-dashboard"], self.folder))
        return wait_for(lambda: address_in(file), self.started[-1]), self.started[-1]

    def start_worker(self, address: str) -> Process:
        """Start a worker and return its process."""
        limits = ["--nthreads", "1", "--memory-limit", "4GB", "--death-timeout", "20"]
        worker = ["dask", "worker", address, *limits, "--no-dashboard"]
        self.started.append(start(worker, self.folder))
        return self.started[-1]

    def stop(self) -> None:
        """Kill what is still there."""
        for process in self.started:
            if process.popen.poll() is None:
                process.signal(signal.SIGKILL, group=True)
                process.end()


def address_in(file: Path) -> str | None:
    """Return the address that a scheduler wrote; None until the whole of it is there."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (FileNotFoundError, json.JSONDecodeError):
        return None


@pytest.fixture
def clusters(tmp_path: Path) -> Iterator[Clusters]:
    found = Clusters(tmp_path)
    yield found
    found.stop()


def test_scheduler_killed__fails_loudly_and_resumes_elsewhere(
    clusters: Clusters, configure: Configure, tmp_path: Path, digest: str
) -> None:
    run = configure()
    address, scheduler = clusters.start()
    process = segpipe(tmp_path, "run", "run.yaml", "--cluster", address)
    wait_for(lambda: tiles_done(run) >= TILES + 4, process)
    scheduler.signal(signal.SIGKILL)
    assert process.end() == 1, process.said()
    last = process.said().strip().splitlines()[-1]
    assert "scheduler was lost" in last
    assert "segpipe resume" in last
    assert "Traceback" not in process.said()

    address, _ = clusters.start()
    finish(tmp_path, "resume", str(run), "--cluster", address)
    check_result(run, digest)
    assert reused(run) >= TILES + 4


def test_workers_gone__ends_after_patience_and_resumes(
    clusters: Clusters, configure: Configure, tmp_path: Path, digest: str
) -> None:
    run = configure()
    address, _ = clusters.start()
    patient = ("--set", "cluster.patience=3s")
    process = segpipe(tmp_path, "run", "run.yaml", "--cluster", address, *patient)
    wait_for(lambda: tiles_done(run) >= TILES + 4, process)
    clusters.started[-1].signal(signal.SIGKILL, group=True)
    assert process.end() == 1, process.said()
    last = process.said().strip().splitlines()[-1]
    assert "no workers for 3 s" in last
    assert "segpipe resume" in last
    finish(tmp_path, "resume", str(run), "--workers", "1")
    check_result(run, digest)


def test_workers_that_come_late__are_waited_for(
    clusters: Clusters, configure: Configure, tmp_path: Path, digest: str
) -> None:
    """A batch system gives the scheduler first; and a run goes on where its cluster is gone."""
    run = configure(pause=0.0)
    address, scheduler = clusters.start_scheduler()
    hasty = ("--set", "cluster.patience=1s")
    process = segpipe(tmp_path, "run", "run.yaml", "--cluster", address, *hasty)
    assert process.end() == 2, process.said()
    assert "has no workers; start some, or work elsewhere" in process.said()
    assert not run.exists()

    process = segpipe(tmp_path, "run", "run.yaml", "--cluster", address)
    wait_for(lambda: "waiting    for workers of" in process.said(), process)
    assert "(cluster.patience)" in process.said()
    clusters.start_worker(address)
    wait_for(lambda: tiles_done(run) >= 1, process)
    scheduler.signal(signal.SIGKILL)
    assert process.end() == 1, process.said()

    process = segpipe(tmp_path, "resume", str(run))
    assert process.end() == 2, process.said()
    assert f"cannot reach a Dask scheduler at {address}" in process.said()
    assert "`--workers N` works on this machine" in process.said()
    assert "Traceback" not in process.said()
    finish(tmp_path, "resume", str(run), "--workers", "1")
    check_result(run, digest)


def test_two_runs_on_one_scheduler__do_not_mix(
    clusters: Clusters, configure: Configure, tmp_path: Path, digest: str
) -> None:
    """A scheduler gives two clients that ask for the same key one and the same result."""
    configure(pause=0.0)
    address, _ = clusters.start()
    runs = [tmp_path / "one", tmp_path / "two"]
    options = ("run.yaml", "--cluster", address, "--output")
    processes = [segpipe(tmp_path, "run", *options, str(run)) for run in runs]
    for process in processes:
        assert process.end() == 0, process.said()
    for run in runs:
        check_result(run, digest)


def test_nobody_at_the_address__is_said_at_once(configure: Configure, tmp_path: Path) -> None:
    run = configure()
    process = segpipe(tmp_path, "run", "run.yaml", "--cluster", "tcp://127.0.0.1:9")
    assert process.end() == 2, process.said()
    assert "cannot reach a Dask scheduler at tcp://127.0.0.1:9" in process.said()
    assert "Traceback" not in process.said()
    assert not run.exists()
