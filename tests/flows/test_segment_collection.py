"""The flow of a collection: same digest, one task per step, images set aside are shown and no failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import flows  # noqa: F401  (before prefect)

# isort: split
import numpy as np
import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.testing.utilities import prefect_test_harness

from flows.segment_collection import segment_collection
from segpipe.collection import session as collection
from segpipe.progress import Silent
from segpipe.session import load_config
from tests.flows.test_segment_mosaic import artifacts


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=90):
        yield


def test_flow__same_digest_pages_and_few_tasks(tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :80]
    for n in range(5):
        waves = (127 + 60 * np.sin(x / (9 + n)) + 60 * np.cos(y / 7)).astype(np.uint8)
        Image.fromarray(np.dstack([waves, 255 - waves, waves])).save(tmp_path / f"{n}.png")
    (tmp_path / "empty.png").touch()
    config = tmp_path / "collection.yaml"
    config.write_text(
        f"input: {tmp_path}\noutput: {tmp_path}/plain\nmethod: slic\ncluster: {{workers: none}}\n"
    )
    plain = collection.execute(load_config(config), Silent(), resume=False)

    output = str(tmp_path / "out")
    state = segment_collection(str(config), output=output, return_state=True)
    assert state.is_completed(), state
    assert state.result()["digest"] == plain.state["digest"] == collection.digest_of(output)
    run = state.state_details.flow_run_id
    pages = artifacts(run)
    assert set(pages) == {"progress", "summary", "set-aside"}
    assert pages["progress"] == 100.0
    assert json.loads(pages["set-aside"]) == [
        {"image": "empty.png", "reason": "is empty (0 bytes); copy it again"}
    ]
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        assert len(client.read_task_runs(flow_run_filter=chosen)) == 4

    (tmp_path / "empty.png").write_bytes((tmp_path / "1.png").read_bytes())
    again = segment_collection(str(config), output=output)
    assert again["images"] == "6 of 6 done, 5 found as they were"
