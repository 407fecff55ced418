"""The run folder: what is written is read, what is published is valid OME-Zarr, digests agree."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from shutil import disk_usage

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.errors import DiskFull, RunError
from segpipe.store.arrays import (
    Region,
    as_pixels,
    as_planes,
    checksum,
    create_array,
    open_array,
    storage_shape,
)
from segpipe.store.digest import array_digest, label_digest
from segpipe.store.folder import Folder
from segpipe.store.ome import Calibration, level_shapes, publish_image, publish_labels
from segpipe.store.pyramid import halve_mean, halve_nearest
from segpipe.store.tables import Recipe, assemble, part_name, read_part, write_part
from segpipe.tiles import Box, Grid


@pytest.mark.parametrize("tile", [(64, 64), (100, 70), (600, 500), (211, 300)])
@pytest.mark.parametrize("dtype", ["uint8", "uint32", "uint64", "float32"])
def test_region__reads_what_was_written(tmp_path: Path, tile: tuple, dtype: str) -> None:
    rng = np.random.default_rng(0)
    folder = Folder(str(tmp_path))
    values = (rng.random((211, 300)) * 1000).astype(dtype)
    create_array(folder, "a/b", values.shape, dtype, tile)
    for part in Grid(values.shape, tile).tiles():
        region = Region(folder, "a/b", part.core)
        assert region.write(values[part.core.slices]) == checksum(region.read())
    window = Region(folder, "a/b", Box((13, 50), (200, 260)))
    np.testing.assert_array_equal(window.read(), values[13:200, 50:260])


def test_image__is_stored_channel_first(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    create_array(folder, "0", (3, 40, 50), "uint8", (40, 50))
    whole = Region(folder, "0", Box((0, 0), (40, 50)))
    assert whole.write(as_planes(image)) == checksum(whole.read())
    assert whole.read().shape == (3, 40, 50)
    np.testing.assert_array_equal(as_pixels(whole.read()), image)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_planes_and_pixels__are_inverse(channels: int) -> None:
    image = np.random.default_rng(1).integers(0, 999, (30, 41, channels), dtype=np.uint16)
    planes = as_planes(image)
    np.testing.assert_array_equal(planes, np.moveaxis(image, -1, 0))
    assert planes.flags.c_contiguous
    assert np.shares_memory(as_planes(np.moveaxis(planes, 0, -1)), planes)
    np.testing.assert_array_equal(as_pixels(planes), image)
    np.testing.assert_array_equal(as_planes(image[3:20, 5:30]), planes[:, 3:20, 5:30])


def test_create_array__keeps_what_fits_and_replaces_what_does_not(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    create_array(folder, "a", (40, 50), "uint8", (40, 50))
    region = Region(folder, "a", Box((0, 0), (40, 50)))
    region.write(np.ones((40, 50), np.uint8))
    create_array(folder, "a", (40, 50), "uint8", (40, 50))
    assert region.read().all()
    create_array(folder, "a", (40, 50), "uint16", (40, 50))
    assert not region.read().any()


def test_open_array__missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no array x"):
        open_array(Folder(str(tmp_path)), "x")


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_storage_shape__chunks_divide_the_tile(rows: int, columns: int) -> None:
    shard, chunk = storage_shape((rows, columns))
    assert shard == (rows, columns)
    assert rows % chunk[0] == 0
    assert columns % chunk[1] == 0


@pytest.mark.parametrize("tile", [(64, 64), (50, 70), (300, 211)])
def test_digest__is_that_of_the_values(tmp_path: Path, tile: tuple) -> None:
    folder = Folder(str(tmp_path))
    labels = np.random.default_rng(0).integers(0, 1 << 31, (211, 300)).astype(np.uint32)
    create_array(folder, "a", labels.shape, "uint32", tile)
    for part in Grid(labels.shape, tile).tiles():
        Region(folder, "a", part.core).write(labels[part.core.slices])
    text = b"(211, 300)uint64" + labels.astype("<u8").tobytes()
    assert label_digest(folder, "a") == hashlib.sha256(text).hexdigest() == array_digest(labels)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_halving__of_aligned_blocks_is_halving_of_the_whole(h: int, w: int, seed: int) -> None:
    planes = np.random.default_rng(seed).integers(0, 255, (2, h, w), dtype=np.uint8)
    whole = halve_mean(planes)
    for part in Grid((h, w), (8, 12)).tiles():
        (y0, x0), (y1, x1) = part.core.start, part.core.stop
        block = np.s_[:, y0 // 2 : -(-y1 // 2), x0 // 2 : -(-x1 // 2)]
        np.testing.assert_array_equal(halve_mean(planes[:, y0:y1, x0:x1]), whole[block])
    padded = np.pad(planes.astype(float), ((0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    mean = padded.reshape(2, -(-h // 2), 2, -(-w // 2), 2).mean(axis=(2, 4))
    np.testing.assert_array_equal(whole, np.floor(mean + 0.5))
    np.testing.assert_allclose(halve_mean(planes.astype(np.float32)), mean, rtol=1e-6)
    np.testing.assert_array_equal(halve_nearest(planes[0]), planes[0, ::2, ::2])


def test_published_image__satisfies_independent_validators(tmp_path: Path) -> None:
    import yaozarrs
    from ome_zarr_models.v05 import Image

    folder = Folder(str(tmp_path / "image.ome.zarr"))
    shapes = level_shapes((1500, 1100))
    for level, shape in enumerate(shapes):
        create_array(folder, str(level), (3, *shape), "uint8", (256, 256))
        create_array(folder, f"labels/slic/{level}", shape, "uint32", (256, 256))
    size = Calibration((0.5, 0.5), "micrometer")
    publish_labels(folder, "slic", len(shapes), size, {"digest": "x"})
    publish_image(folder, len(shapes), size, ["red", "green", "blue"], {})
    yaozarrs.validate_zarr_store(str(folder))
    image = Image.from_zarr(zarr.open_group(str(folder), mode="r"))
    datasets = image.ome_attributes.multiscales[0].datasets
    assert [d.path for d in datasets] == ["0", "1"]
    assert datasets[1].coordinateTransformations[0].scale == [1.0, 1.0, 1.0]
    assert image.labels is not None
    assert image.labels.ome_attributes.labels == ["slic"]


def test_table__is_sorted_and_whole(tmp_path: Path) -> None:
    """Segment 2 reaches down two bands, 6 one; 4 begins in the middle band."""
    import pyarrow.parquet as pq

    folder, n = Folder(str(tmp_path)), iter(range(6))
    columns = lambda labels: {"label": np.array(labels, int), "sum": np.array(labels, int) % 5}  # noqa: E731
    done, opened = [[1], [3], [], [5], [9], [8]], [[2], [2], [2, 4], [4, 6], [6, 2], [7]]
    for number, ended, going_on in zip(n, done, opened, strict=True):
        write_part(folder, part_name("w", "done", number), columns(ended))
        write_part(folder, part_name("w", "sums", number), columns(going_on))

    def merge(parts: dict) -> dict:
        labels, place = np.unique(parts["sums"]["label"], return_inverse=True)
        return {
            "sums": {"label": labels, "sum": np.bincount(place, parts["sums"]["sum"]).astype(int)}
        }

    recipe = Recipe(("sums",), merge, lambda parts: parts["sums"], [1, 4, 7, 10])
    found = assemble(folder, "t.parquet", "w", [(0, 1), (2, 3), (4, 5)], recipe)
    assert found == folder.checksum("t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert table["label"].to_pylist() == list(range(1, 10))
    assert table["sum"].to_pylist() == [1, 8, 3, 8, 0, 2, 2, 3, 4]
    assert pq.ParquetFile(tmp_path / "t.parquet").metadata.num_row_groups == 3
    write_part(folder, "wide", {"label": np.arange(2), "sums": np.arange(6).reshape(2, 3)})
    assert read_part(folder, "wide")["sums"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_folder__objects_are_whole_or_absent(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "run"))
    assert folder.get("a") is None
    assert not (tmp_path / "run").exists(), "looking must not create the folder"
    folder.put_json("b/a.json", {"n": 1})
    assert folder.get_json("b/a.json") == {"n": 1}
    folder.put_arrays("r/1.npz", {"x": np.arange(3)})
    assert folder.get_arrays("r/1.npz")["x"].tolist() == [0, 1, 2]
    data = (tmp_path / "run/r/1.npz").read_bytes()
    (tmp_path / "run/r/1.npz").write_bytes(data[: len(data) // 2])
    assert folder.get_arrays("r/1.npz") is None
    assert folder.names("r/") == ["r/1.npz"]
    folder.delete("r")
    assert folder.names() == ["b/a.json"]


def test_records__are_never_unpickled(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    assert folder.get_arrays("evil.npz") is None


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_write__over_a_shard_that_was_cut_short(tmp_path: Path, keep: float) -> None:
    """At the image border a shard is read before it is written: a half-written one in vain."""
    folder, box = Folder(str(tmp_path)), Box((256, 256), (300, 310))
    create_array(folder, "a", (300, 310), "uint32", (256, 256))
    pixels = np.arange(44 * 54, dtype=np.uint32).reshape(44, 54)
    region = Region(folder, "a", box)
    expected = region.write(pixels)
    shard = tmp_path / "a/c/1/1"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    assert region.write(pixels) == expected
    assert (region.read() == pixels).all()


def test_write__on_a_full_disk_leaves_no_half_shard(small_disk: Path) -> None:
    folder, box = Folder(str(small_disk)), Box((0, 0), (2048, 2048))
    create_array(folder, "a", (2048, 2048), "uint32", (2048, 2048))
    noise = np.random.default_rng(0).integers(0, 1 << 32, (2048, 2048), np.uint32)
    with pytest.raises(
        DiskFull, match=r"a: the disk is full \(.* free, .* up to 16.8 MB\)"
    ) as caught:
        Region(folder, "a", box).write(noise)
    assert "segpipe resume" in str(caught.value)
    assert not (small_disk / "a/c/0/0").exists()
    assert disk_usage(small_disk).free > 4_900_000


def test_parts__do_without_pandas(tmp_path: Path) -> None:
    """Arrow would import it for arrays of NumPy's: a second for every worker of every run."""
    code = f"""
import sys, numpy as np
from segpipe.store import tables
from segpipe.store.folder import Folder
columns = {{"label": np.arange(14), "mean": np.arange(14) / 2, "sums": np.eye(14, dtype="u1")}}
columns["mean"][3] = np.nan
columns |= {{"edge": columns["label"] % 3 == 0, "all": columns["sums"] > 0}}
folder = Folder({str(tmp_path)!r})
tables.write_part(folder, "part", columns)
found = tables.read_part(folder, "part")
assert {{k: v.dtype for k, v in found.items()}} == {{k: v.dtype for k, v in columns.items()}}
assert all(np.array_equal(found[k], columns[k], equal_nan=True) for k in columns), found
none = {{k: v[:0] for k, v in columns.items()}}
tables.write_part(folder, "none", none)
assert all(np.array_equal(v, none[k]) for k, v in tables.read_part(folder, "none").items())
tables.write_table(folder, "table.parquet", {{"label": columns["label"]}})
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
