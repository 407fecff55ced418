"""Processes die while a collection is done: the others' results stay, and one image bears the blame."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from segpipe.collection.session import digest_of
from tests.faults.runs import Process, finish, kill, segpipe, wait_for

COUNT, DEADLY = 12, 33


@pytest.fixture
def configure(tmp_path: Path) -> Any:
    (tmp_path / "photos").mkdir()
    for n in range(COUNT):
        width = DEADLY if n == 5 else 48
        pixels = np.random.default_rng(n).integers(0, 255, (40, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{n:02}.png")

    def write(workers: int | str = 2, **parameters: Any) -> Path:
        values = {
            "input": "photos",
            "output": str(tmp_path / "out"),
            "method": "deadly",
            "parameters": {"method": "slic", **parameters},
            "cluster": {"workers": workers, "dashboard": "127.0.0.1:0"},
        }
        (tmp_path / "collection.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "out"

    return write


def complete(out: Path) -> int:
    return len(list((out / "images").glob("*/run.json")))


def test_deadly_image__is_set_aside(configure: Any, tmp_path: Path) -> None:
    out = configure(width=DEADLY)
    process = segpipe(tmp_path, "run", "collection.yaml")
    assert process.popen.wait(400) == 3, process.said()  # six workers die and are started anew
    rows = {r["name"]: r for r in pq.read_table(out / "images.parquet").to_pylist()}
    assert [name for name, row in rows.items() if row["status"] != "done"] == ["05.png"]
    assert "every worker that tried it died" in rows["05.png"]["error"]
    assert "05.png" in process.said()
    state = json.loads((out / "collection.json").read_text())
    assert state["retried"] >= 4, "two times, alone and with others, before it is blamed"
    assert "was lost" in (out / "report.html").read_text()


def test_killed__goes_on(configure: Any, tmp_path: Path) -> None:
    """A worker, then the client with all of them, then Ctrl-C; each image is done once."""
    out = configure(pause=0.1)
    process: Process = segpipe(tmp_path, "run", "collection.yaml")
    wait_for(lambda: complete(out) >= 1, process)
    kill(process.workers()[0])
    wait_for(lambda: complete(out) >= 4, process)
    process.signal(signal.SIGKILL, group=True)
    process.end()
    left = {p: p.stat().st_mtime_ns for p in (out / "images").glob("*/run.json")}
    assert len(left) < COUNT

    process = segpipe(tmp_path, "resume", str(out))
    wait_for(lambda: complete(out) > len(left), process)
    process.signal(signal.SIGINT, group=True)
    assert process.end() == 130, process.said()
    assert f"segpipe resume {out}" in process.said()

    finish(tmp_path, "resume", str(out))
    state = json.loads((out / "collection.json").read_text())
    assert state["counts"]["done"] == COUNT
    assert state["resumed"] == 2
    assert {p: p.stat().st_mtime_ns for p in left} == left
    assert digest_of(str(out)) == state["digest"]
