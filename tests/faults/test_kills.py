"""Processes die in the middle of a run; the labels must not show it, and nothing done is done again."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.faults.conftest import TILES, Configure
from tests.faults.runs import (
    check_result,
    finish,
    kill,
    reused,
    segpipe,
    state,
    tiles_done,
    wait_for,
)

INTERRUPTED = 130


def test_worker_killed__run_goes_on(configure: Configure, tmp_path: Path, digest: str) -> None:
    run = configure()
    process = segpipe(tmp_path, "run", "run.yaml")
    wait_for(lambda: tiles_done(run) >= TILES + 4, process)
    workers = process.workers()
    assert len(workers) == 2
    kill(workers[0])
    assert process.end() == 0, process.said()
    check_result(run, digest)
    lost = [step for step in state(run)["steps"].values() if step["retried"]]
    assert len(lost) == 1
    assert lost[0]["retried"] in (1, 2)  # what it worked on, and what it had next
    assert re.fullmatch(r"the worker tcp://127.0.0.1:\d+ was lost", *lost[0]["retried_after"])
    assert "was lost" in (run / "report.html").read_text()


def test_client_killed__resume_keeps_finished_tiles(
    configure: Configure, tmp_path: Path, digest: str
) -> None:
    run = configure()
    process = segpipe(tmp_path, "run", "run.yaml")
    wait_for(lambda: tiles_done(run) >= TILES + 4, process)
    workers = process.workers()
    process.signal(signal.SIGKILL)
    process.end()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive, "worker processes outlive their client"
    done = tiles_done(run)

    again = segpipe(tmp_path, "run", "run.yaml")
    assert again.end() == 2
    assert f"go on with `segpipe resume {run}`" in again.said()
    finish(tmp_path, "resume", str(run))
    check_result(run, digest)
    assert state(run)["resumed"] == 1
    assert reused(run) >= done
    assert state(run)["steps"]["image-ingest"]["reused"] == TILES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal__says_how_to_go_on(
    configure: Configure, tmp_path: Path, digest: str, number: signal.Signals
) -> None:
    run = configure()
    process = segpipe(tmp_path, "run", "run.yaml")
    wait_for(lambda: tiles_done(run) >= TILES + 4, process)
    workers = process.workers()
    # a terminal signals the whole group, a batch system the command alone
    process.signal(number, group=number == signal.SIGINT)
    assert process.end() == INTERRUPTED, process.said()
    last = process.said().strip().splitlines()[-1]
    assert "interrupted" in last
    assert f"segpipe resume {run}" in last
    assert "Traceback" not in process.said()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    finish(tmp_path, "resume", str(run))
    check_result(run, digest)
    assert reused(run) >= TILES + 4


@pytest.mark.parametrize("workers", [2, "none"])
def test_second_ctrl_c__ends_at_once(
    configure: Configure, tmp_path: Path, digest: str, workers: int | str
) -> None:
    """Quietly, however much was still being closed; and the run can be gone on with."""
    run = configure(workers=workers, pause=0.2)
    process = segpipe(tmp_path, "run", "run.yaml")
    wait_for(lambda: tiles_done(run) >= TILES + 2, process)
    children = process.workers()
    process.signal(signal.SIGINT, group=True)
    wait_for(lambda: "once more ends at once" in process.said(), process)
    time.sleep(0.5)
    began = time.monotonic()
    if process.popen.poll() is None:
        process.signal(signal.SIGINT, group=True)
    assert process.end() == INTERRUPTED, process.said()
    assert time.monotonic() - began < 3
    last = process.said().strip().splitlines()[-1]
    assert last == f"segpipe: interrupted; finished tiles are kept: segpipe resume {run}"
    assert "Traceback" not in process.said()
    assert "Exception" not in process.said()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive
    finish(tmp_path, "resume", str(run))
    check_result(run, digest)


def test_a_signal_to_process_and_group__is_one(configure: Configure, tmp_path: Path) -> None:
    """As `timeout` and launchers do it: the run ends in order."""
    run = configure(workers="none", pause=0.2)
    process = segpipe(tmp_path, "run", "run.yaml")
    wait_for(lambda: tiles_done(run) >= 1, process)
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGTERM, group=True)
    assert process.end() == INTERRUPTED, process.said()
    assert process.said().count("interrupted") == 1


@pytest.mark.parametrize(("seed", "workers"), [(0, 2), (1, "none")])
def test_killed_again_and_again__ends_with_the_same_labels(
    configure: Configure, tmp_path: Path, digest: str, seed: int, workers: int | str
) -> None:
    """Kill the whole group (client, scheduler, workers, writers) after random numbers of records."""
    run = configure(workers=workers, pause=0.02)
    random = np.random.default_rng(seed)
    goals = np.sort(random.integers(1, 3 * TILES, 3))
    for goal in goals:
        verb = ("resume", str(run)) if (run / "run.json").exists() else ("run", "run.yaml")
        process = segpipe(tmp_path, *verb)
        wait_for(lambda least=goal: tiles_done(run) >= least, process)
        process.signal(signal.SIGKILL, group=True)
        process.end()
    finish(tmp_path, "resume", str(run))
    check_result(run, digest)
    assert state(run)["resumed"] == len(goals)
