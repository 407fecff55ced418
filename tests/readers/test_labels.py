"""Label images: the numbers in the file, whatever the format; several annotators where there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image
from scipy.io import savemat

from segpipe.readers import ReadError, SourceInfo
from segpipe.readers.labels import open_labels
from segpipe.readers.polygons import read_polygons
from segpipe.tiles import Box, Grid

SHAPE = (40, 50)


@pytest.fixture
def labels() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (y // 7 * 8 + x // 9 + (y * x) % 2).astype(np.uint8)


def whole(source) -> np.ndarray:
    return source.read(Box((0, 0), source.info.shape))[0]


def image_info(**more) -> SourceInfo:
    return SourceInfo(SHAPE, 1, "uint8", "tiles", (16, 16), "image", "", **more)


def check(where: Path | str, *expected: np.ndarray) -> None:
    """The label images of a file, read whole and by windows."""
    sources = open_labels(where)
    assert len(sources) == len(expected)
    for source, values in zip(sources, expected, strict=True):
        assert source.info.shape == SHAPE
        np.testing.assert_array_equal(whole(source), values)
        for tile in Grid(SHAPE, (13, 17)).tiles(3):
            np.testing.assert_array_equal(source.read(tile.window)[0], values[tile.window.slices])
        source.close()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png__gray(labels: np.ndarray, tmp_path: Path, dtype: type) -> None:
    values = labels.astype(dtype) * (1 if dtype == np.uint8 else 1000)
    Image.fromarray(values).save(tmp_path / "a.png")
    check(tmp_path / "a.png", values)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette__numbers_not_colours(labels: np.ndarray, tmp_path: Path, name: str) -> None:
    """As in PASCAL VOC: 255 is void; here two numbers share one colour."""
    values = np.where(labels > 40, 255, labels % 4).astype(np.uint8)
    image = Image.fromarray(values, mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 128, 0, 0, 9, 9, 9] + [7] * 756)
    image.save(tmp_path / name, optimize=False)
    check(tmp_path / name, values)


def test_rgb__colours_are_one_number(labels: np.ndarray, tmp_path: Path) -> None:
    colours = np.stack([labels, labels // 2, 255 - labels], axis=-1)
    Image.fromarray(colours).save(tmp_path / "a.png")
    red, green, blue = (colours[..., c].astype(int) for c in range(3))
    check(tmp_path / "a.png", red * 65536 + green * 256 + blue)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32", "int64", "float32"])
def test_tiff__any_type(labels: np.ndarray, tmp_path: Path, dtype: str) -> None:
    values = labels.astype(dtype) - (3 if dtype[0] != "u" else 0)
    tifffile.imwrite(tmp_path / "a.tif", values, tile=(16, 16))
    check(tmp_path / "a.tif", values)


def test_ome_zarr__label_image(labels: np.ndarray, tmp_path: Path) -> None:
    from segpipe.store.arrays import create_array, open_array
    from segpipe.store.folder import Folder
    from segpipe.store.ome import Calibration, publish_labels

    folder = Folder(str(tmp_path / "a.ome.zarr"))
    create_array(folder, "labels/x/0", SHAPE, "uint64", (32, 32))
    values = labels.astype(np.uint64) << np.uint64(40)
    open_array(folder, "labels/x/0")[:] = values
    publish_labels(folder, "x", 1, Calibration(), {})
    check(tmp_path / "a.ome.zarr/labels/x", values)


def test_numpy__one_or_several_annotators(labels: np.ndarray, tmp_path: Path) -> None:
    other = labels // 3
    np.save(tmp_path / "a.npy", np.asfortranarray(labels))
    check(tmp_path / "a.npy", labels)
    np.save(tmp_path / "b.npy", np.stack([labels, other]).astype(">u2"))
    check(tmp_path / "b.npy", labels, other)
    np.savez_compressed(tmp_path / "a.npz", segs=np.stack([labels, other]))
    check(tmp_path / "a.npz", labels, other)
    np.savez(tmp_path / "b.npz", img=labels[..., None] * 0.3, msk=labels[..., None], ids=[[1, 2]])
    check(tmp_path / "b.npz", labels)
    np.savez(tmp_path / "c.npz", a=labels, b=other)
    check(f"{tmp_path}/c.npz::b", other)
    check(f"file://{tmp_path}/c.npz::a", labels)


def test_mat__annotators_of_bsds(labels: np.ndarray, tmp_path: Path) -> None:
    """The structure of the Berkeley data set: a cell per annotator, each a structure."""
    cells = np.empty((1, 3), object)
    for i in range(3):
        cells[0, i] = {
            "Segmentation": labels.astype(np.uint16) // (i + 1),
            "Boundaries": labels > 5,
        }
    savemat(tmp_path / "a.mat", {"groundTruth": cells})
    check(tmp_path / "a.mat", labels, labels // 2, labels // 3)
    check(f"{tmp_path}/a.mat::groundTruth", labels, labels // 2, labels // 3)


def test_mat__a_variable(labels: np.ndarray, tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"S": labels.astype(float), "scale": 2.5, "names": ["a", "b"]})
    check(tmp_path / "a.mat", labels)


def write_features(path: Path, *geometries: dict) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": one} for one in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def square(top: float, left: float, bottom: float, right: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def test_vector__features_are_objects(tmp_path: Path) -> None:
    """A feature of two parts is one object, holes are holes, a later feature lies on top."""
    path = write_features(
        tmp_path / "a.geojson",
        {"type": "Polygon", "coordinates": [square(2, 3, 20, 30), square(5, 6, 10, 12)]},
        {"type": "MultiPolygon", "coordinates": [[square(15, 20, 25, 40)], [square(30, 1, 38, 9)]]},
        {"type": "Point", "coordinates": [1, 1]},
        {"type": "Polygon", "coordinates": [square(-5, 45, 100, 60)]},
    )
    expected = np.zeros(SHAPE, int)
    expected[2:20, 3:30] = 1
    expected[5:10, 6:12] = 0
    expected[15:25, 20:40] = 2
    expected[30:38, 1:9] = 2
    expected[:, 45:] = 4
    (source,) = open_labels(path, image_info())
    np.testing.assert_array_equal(whole(source), expected)
    for tile in Grid(SHAPE, (7, 11)).tiles(2):
        np.testing.assert_array_equal(source.read(tile.window)[0], expected[tile.window.slices])


def test_vector__in_world_coordinates_and_geopackage(tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio")
    shapely = pytest.importorskip("shapely")
    info = image_info(crs="EPSG:32632", transform=(10, 0, 5000, 0, -10, 9000))
    rings = [
        [(5000 + 10 * x, 9000 - 10 * y) for x, y in square(*at)]
        for at in ((1, 2, 9, 9), (9, 2, 30, 40))
    ]
    path = tmp_path / "a.gpkg"
    pyogrio.raw.write(
        path,
        geometry=shapely.to_wkb([shapely.Polygon(r) for r in rings]),
        field_data=[],
        fields=[],
        geometry_type="Polygon",
        crs="EPSG:32632",
    )
    expected = np.zeros(SHAPE, int)
    expected[1:9, 2:9] = 1
    expected[9:30, 2:40] = 2
    (source,) = open_labels(path, info)
    np.testing.assert_array_equal(whole(source), expected)
    assert read_polygons(str(path), info).draw(Box((0, 0), SHAPE)).sum() == (expected > 0).sum()


def write_geoparquet(path: Path, cells: list[bytes | None], **column: Any) -> str:
    """Write geometries as geopandas does, beside another column."""
    about = {"encoding": "WKB", "geometry_types": [], **column}
    geo = {"version": "1.0.0", "primary_column": "shape", "columns": {"shape": about}}
    table = pa.table({"name": [str(n) for n in range(len(cells))], "shape": cells})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)
    return str(path)


def test_vector__geoparquet(tmp_path: Path) -> None:
    shapely = pytest.importorskip("shapely")
    first, second = square(1, 2, 9, 9), square(9, 2, 30, 40)
    cells = [shapely.Polygon(first).wkb, None, shapely.MultiPolygon([[second, []]]).wkb]
    expected = np.zeros(SHAPE, int)
    expected[1:9, 2:9], expected[9:30, 2:40] = 1, 3
    there = {"crs": {"id": {"authority": "EPSG", "code": 32632}}}
    path = write_geoparquet(tmp_path / "a.parquet", cells, **there)
    for info in (image_info(), image_info(crs="EPSG:32632", transform=(1, 0, 0, 0, 1, 0))):
        (source,) = open_labels(path, info)
        np.testing.assert_array_equal(whole(source), expected)
    degrees = image_info(crs="EPSG:4326", transform=(1, 0, 0, 0, 1, 0))
    with pytest.raises(ReadError, match="are in EPSG:32632, the image is in EPSG:4326"):
        open_labels(path, degrees)
    (source,) = open_labels(write_geoparquet(tmp_path / "b.parquet", cells), degrees)
    np.testing.assert_array_equal(whole(source), expected)
    with pytest.raises(ReadError, match="has geometries as point; write them as WKB"):
        open_labels(write_geoparquet(tmp_path / "c.parquet", cells, encoding="point"), degrees)
    pq.write_table(pa.table({"area": [1]}), tmp_path / "d.parquet")
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    for name in ("d.parquet", "e.parquet"):
        with pytest.raises(ReadError, match=f"{name} is not GeoParquet"):
            open_labels(tmp_path / name, degrees)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.png", None, ["none.png", "does not exist"]),
        ("none.npz", None, ["none.npz", "does not exist"]),
        ("a.txt", b"labels", ["no known format", ".mat", ".parquet"]),
        ("a.npz", b"labels", ["NumPy", "a.npz"]),
        ("a.npy", b"labels", ["NumPy", "a.npy"]),
        ("a.mat", b"labels", ["MATLAB", "a.mat"]),
        ("a.jpg", b"\xff\xd8\xff", ["JPEG changes"]),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 17 + b"\x03" + b"\0" * 9, ["palette", "a.png"]),
        ("a.png", b"", ["empty"]),
        ("a.geojson", b"{}", ["need an image"]),
        ("a.png::x", b"", ["::", "npz"]),
    ],
)
def test_errors__are_explained(
    name: str, content: bytes | None, words: list[str], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name.partition("::")[0]).write_bytes(content)
    with pytest.raises(ReadError) as error:
        open_labels(f"{tmp_path}/{name}")
    for word in words:
        assert word in str(error.value)


def test_errors__arrays_that_are_no_labels(labels: np.ndarray, tmp_path: Path) -> None:
    def refused(words: str, pick: str = "", **arrays: np.ndarray) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ReadError, match=words):
            open_labels(f"{tmp_path}/a.npz{pick}")

    refused("several arrays: a uint8 .*; choose one with FILE::NAME", a=labels, b=labels)
    refused("no array `c`; it has a, b", "::c", a=labels, b=labels)
    refused("no labels in it but nothing")
    refused("no labels in it but a float64", a=labels + 0.5, b=np.zeros(3, int))
    refused("no annotator", segs=np.zeros((0, 4, 5), int))
    refused(r"shape \(4,\) is no label image", a=np.zeros(4, int))
    np.save(tmp_path / "o.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ReadError, match=r"o\.npy cannot be read"):
        open_labels(tmp_path / "o.npy")
    (tmp_path / "h.mat").write_bytes(
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\0" * 400
    )
    with pytest.raises(ReadError, match=r"h\.mat cannot be read as a MATLAB file"):
        open_labels(tmp_path / "h.mat")


def test_matlab__7_3_is_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MATLAB writes columns first: what h5py sees is turned."""
    h5py = pytest.importorskip("h5py")
    labels = np.arange(20, dtype=np.uint16).reshape(4, 5)
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    for name, cells in (("one.mat", 0), ("bsds.mat", 2)):
        with h5py.File(tmp_path / name, "w", userblock_size=512) as file:
            if not cells:
                file["labels"] = labels.T.astype(float)
            refs = np.empty((1, cells), h5py.ref_dtype)
            for k in range(cells):
                file[f"#refs#/{k}/Segmentation"] = labels.T + k
                refs[0, k] = file[f"#refs#/{k}"].ref
            if cells:
                file.create_dataset("groundTruth", data=refs, dtype=h5py.ref_dtype)
        with (tmp_path / name).open("r+b") as file:
            file.write(head)
    (one,) = open_labels(tmp_path / "one.mat")
    assert one.read(Box((1, 0), (3, 5)))[0].tolist() == labels[1:3].tolist()
    found = open_labels(tmp_path / "bsds.mat")
    assert [source.read(Box((0, 0), (4, 5)))[0][0, 1] for source in found] == [1, 2]
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ReadError, match=r"pip install 'segpipe\[mat\]'"):
        open_labels(tmp_path / "one.mat")


def test_errors__images_that_are_no_labels(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9, 5), np.uint16), planarconfig="contig")
    with pytest.raises(ReadError, match="5 channels of uint16"):
        open_labels(tmp_path / "a.tif")


def test_bsds__as_published(data: Callable[[str], Path]) -> None:
    """4 to 9 annotators of each image, all of its size."""
    path = sorted(data("bsds500/gt/val").glob("*.npz"))[0]
    sources = open_labels(path)
    shape = Image.open(data(f"bsds500/images/val/{path.stem}.jpg")).size[::-1]
    assert 4 <= len(sources) <= 9
    assert {source.info.shape for source in sources} == {shape}
