"""A real Prefect server: schedules fire, and the script finds it, or brings its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from segpipe import session
from segpipe.progress import Silent
from tests.flows.conftest import PATIENCE, ROOT, wait_for

SCRIPT = str(ROOT / "flows" / "segment_mosaic.py")


def test_deployed__the_schedule_makes_runs(server: dict[str, str]) -> None:
    """Versions of FastAPI and SQLAlchemy that Prefect allows have broken just this, in silence."""
    prefect(server, "work-pool", "create", "segpipe", "--type", "process")
    prefect(server, "--no-prompt", "deploy", "--prefect-file", "deploy/prefect.yaml", "--all")
    chosen = {"deployments": {"name": {"any_": ["nightly"]}}}
    chosen |= {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    runs = wait_for(lambda: query(server, "flow_runs", chosen))
    assert all(run["parameters"]["output"] == "runs/nightly" for run in runs)
    (nightly,) = query(server, "deployments", {"deployments": {"name": {"any_": ["nightly"]}}})
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "ENQUEUE"


def test_script__uses_the_running_server(
    server: dict[str, str], config: Path, tmp_path: Path, digest: str
) -> None:
    output = tmp_path / "run"
    options = [str(config), "--output", str(output), "--workers", "1"]
    options += ["--set", "cluster.dashboard=127.0.0.1:0"]
    said = subprocess.run(
        [sys.executable, SCRIPT, *options], env=server, capture_output=True, text=True, check=True
    ).stdout
    assert digest in said
    assert session.digest_of(str(output)) == digest
    (run,) = query(server, "flow_runs", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}})
    assert run["parameters"]["output"] == str(output)
    keys = {page["key"] for page in query(server, "artifacts", {})}
    assert keys >= {"progress", "summary", "dask-dashboard"}


def test_script_without_server__leaves_none_behind(
    environment: dict[str, str], config: Path, tmp_path: Path, digest: str
) -> None:
    """Ctrl-C, then a kill: the server goes too, and the run can be gone on with each time."""
    output = tmp_path / "run"
    command = [sys.executable, SCRIPT, str(config), "--output", str(output)]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        output_file = tmp_path / f"said-{number}"
        with output_file.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdout=file, stderr=file, start_new_session=True
            )
            before = began(output)
            wait_for(lambda: began(output) != before or process.poll() is not None, every=0.005)  # noqa: B023
            others = psutil.Process(process.pid).children(recursive=True)
            assert any("server" in other.cmdline() for other in others)
            process.send_signal(number)
            assert process.wait(PATIENCE) == code, output_file.read_text()
        _, alive = psutil.wait_procs(others, timeout=30)
        assert not alive, [other.cmdline() for other in alive]
    assert "the same command goes on" in (tmp_path / f"said-{signal.SIGINT}").read_text()
    session.execute(session.stored_config(str(output)), Silent(), resume=True)
    assert session.digest_of(str(output)) == digest


def began(output: Path) -> float | None:
    """When the last process began to work in a run folder."""
    try:
        return float(json.loads((output / "run.json").read_text())["begun"])
    except FileNotFoundError:
        return None


def prefect(environment: dict[str, str], *arguments: str) -> None:
    """Run ``prefect …`` in the repository's folder."""
    command = [sys.executable, "-m", "prefect", *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def query(environment: dict[str, str], what: str, chosen: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the server's API for `what`."""
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/{what}/filter",
        json.dumps(chosen).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return list(json.load(answer))
