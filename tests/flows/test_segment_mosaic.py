"""The flow gives what a run without Prefect gives, shows it, and goes on with what others began."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flows  # noqa: F401  (before prefect)

# isort: split
import pytest
import tifffile
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.testing.utilities import prefect_test_harness

from flows.segment_mosaic import segment_mosaic
from segpipe import session
from segpipe.errors import InputError, RunError
from segpipe.progress import Silent
from tests.flows.conftest import METHOD, load, wait_for


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=90):
        yield


def test_run__same_digest_and_pages(
    config: Path, tmp_path: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = "run"
    state = segment_mosaic(str(config), output=output, return_state=True)
    assert state.is_completed(), state
    assert state.result()["digest"] == digest
    assert session.digest_of(output) == digest
    pages = artifacts(state.state_details.flow_run_id)
    assert set(pages) == {"progress", "summary", "steps", f"overlay-{METHOD}"}
    assert pages["progress"] == 100.0
    summary = {row["what"]: row["value"] for row in json.loads(pages["summary"])}
    assert summary["digest"] == digest
    assert summary["report"] == f"{tmp_path}/run/report.html", "who reads it may be anywhere"
    assert pages[f"overlay-{METHOD}"].startswith("data:image/png;base64,")


def test_unfinished_run__is_gone_on_with_and_then_kept(
    config: Path, tmp_path: Path, digest: str
) -> None:
    output = str(tmp_path / "run")
    with session.opened(load(config, output), resume=False) as (run, executor):
        for step in run.steps()[:2]:
            step.run(executor, Silent())
    assert segment_mosaic(str(config), output=output)["digest"] == digest
    stored = (tmp_path / "run" / "run.json").read_text()
    assert json.loads(stored)["steps"]["image-ingest"]["reused"] == 12
    assert segment_mosaic(str(config), output=output)["digest"] == digest
    assert (tmp_path / "run" / "run.json").read_text() == stored


def test_other_files_in_the_way__the_flow_fails_with_the_reason(
    config: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="no segpipe run"):
        segment_mosaic.with_options(retries=0)(str(config), output=str(tmp_path))


def test_bad_input__fails_at_once_with_its_sentence(config: Path, tmp_path: Path) -> None:
    """A deployment tries again after a minute what may go better then: not a file that is none."""
    (tmp_path / "text.tif").write_text("this is no image")
    given = {"input": str(tmp_path / "text.tif"), "output": str(tmp_path / "run")}
    state = segment_mosaic(str(config), **given, return_state=True)
    assert state.is_failed()
    assert "text.tif is of no known format" in state.message
    assert tries(state) == 1
    assert "Traceback" not in logs(state)


def test_damaged_tile__fails_at_once_with_the_way_back(config: Path, tmp_path: Path) -> None:
    path = damaged_copy(config.parent / "image.tif", tmp_path / "c.tif")
    given = {"input": str(path), "output": str(tmp_path / "run")}
    state = segment_mosaic(str(config), **given, return_state=True)
    assert state.is_failed()
    assert "c.tif: tile" in state.message
    assert f"delete {tmp_path}/run" in state.message
    assert tries(state) == 1
    assert "Traceback" not in logs(state)


def test_real_failure__is_tried_again(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> None:
        raise RunError("the cluster was lost")

    monkeypatch.setattr("segpipe.run.run_jobs", lost)
    impatient = segment_mosaic.with_options(retries=1, retry_delay_seconds=0)
    state = impatient(str(config), output=str(tmp_path / "run"), return_state=True)
    assert state.is_failed()
    assert "the cluster was lost" in state.message
    assert tries(state) == 2


def damaged_copy(image: Path, target: Path) -> Path:
    """Write an image anew in compressed tiles, one of which is damaged."""
    tifffile.imwrite(target, tifffile.imread(image), tile=(64, 64), compression="deflate")
    with tifffile.TiffFile(target) as tif:
        offset = tif.pages.first.dataoffsets[5]
    data = bytearray(target.read_bytes())
    data[offset : offset + 100] = b"\x55" * 100
    target.write_bytes(data)
    return target


def tries(state: Any) -> int:
    """How often the flow of a final state was begun."""
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id).run_count


def logs(state: Any) -> str:
    """What the flow run of a state, and its tasks, have logged to the end."""
    run = LogFilterFlowRunId(any_=[state.state_details.flow_run_id])

    def complete() -> str:
        with get_client(sync_client=True) as client:
            lines = client.read_logs(LogFilter(flow_run_id=run), limit=200)
        text = "\n".join(line.message for line in lines)
        return text if "Finished in state" in text else ""

    return str(wait_for(complete))


def artifacts(run: Any) -> dict[str, Any]:
    """Key -> data of the artifacts of a flow run."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        return {found.key: found.data for found in client.read_artifacts(artifact_filter=chosen)}
