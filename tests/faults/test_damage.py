"""What was written is not there any more, or could not be written: it is done again, or said."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.conftest import TILES, Configure
from tests.faults.runs import (
    check_result,
    finish,
    reused,
    segpipe,
    state,
    tiles_done,
    wait_for,
)


def test_damage_between_kill_and_resume__is_found_and_mended(
    configure: Configure, tmp_path: Path, digest: str
) -> None:
    """One shard is gone, one cut short, one has a flipped bit, and so with records."""
    run = configure(workers="none", pause=0.02)
    process = segpipe(tmp_path, "run", "run.yaml")
    wait_for(lambda: tiles_done(run) >= TILES + 6, process)
    process.signal(signal.SIGKILL)
    process.end()
    done = tiles_done(run)

    shards = sorted(
        path for path in (run / "partial.ome.zarr" / "0" / "c").rglob("*") if path.is_file()
    )
    assert len(shards) == TILES
    records = sorted((run / "records" / "image-ingest").iterdir())
    for gone, short, flipped in (shards[3:6], records[9:12]):
        gone.unlink()
        short.write_bytes(short.read_bytes()[: short.stat().st_size // 2])
        data = bytearray(flipped.read_bytes())
        data[len(data) // 2] ^= 1
        flipped.write_bytes(data)

    finish(tmp_path, "resume", str(run))
    check_result(run, digest)
    assert state(run)["steps"]["image-ingest"]["reused"] == TILES - 6
    assert reused(run) == done - 6


def test_tile_fails_twice__the_third_try_counts(
    configure: Configure, tmp_path: Path, digest: str
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    run = configure(pause=0.0, fail_tile=5, failures=2, notes=str(notes))
    said = finish(tmp_path, "run", "run.yaml")
    check_result(run, digest)
    assert len(list(notes.iterdir())) == 2
    steps = state(run)["steps"]
    assert {name: step["retried"] for name, step in steps.items() if step["retried"]} == {
        "hindered-regions": 2
    }
    (why,) = steps["hindered-regions"]["retried_after"]
    assert why == "hindered-regions: task 5 failed: ValueError: this tile was told to fail"
    assert f"2 in hindered-regions, after: {why}" in (run / "report.html").read_text()
    assert "2 times a task was given out again" in said


def test_tile_fails_always__is_named_and_can_be_resumed(
    configure: Configure, tmp_path: Path, digest: str
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    run = configure(workers="none", pause=0.0, fail_tile=5, failures=3, notes=str(notes))
    process = segpipe(tmp_path, "run", "run.yaml")
    assert process.end() == 1, process.said()
    last = process.said().strip().splitlines()[-1]
    assert "hindered-regions: task 5 failed: ValueError: this tile was told to fail" in last
    assert "Traceback" not in process.said()
    finish(tmp_path, "resume", str(run))  # whatever ailed the tile is mended
    check_result(run, digest)
    assert reused(run) >= TILES + 5


@pytest.mark.parametrize("workers", ["none", 2])
def test_disk_full__says_so_and_can_be_resumed(
    small_disk: Path, configure: Configure, tmp_path: Path, digest: str, workers: int | str
) -> None:
    """The image fits, the labels do not; workers, who try again, do not blame the first try."""
    run = configure(small_disk / "run", workers=workers, pause=0.0)
    process = segpipe(tmp_path, "run", "run.yaml")
    assert process.end() == 2, process.said()
    last = process.said().strip().splitlines()[-1]
    assert "the disk is full (" in last
    assert " free" in last
    assert "segpipe resume" in last
    assert "Traceback" not in process.said()
    assert "are free where" in process.said(), "it was to be seen before"
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    finish(tmp_path, "resume", str(run))
    check_result(run, digest)
    assert reused(run) > 0


def test_disk_full_from_the_start__leaves_nothing_in_the_way(
    small_disk: Path, configure: Configure, tmp_path: Path
) -> None:
    configure(small_disk / "run", workers="none", pause=0.0)
    (small_disk / "fill").write_bytes(bytes(5 << 20))
    process = segpipe(tmp_path, "run", "run.yaml")
    assert process.end() == 2, process.said()
    assert "cannot write to the output folder" in process.said()
    assert "the disk is full; free some space" in process.said()
    assert "Traceback" not in process.said()
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    finish(tmp_path, "run", "run.yaml")
