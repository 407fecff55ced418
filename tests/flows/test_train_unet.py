"""The flow trains what `segpipe train` trains, and says what it scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import flows  # noqa: F401  (before prefect)

# isort: split
import pytest
from prefect.testing.utilities import prefect_test_harness

pytest.importorskip("torch", reason="networks need pip install 'segpipe[nets]'")

from flows.train_unet import train_unet
from segpipe.config import dump
from segpipe.errors import InputError
from tests.flows.test_segment_mosaic import artifacts
from tests.nets.test_training import values, write_discs


@pytest.fixture(scope="module", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=90):
        yield


def test_flow__trains_goes_on_and_says_so(tmp_path: Path) -> None:
    write_discs(tmp_path / "data", 8)
    config = tmp_path / "train.yaml"
    config.write_text(dump(values(tmp_path / "data", tmp_path / "run")))
    state = train_unet(str(config), return_state=True)
    assert state.is_completed(), state
    result = state.result()
    assert Path(result["model"]).exists()
    pages = artifacts(state.state_details.flow_run_id)
    rows = {row["what"]: row["value"] for row in json.loads(pages["training"])}
    assert rows == result
    assert train_unet(str(config)) == result, "a finished training stays as it is"
    with pytest.raises(InputError, match="differs in schedule"):
        train_unet.with_options(retries=0)(str(config), set=["schedule.steps=9"])
