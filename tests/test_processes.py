"""Local workers: what they are started with, whatever the process has that starts them."""

from __future__ import annotations

import os

import pytest

from segpipe.cluster import open_executor
from segpipe.config import Cluster
from segpipe.processes import ONE_THREAD, environment


def test_workers__see_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("one", "two"):  # the second time the process they are forked from is old
        monkeypatch.setenv("SEGPIPE_TEST", value)
        monkeypatch.setenv("OMP_NUM_THREADS", "8")
        with open_executor(Cluster(workers=1, dashboard="127.0.0.1:0")) as executor:
            found = executor.submit(os.getenv, "SEGPIPE_TEST", name="value").result()
            threads = executor.submit(os.getenv, "OMP_NUM_THREADS", name="threads").result()
        assert (found, threads) == (value, ONE_THREAD["OMP_NUM_THREADS"])
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_environment__is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGPIPE_TEST", "mine")
    monkeypatch.delenv("SEGPIPE_OTHER", raising=False)
    with environment({"SEGPIPE_TEST": "theirs"}):
        assert os.environ["SEGPIPE_TEST"] == "theirs"
        os.environ["SEGPIPE_OTHER"] = "left behind"
    assert os.environ["SEGPIPE_TEST"] == "mine"
    assert "SEGPIPE_OTHER" not in os.environ
