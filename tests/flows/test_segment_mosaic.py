"""The flow gives what a run without Prefect gives, shows it, and goes on with what others began."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flows  # noqa: F401  (before prefect)

# isort: split
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.testing.utilities import prefect_test_harness

from flows.segment_mosaic import segment_mosaic
from segpipe import session
from segpipe.errors import InputError
from tests.flows.conftest import METHOD, Silent, load


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=90):
        yield


def test_run__same_digest_and_pages(config: Path, tmp_path: Path, digest: str) -> None:
    output = str(tmp_path / "run")
    state = segment_mosaic(str(config), output=output, return_state=True)
    assert state.is_completed(), state
    assert state.result()["digest"] == digest
    assert session.digest_of(output) == digest
    pages = artifacts(state.state_details.flow_run_id)
    assert set(pages) == {"progress", "summary", "steps", f"overlay-{METHOD}"}
    assert pages["progress"] == 100.0
    summary = {row["what"]: row["value"] for row in json.loads(pages["summary"])}
    assert summary["digest"] == digest
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


def artifacts(run: Any) -> dict[str, Any]:
    """Key -> data of the artifacts of a flow run."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        return {found.key: found.data for found in client.read_artifacts(artifact_filter=chosen)}
