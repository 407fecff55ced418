"""Files as other programs read them, and what happens when they cannot be written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from segpipe.errors import InputError, RunError
from segpipe.export import export, raster, vector
from segpipe.export.features import features
from segpipe.export.layer import open_layer
from tests.export.runs import NORTH_UP, blobs, canonical, table_of, write_run
from tests.test_cli import segpipe

shapely = pytest.importorskip("shapely")
pyogrio = pytest.importorskip("pyogrio")
rasterio = pytest.importorskip("rasterio")

UTM = "EPSG:32632"
LABELS = blobs((130, 150))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without georeference."""
    return write_run(tmp_path_factory.mktemp("plain"), LABELS)


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an image somewhere in Germany."""
    return write_run(tmp_path_factory.mktemp("placed"), LABELS, transform=NORTH_UP, crs=UTM)


def expected(run: Path) -> dict[int, bytes]:
    """Well-known binary of each label."""
    return {
        label: wkb
        for found in features(open_layer(str(run), None))
        for label, wkb in zip(found.rows["label"].to_pylist(), found.wkb.to_pylist(), strict=True)
    }


def check_attributes(table: Any, *, nested: bool = False) -> None:
    """All columns of the run's table are there, row for row."""
    wanted = table_of(LABELS)
    order = np.argsort(np.asarray(table["label"]))
    for name, column in wanted.items():
        found = [table[name].to_pylist()[i] for i in order]
        values = column.tolist() if isinstance(column, np.ndarray) else column.to_pylist()
        if name == "neighbours" and not nested:
            # GeoJSON holds such text as what it says
            found = [json.loads(v) if isinstance(v, str) else v for v in found]
        assert found == values, name


@pytest.mark.parametrize("run", ["plain", "placed"])
def test_geopackage__is_read_by_gdal(run: str, tmp_path: Path, request: Any) -> None:
    folder = request.getfixturevalue(run)
    target = tmp_path / "cells.gpkg"
    assert export(str(folder), target) == [target]
    info = pyogrio.read_info(target)
    assert (info["crs"], info["geometry_type"]) == (
        UTM if run == "placed" else None,
        "MultiPolygon",
    )
    assert info["layer_name"] == "cells"
    assert pyogrio.list_layers(target).tolist() == [["cells", "MultiPolygon"]]
    meta, table = pyogrio.read_arrow(target)
    check_attributes(table)
    geometry = table[meta["geometry_name"] or "wkb_geometry"].to_pylist()
    assert dict(zip(table["label"].to_pylist(), geometry, strict=True)) == expected(folder)


@pytest.mark.parametrize("run", ["plain", "placed"])
def test_geoparquet__follows_its_specification(run: str, tmp_path: Path, request: Any) -> None:
    folder = request.getfixturevalue(run)
    target = tmp_path / "cells.parquet"
    export(str(folder), target)
    file = pq.ParquetFile(target)
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column, table = geo["columns"]["geometry"], file.read()
    assert (column["encoding"], column["geometry_types"]) == ("WKB", ["MultiPolygon"])
    if run == "placed":
        assert column["crs"]["id"] == {"authority": "EPSG", "code": 32632}
        assert column["crs"]["type"] == "ProjectedCRS"
    else:
        assert column["crs"] is None
    assert file.schema.column(file.schema.names.index("geometry")).physical_type == "BYTE_ARRAY"
    check_attributes(table, nested=True)
    geometry = table["geometry"].to_pylist()
    assert dict(zip(table["label"].to_pylist(), geometry, strict=True)) == expected(folder)
    shapes = shapely.from_wkb(geometry)
    boxes = np.array([list(box.values()) for box in table["bbox"].to_pylist()])
    assert np.array_equal(boxes, shapely.bounds(shapes))
    assert np.array_equal(column["bbox"], shapely.total_bounds(shapes))
    assert list(table["bbox"][0].as_py()) == ["xmin", "ymin", "xmax", "ymax"]
    assert column["covering"]["bbox"]["ymax"] == ["bbox", "ymax"]


def test_geopandas__reads_all(placed: Path, tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    for ending, read in ((".parquet", "read_parquet"), (".gpkg", "read_file")):
        target = tmp_path / f"cells{ending}"
        export(str(placed), target)
        frame = getattr(geopandas, read)(target)
        assert frame.crs.to_epsg() == 32632
        assert frame.is_valid.all()
        assert np.allclose(frame.area, frame["area"] * 0.25)
        assert frame.union_all().area == (LABELS > 0).sum() * 0.25


def test_geojson__is_rfc_7946(placed: Path, tmp_path: Path) -> None:
    from rasterio.warp import transform

    target = tmp_path / "cells.geojson"
    export(str(placed), target)
    document = json.loads(target.read_text())
    assert "crs" not in document, "RFC 7946 knows WGS 84 alone"
    assert pyogrio.read_info(target)["crs"] == "EPSG:4326"
    check_attributes(pyogrio.read_arrow(target)[1])
    wanted = expected(placed)
    for feature in document["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.geom_type == "MultiPolygon"
        assert shape.is_valid
        assert all(part.exterior.is_ccw for part in shape.geoms)
        here = shapely.get_coordinates(shapely.from_wkb(wanted[feature["properties"]["label"]]))
        there = transform(UTM, "EPSG:4326", *here.T)
        # GDAL may begin a ring elsewhere
        assert np.allclose(
            sorted(there[0]), sorted(shapely.get_coordinates(shape)[:, 0]), atol=2e-8
        )
        assert np.allclose(
            sorted(there[1]), sorted(shapely.get_coordinates(shape)[:, 1]), atol=2e-8
        )


def test_geojson_without_georeference__holds_pixels(plain: Path, tmp_path: Path) -> None:
    """And says so, in the file and on the terminal: programs expect longitude and latitude."""
    target = tmp_path / "cells.geojson"
    said = segpipe("export", plain, "--to", target)
    assert "no coordinate system, so coordinates are pixels" in said
    assert "pixels, without a coordinate system" in json.loads(target.read_text())["description"]
    wanted = expected(plain)
    for feature in json.loads(target.read_text())["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.wkb == wanted[feature["properties"]["label"]]


@pytest.mark.parametrize("ending", [".geojson", ".parquet", ".gpkg"])
def test_polygons__can_be_a_mask(ending: str, plain: Path, tmp_path: Path) -> None:
    """What is exported without georeference is in pixels, as a mask is read."""
    from segpipe.readers import open_mask
    from segpipe.readers.base import SourceInfo
    from segpipe.tiles import Box

    target = tmp_path / f"cells{ending}"
    export(str(plain), target)
    info = SourceInfo(LABELS.shape, 1, "uint8", "tiles", (64, 64), "a.tif", "")
    mask = open_mask(str(target), info)
    assert np.array_equal(mask.read(Box((0, 0), LABELS.shape)), LABELS > 0)


def test_csv__is_the_table(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "cells.csv"
    export(str(plain), target)
    table = pyarrow.csv.read_csv(target)
    assert table.column_names == list(table_of(LABELS))
    check_attributes(table)


@pytest.mark.parametrize(
    ("count", "dtype"), [(1, "uint8"), (255, "uint8"), (256, "uint16"), (3000, "uint16")]
)
def test_cog__has_a_palette(count: int, dtype: str, tmp_path: Path) -> None:
    side = int(np.ceil(np.sqrt(count)))
    labels = np.minimum(np.arange(side**2).reshape(side, side) + 1, count)
    labels = np.repeat(np.repeat(labels, 3, 0), 2, 1).astype(np.uint32)
    folder = write_run(tmp_path / "run", labels, transform=NORTH_UP, crs=UTM)
    target = tmp_path / "plain.tif"  # a name that scratch files have had
    assert export(str(folder), target) == [target]
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(1), labels)
        assert (file.dtypes, file.nodata) == ((dtype,), 0)
        assert (file.crs, tuple(file.transform)[:6]) == (UTM, NORTH_UP)
        colours = file.colormap(1)
        assert colours[0][3] == 0
        assert len({colours[label] for label in range(1, count + 1)}) > 0.99 * count
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_cog__has_overviews_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger one in many bands: every pixel, and a layout that can be read by ranges."""
    monkeypatch.setattr("segpipe.export.layer.BAND_PIXELS", 1 << 17)
    labels = np.kron(blobs((130, 150)), np.ones((11, 9), np.uint32))
    folder = write_run(tmp_path / "run", labels, tile=(200, 300))
    target = tmp_path / "cells.tif"
    export(str(folder), target)
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(1), labels)
        assert file.overviews(1) == [2, 4]
        assert file.block_shapes == [(512, 512)]
        small = file.read(1, out_shape=(labels.shape[0] // 4, labels.shape[1] // 4))
        assert set(np.unique(small)) <= set(np.unique(labels))
    import tifffile

    with tifffile.TiffFile(target) as tif:
        pages = list(tif.pages)
        heads = [page.offset for page in pages]
        data = [page.dataoffsets[0] for page in pages]
    assert heads == sorted(heads)
    assert max(heads) < min(data), "all headers come first"
    assert data == sorted(data, reverse=True), "then the smallest overview"


def test_cog_of_many_labels__has_colours_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster, "PALETTE", 100)
    labels = canonical(np.arange(1, 400).repeat(7).reshape(57, -1))
    labels[3:5, 3:5] = 0
    labels = canonical(labels)
    folder = write_run(tmp_path / "run", labels, transform=NORTH_UP, crs=UTM)
    target = tmp_path / "cells.tif"
    colours = tmp_path / "cells.colours.tif"
    assert export(str(folder), target) == [target, colours]
    with rasterio.open(target) as file, rasterio.open(colours) as painted:
        assert np.array_equal(file.read(1), labels)
        assert (file.dtypes, painted.dtypes) == (("uint32",), ("uint8",) * 3)
        assert painted.crs == file.crs == UTM
        assert painted.transform == file.transform
        assert [str(c) for c in painted.colorinterp] == [
            str(c) for c in rasterio.open(colours).colorinterp
        ]
        rgb = painted.read()
        table = raster.palette(int(labels.max()))
        wanted = np.array([table[label][:3] for label in range(len(table))], np.uint8)
        assert np.array_equal(np.moveaxis(rgb, 0, -1), wanted[labels])
        assert (rgb.max(axis=0) > 0).tolist() == (labels > 0).tolist()
    colours.unlink()
    export(str(folder), target, force=True)
    target.unlink()
    with pytest.raises(InputError, match=r"cells\.colours\.tif exists"):
        export(str(folder), target)
    assert not target.exists()


@pytest.mark.parametrize("pixels", [1, 700, 5000, 1 << 24])
def test_files__do_not_depend_on_bands(
    pixels: int, placed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segpipe.export.layer.BAND_PIXELS", pixels)
    monkeypatch.setattr("segpipe.store.arrays.READ_PIXELS", 2 * pixels)
    found = [f for part in features(open_layer(str(placed), None)) for f in part.wkb.to_pylist()]
    monkeypatch.undo()
    whole = [f for part in features(open_layer(str(placed), None)) for f in part.wkb.to_pylist()]
    assert found == whole


def test_background_alone__gives_empty_files(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", np.zeros((40, 50), np.uint32))
    for ending in (".gpkg", ".parquet", ".geojson", ".csv", ".tif"):
        export(str(folder), tmp_path / f"none{ending}")
    assert pyogrio.read_info(tmp_path / "none.gpkg")["features"] == 0
    assert len(pq.read_table(tmp_path / "none.parquet")) == 0
    assert json.loads((tmp_path / "none.geojson").read_text())["features"] == []


def test_stage__is_chosen(tmp_path: Path) -> None:
    counts = {"cells": {"segments": 1, "digest": ""}, "nuclei": {"segments": 2, "digest": ""}}
    folder = write_run(tmp_path / "run", LABELS)
    state = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(state | {"labels": counts}))
    # the last one unless another is named; this one has no table
    text = segpipe("export", folder, "--to", tmp_path / "a.csv", code=2)
    assert "stage nuclei, the last (--stage: cells)" in text
    assert "no table segments-nuclei.parquet" in text
    (folder / "segments.parquet").rename(folder / "segments-cells.parquet")
    target = tmp_path / "a.gpkg"
    assert str(target) in segpipe("export", folder, "--to", target, "--stage", "cells")
    assert pyogrio.read_info(target)["features"] == LABELS.max()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("a.shp", [".shp", ".gpkg (GeoPackage)", ".parquet", ".geojson", ".tif", ".csv"]),
        ("a", ["no format", ".gpkg"]),
        ("there.gpkg", ["exists", "--force"]),
        ("none/a.csv", ["no folder"]),
        ("folder.csv", ["is a folder"]),
        ("s3://bucket/a.csv", ["path on this machine"]),
    ],
)
def test_bad_target__is_explained(
    target: str, words: list[str], plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "there.gpkg").write_text("precious")
    (tmp_path / "folder.csv").mkdir()
    where = target if "://" in target else tmp_path / target
    text = segpipe("export", plain, "--to", where, code=2)
    for word in words:
        assert word in text
    assert (tmp_path / "there.gpkg").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_run__is_explained(plain: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.csv"
    assert "no run" in segpipe("export", tmp_path / "none", "--to", target, code=2)
    assert not (tmp_path / "none").exists()
    text = segpipe("export", plain, "--to", target, "--stage", "nuclei", code=2)
    assert "no label image `nuclei`; it has cells" in text
    going = write_run(tmp_path / "going", LABELS[:9, :9], state="running")
    assert "segpipe resume" in segpipe("export", going, "--to", target, code=2)
    (going / "run.json").write_text("{")
    assert "damaged" in segpipe("export", going, "--to", target, code=2)
    assert not target.exists()


@pytest.mark.parametrize(
    ("ending", "library"), [("gpkg", "pyogrio"), ("geojson", "pyogrio"), ("tif", "rasterio")]
)
def test_missing_extra__is_named(
    ending: str, library: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = segpipe("export", plain, "--to", tmp_path / f"a.{ending}", code=2)
    assert library in text
    assert "segpipe[geo]" in text


def test_unknown_coordinate_system__is_explained(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", LABELS[:20, :20], transform=NORTH_UP, crs="EPSG:1")
    for ending in ("gpkg", "geojson", "parquet", "tif"):
        with pytest.raises(InputError, match="EPSG:1"):
            export(str(folder), tmp_path / f"a.{ending}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "geojson", "tif", "csv"])
def test_force__replaces_whole_files_only(
    ending: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / f"a.{ending}"
    target.write_text("old")

    def fail(done: int) -> None:
        raise RunError("the disk is full")

    with pytest.raises(RunError, match="disk is full"):
        export(str(plain), target, force=True, say=fail)
    assert target.read_text() == "old"
    export(str(plain), target, force=True)
    assert target.stat().st_size > 1000
    assert [p.name for p in tmp_path.iterdir()] == [target.name], "something was left behind"


@pytest.mark.parametrize("ending", ["gpkg", "parquet", "geojson", "tif", "csv"])
def test_full_disk__is_said_and_nothing_is_half_there(
    ending: str, tmp_path: Path, small_disk: Path
) -> None:
    """GDAL gives other reasons, takes back what it wrote, or crashes."""
    folder = write_run(tmp_path / "run", blobs((300, 400)))
    (whole,) = export(str(folder), tmp_path / f"a.{ending}")
    target = small_disk / f"a.{ending}"
    target.write_text("old")
    for share in (0.1, 0.9):
        fill = small_disk / "fill"
        fill.unlink(missing_ok=True)
        room = shutil.disk_usage(small_disk).free - int(share * whole.stat().st_size)
        fill.write_bytes(bytes(room))
        text = segpipe("export", folder, "--to", target, "--force", code=2)
        assert f"cannot write {target}: the disk is full" in text
        assert target.read_text() == "old"
        assert sorted(p.name for p in small_disk.iterdir()) == [target.name, "fill"]
    fill.unlink()
    export(str(folder), target, force=True)
    assert target.stat().st_size == whole.stat().st_size


def test_inside_the_run__is_allowed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", LABELS[:40, :40])
    segpipe("export", folder, "--to", folder / "cells.parquet")
    assert (folder / "cells.parquet").is_file()


def test_damaged_labels__are_reported(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", LABELS)
    chunk = max(folder.glob("image.ome.zarr/labels/cells/0/c/*/*"))
    chunk.write_bytes(chunk.read_bytes()[:20])
    text = segpipe("export", folder, "--to", tmp_path / "a.gpkg", code=1)
    assert "damaged" in text
    assert not (tmp_path / "a.gpkg").exists()


def test_decimals__tell_pixels_apart(placed: Path, tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run", LABELS[:9, :9], transform=(1e-3, 0, 5e5, 0, -1e-3, 5e6), crs=UTM
    )
    assert vector._decimals(open_layer(str(placed), None)) == 8
    assert vector._decimals(open_layer(str(folder), None)) == 11
