"""Local workers: what they are started with, whatever the process has that starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segpipe.cluster import open_executor
from segpipe.config import Cluster
from segpipe.processes import ONE_THREAD, environment, start_ahead

ROOT = Path(__file__).parents[1]


def test_workers__see_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("one", None):  # the second time what they could be forked from is old
        if value:
            monkeypatch.setenv("SEGPIPE_TEST", value)
        else:
            monkeypatch.delenv("SEGPIPE_TEST")
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
        with open_executor(Cluster(workers=1, dashboard="127.0.0.1:0")) as executor:
            found = executor.submit(os.getenv, "SEGPIPE_TEST", name="value").result()
            threads = executor.submit(os.getenv, "OMP_NUM_THREADS", name="threads").result()
        assert (found, threads) == (value, ONE_THREAD["OMP_NUM_THREADS"])
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_workers__import_nothing_from_the_working_directory(tmp_path: Path) -> None:
    for name in ("numpy", "distributed"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is data')")
    script = (
        "from segpipe.cluster import open_executor; from segpipe.config import Cluster\n"
        "if __name__ == '__main__':\n"
        "    with open_executor(Cluster(workers=1, dashboard='127.0.0.1:0')) as executor:\n"
        "        print(executor.submit(abs, -7, name='abs').result())\n"
    )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "script.py").write_text(script)
    command = [sys.executable, "elsewhere/script.py"]
    # an empty entry would be the working directory
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7"), done.stderr


def test_workers__start_where_no_socket_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long() -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr("segpipe.processes._begun_with", None)
    monkeypatch.setattr("multiprocessing.forkserver.ensure_running", too_long)
    assert start_ahead() == "spawn"
    with open_executor(Cluster(workers=1, dashboard="127.0.0.1:0")) as executor:
        found = executor.submit(os.getenv, "OMP_NUM_THREADS", name="threads").result()
    assert found == ONE_THREAD["OMP_NUM_THREADS"]


def test_environment__is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGPIPE_TEST", "mine")
    monkeypatch.delenv("SEGPIPE_OTHER", raising=False)
    with environment({"SEGPIPE_TEST": "theirs"}):
        assert os.environ["SEGPIPE_TEST"] == "theirs"
        os.environ["SEGPIPE_OTHER"] = "left behind"
    assert os.environ["SEGPIPE_TEST"] == "mine"
    assert "SEGPIPE_OTHER" not in os.environ
