"""Plans: what they choose, what they refuse, and whether memory stays below what they say."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segpipe.config import parse
from segpipe.errors import DoesNotFit, InputError
from segpipe.passes import ImageInfo
from segpipe.plan import Limits, Plan, make_plan
from segpipe.readers import SourceInfo
from segpipe.regions.finish import label_pass

ROOT = Path(__file__).resolve().parents[1]
GB = 10**9


def plan(shape: tuple[int, int], limits: Limits, **more: Any) -> Plan:
    values = {"input": "a.tif", "output": "o", "method": "slic"} | more
    source = SourceInfo(
        shape, 3, "uint8", more.pop("access", "tiles"), (256, 256), "a.tif", "x", rgb=True
    )
    return make_plan(parse(values), source, limits)


def test_auto__takes_large_tiles_where_memory_allows() -> None:
    roomy = plan((100_000, 120_000), Limits(2, 8 * GB))
    tight = plan((100_000, 120_000), Limits(2, GB))
    assert roomy.grid.size[0] >= 3072
    assert tight.grid.size[0] < roomy.grid.size[0]
    assert tight.peak_bytes <= 0.6 * GB


def test_auto__keeps_all_workers_busy() -> None:
    few = plan((4096, 4096), Limits(1, 8 * GB))
    many = plan((4096, 4096), Limits(16, 8 * GB))
    assert len(many.grid) >= 16
    assert len(many.grid) > len(few.grid)


def test_auto__never_exceeds_the_image() -> None:
    assert plan((100, 90), Limits(2, 8 * GB)).grid.size == (100, 90)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(512, (512, 512)), ([500, 700], (500, 700)), ("whole", (3000, 4000)), (5000, (3000, 4000))],
)
def test_size__is_taken_as_given(size: Any, expected: tuple[int, int]) -> None:
    assert plan((3000, 4000), Limits(2, 8 * GB), tiles={"size": size}).grid.size == expected


def test_memory__is_refused_with_numbers_and_remedies() -> None:
    with pytest.raises(InputError) as caught:
        plan((60_000, 60_000), Limits(2, 2 * GB), tiles={"size": "whole"})
    for word in ("60000 x 60000", "GB per worker", "1.2 GB", "tiles.size", "cluster.memory"):
        assert word in str(caught.value)


def test_tiles__that_kernels_cannot_count_are_refused() -> None:
    with pytest.raises(DoesNotFit, match="1,200,000,000 pixels, and up to 1,000,000,000 are"):
        plan((40_000, 30_000), Limits(1, 1 << 42), tiles={"size": "whole"})


def test_halo__comes_from_the_parameters() -> None:
    halo = {
        step: next(
            row.halo
            for row in plan((9000, 9000), Limits(2, 8 * GB), parameters={"step": step}).rows()
            if row.name == "regions"
        )
        for step in (8, 16, 32)
    }
    assert halo[8] < halo[16] < halo[32]
    assert halo[16] == 16 * 22


def test_identity__changes_with_what_decides_the_labels_alone() -> None:
    limits = Limits(2, 8 * GB)
    base = plan((900, 900), limits).identity
    assert base == plan((900, 900), Limits(9, 3 * GB), tiles={"size": 128}).identity
    assert base == plan((900, 900), limits, output="elsewhere").identity
    assert base != plan((900, 900), limits, parameters={"step": 17}).identity
    assert base != dataclasses.replace(plan((900, 900), limits), mask_fingerprint="m").identity


def test_peak_memory__stays_below_the_plan(slide_rgb: np.ndarray, tmp_path: Path) -> None:
    pixels = np.tile(slide_rgb, (7, 6, 1))[:2600, :2600]
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256), photometric="rgb")
    (tmp_path / "run.yaml").write_text(
        f"input: a.tif\noutput: {tmp_path}/run\nmethod: slic\ntiles: {{size: 1300}}\n"
        "cluster: {workers: 1, memory: 4GB}\n"
    )
    tifffile.imwrite(tmp_path / "small.tif", slide_rgb[:200, :200], photometric="rgb")
    command = [sys.executable, "-m", "segpipe", "run", str(tmp_path / "run.yaml")]
    # compiling, once per installation, takes memory of its own
    small = [*command, "--input", str(tmp_path / "small.tif"), "--output", str(tmp_path / "small")]
    for words in (small, command):
        subprocess.run(words, check=True, cwd=ROOT, timeout=300, capture_output=True)
    state = json.loads((tmp_path / "run/run.json").read_text())
    measured = max(step["peak_bytes"] for step in state["steps"].values())
    projected = plan((2600, 2600), Limits(1, 4 * GB), tiles={"size": 1300}).peak_bytes
    assert measured <= projected, f"{measured / 1e6:.0f} MB against {projected / 1e6:.0f} MB"


def test_advice__names_passes_that_read_the_image_many_times() -> None:
    limits = Limits(2, 8 * GB)
    small, large = (plan((4096, 4096), limits, tiles={"size": edge}) for edge in (64, 2048))
    assert not large.advice
    (line,) = small.advice
    assert "slic-regions reads" in line
    assert "larger ones (tiles.size)" in line


def test_segments__are_refused_where_too_many_are_sure_to_come() -> None:
    stages = [
        {"method": "slic", "parameters": {"step": 12}},
        {"method": "normalised-cuts", "reads": "slic"},
    ]

    def planned(edge: int, step: int) -> Plan:
        chosen = [stages[0] | {"parameters": {"step": step}}, stages[1]]
        return plan((edge, edge), Limits(2, 8 * GB), method=None, stages=chosen)

    assert planned(5000, 12).stages[1].reads == "slic"  # 174 000
    assert planned(5700, 12).stages[1].reads == "slic"  # 226 000: perhaps too many
    with pytest.raises(InputError, match="at most 200,000 segments, and slic will give about 693,"):
        planned(10_000, 12)
    assert planned(10_000, 24).stages[1].reads == "slic"


def test_percentiles__cost_what_the_depth_of_the_image_makes_them() -> None:
    """Counted for 8-bit images, sorted for others: a plan has to know the difference."""
    measured = frozenset({"area", "shape", "colour"})
    images = [
        ImageInfo((999, 999), 3, dtype, measure=groups)
        for dtype in ("uint8", "uint16", "float32")
        for groups in (measured, measured | {"percentiles"})
    ]
    costs = [label_pass(image).cost_ns for image in images]
    extra = [full - standard for standard, full in zip(costs[::2], costs[1::2], strict=True)]
    assert 2 * costs[0] < costs[1] < 4 * costs[0]
    assert 5 * extra[0] < extra[1] < extra[2]
