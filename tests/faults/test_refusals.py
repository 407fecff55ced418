"""Folders that cannot be used: exit code 2, a reason, and nothing touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from segpipe.errors import InputError
from segpipe.store.folder import Folder
from tests.faults.conftest import Configure
from tests.faults.runs import finish, segpipe, state, tiles_done, wait_for


def refused(folder: Path, *arguments: str) -> str:
    """Run ``segpipe run …``, which must refuse; return what it says."""
    process = segpipe(folder, "run", "run.yaml", *arguments)
    assert process.end() == 2, process.said()
    assert "Traceback" not in process.said()
    said = process.said().strip()
    return said[said.rindex("segpipe: ") :]


def test_read_only_disk__is_said(configure: Configure, tmp_path: Path) -> None:
    """Even root cannot write to /proc, nor to a disk that is mounted read-only."""
    configure("/proc/run", workers="none")
    assert "cannot write to the output folder /proc/run" in refused(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write anywhere")
def test_no_permission__is_said(configure: Configure, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    configure(closed / "run", workers="none")
    last = refused(tmp_path)
    assert "cannot write to the output folder" in last
    assert "permission denied; choose another `output`, or mend its rights" in last


@pytest.mark.parametrize("said", ["Permission denied", "Read-only file system"])
def test_no_permission__is_said_without_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """Root may write anywhere, so the store is told to refuse."""

    def refuse(self: Folder) -> None:
        raise OSError(f"Unable to open file /x/.segpipe-probe-1#1: {said} (os error 13)")

    monkeypatch.setattr(Folder, "objects", refuse)
    with pytest.raises(InputError) as caught:
        Folder(str(tmp_path / "run")).check_writable()
    assert f"run: {said.lower()}; choose another `output`" in str(caught.value)
    assert "probe" not in str(caught.value)


def test_file_in_the_way__is_said(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    configure(workers="none")
    assert "is a file; give the name of a new folder" in refused(tmp_path)
    assert (tmp_path / "run").read_text() == "notes"


def test_another_run__is_left_alone(configure: Configure, tmp_path: Path) -> None:
    run = configure(workers="none", pause=0.0)
    run.mkdir()
    other = {"identity": "another", "tile": [256, 256], "state": "complete", "resumed": 0}
    other |= {"config": {}, "process": {}, "labels": {}}
    (run / "run.json").write_text(json.dumps(other))
    assert "holds another run" in refused(tmp_path)
    assert json.loads((run / "run.json").read_text()) == other


def test_a_run_at_work__is_left_alone(configure: Configure, tmp_path: Path) -> None:
    """Two processes on one folder would each think that the other's tiles are theirs to mend."""
    configure(workers="none", pause=0.5)
    first = segpipe(tmp_path, "run", "run.yaml")
    run = tmp_path / "run"
    wait_for(lambda: tiles_done(run) > 0, first)
    process = segpipe(tmp_path, "resume", str(run))
    assert process.end() == 2, process.said()
    assert f"process {first.popen.pid} is working on" in process.said()
    first.popen.kill()
    first.end()


def test_number_of_a_dead_process_given_anew__does_not_lock_the_folder(
    configure: Configure, tmp_path: Path
) -> None:
    """In a container the same few numbers come again and again."""
    configure(workers="none", pause=0.0)
    first = segpipe(tmp_path, "run", "run.yaml")
    run = tmp_path / "run"
    wait_for(lambda: tiles_done(run) > 0, first)
    first.popen.kill()
    first.end()
    values = state(run)
    values["process"]["pid"] = os.getppid()  # this one lives, but it is not the one that began
    (run / "run.json").write_text(json.dumps(values))
    finish(tmp_path, "resume", str(run))
