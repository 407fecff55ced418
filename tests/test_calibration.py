"""`segpipe plan` times each stage on a small image, whatever the stage was given for a large one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tifffile

from segpipe.calibration import calibrated
from segpipe.plan import Limits
from segpipe.session import load_config, prepare

FAR = [[5, 3], [2000, 30], [2768, 798, 4]]
"""Points, of which some are outside of the small image, and two fall on one pixel of it."""


@pytest.mark.parametrize(
    "stages",
    [
        [{"method": "watershed", "parameters": {"markers": FAR}}],
        [{"method": "region-growing", "parameters": {"seeds": FAR}}],
        [{"method": "seeded-growing", "parameters": {"seeds": FAR, "rounds": 1}}],
        [{"method": "slic"}, {"method": "region-merging", "reads": "slic"}],
    ],
    ids=lambda stages: stages[-1]["method"],
)
def test_calibrated__times_every_stage(tmp_path: Any, stages: list[dict[str, Any]]) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((2800, 800), np.uint8), tile=(256, 256))
    values = {"input": str(tmp_path / "image.tif"), "output": str(tmp_path / "run")}
    (tmp_path / "run.yaml").write_text(repr(values | {"stages": stages}))
    plan = prepare(load_config(str(tmp_path / "run.yaml")), Limits(1, 4 << 30))
    assert 0.01 < calibrated(plan) < 1000
