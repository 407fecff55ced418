"""Filtered images in runs: kept as maps with pyramids, read by later stages as their image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from ome_zarr_models.v05.image import Image

from segpipe import session
from segpipe.config import Config, parse
from segpipe.errors import InputError
from segpipe.methods.mean_shift_modes import mean_shift_modes
from segpipe.methods.slic import slic
from segpipe.regions.measure import measure
from tests.test_run import Quiet

SMOOTH = {"spatial_bandwidth": 4, "range_bandwidth": 20, "iterations": 3, "min_size": 30}
KEPT = {"filtered": True, "modes": True}
STAGES = [
    {"method": "mean-shift", "name": "smooth", "parameters": SMOOTH | KEPT},
    {"method": "slic", "reads": "smooth", "parameters": {"step": 10, "iterations": 3}},
]


@pytest.fixture(scope="module")
def pixels(slide_rgb: np.ndarray) -> np.ndarray:
    return np.tile(slide_rgb[:150], (1, 4, 1))[:, :1100]  # wide enough for a pyramid


def config(pixels: np.ndarray, folder: Path, tiles: Any, stages: Any = STAGES) -> Config:
    path = folder / "image.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb")
    values = {"input": str(path), "output": str(folder / "run"), "stages": stages}
    return parse(values | {"tiles": {"size": tiles}, "cluster": {"workers": "none"}})


def test_run__keeps_and_reads_filtered_images(pixels: np.ndarray, tmp_path: Path) -> None:
    session.execute(config(pixels, tmp_path, [100, 300]), Quiet(), resume=False)
    labels, filtered, modes = mean_shift_modes(pixels, **SMOOTH)
    image = tmp_path / "run/image.ome.zarr"
    group = zarr.open_group(image / "filtered/smooth", mode="r")
    np.testing.assert_array_equal(np.moveaxis(group["0"][:], 0, -1), filtered)
    assert group["1"].shape == (3, 75, 550)
    Image.from_zarr(group)  # valid OME-Zarr
    np.testing.assert_array_equal(zarr.open_array(image / "labels/smooth/0", mode="r")[:], labels)
    table = pq.read_table(tmp_path / "run/segments-smooth.parquet")
    for name, column in modes.items():
        np.testing.assert_array_equal(table[name], column, err_msg=name)

    wanted = slic(filtered, step=10, iterations=3)
    found = zarr.open_array(image / "labels/slic/0", mode="r")[:]
    np.testing.assert_array_equal(found, wanted)
    colours = pq.read_table(tmp_path / "run/segments-slic.parquet")["intensity_mean-1"]
    np.testing.assert_array_equal(
        colours, measure(wanted, filtered)["segments"]["intensity_mean-1"]
    )
    whole = tmp_path / "whole"
    whole.mkdir()
    session.execute(config(pixels, whole, "whole"), Quiet(), resume=False)
    digests = {session.digest_of(str(folder / "run")) for folder in (tmp_path, whole)}
    assert len(digests) == 1


def test_stage__reads_features_that_were_filtered(pixels: np.ndarray, tmp_path: Path) -> None:
    """Four planes of floats are an image like any other."""
    texture = SMOOTH | {"features": "gradient-histogram", "range_bandwidth": 6, "filtered": True}
    stages = [
        {"method": "mean-shift", "name": "texture", "parameters": texture},
        {"method": "threshold", "reads": "texture", "parameters": {"channel": 3}},
    ]
    session.execute(config(pixels[:, :200], tmp_path, [80, 90], stages), Quiet(), resume=False)
    image = tmp_path / "run/image.ome.zarr"
    planes = zarr.open_array(image / "filtered/texture/0", mode="r")
    assert (planes.shape, planes.dtype) == ((4, 150, 200), np.float32)
    assert zarr.open_array(image / "labels/threshold/0", mode="r")[:].max() > 1


def test_stage__without_filtered_image_is_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    stages = [{"method": "mean-shift", "name": "smooth", "parameters": SMOOTH}, STAGES[1]]
    with pytest.raises(InputError, match=r"`image`, or a filtered image .of mean-shift"):
        session.prepare(config(pixels, tmp_path, 64, stages))


def test_methods_of_segments__read_labels_of_a_filtering_stage(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    merging = {"method": "region-merging", "reads": "smooth", "parameters": {"threshold": 4}}
    plan = session.prepare(config(pixels, tmp_path, 64, [STAGES[0], merging]))
    assert plan.stages[1].pixels is None
    assert "segments" in {name for step in plan.stages[1].passes for name in step.reads}
