"""Masks: rasters and polygons, drawn alike whatever the boxes are."""

import json
import pickle

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segpipe.readers import ReadError, SourceInfo, open_mask
from segpipe.readers.polygons import _edges
from segpipe.tiles import Box, Grid

SHAPE = (90, 120)


def image_info(shape=SHAPE, **fields):
    """An image of which only the geometry matters."""
    return SourceInfo(shape, 1, "uint8", "tiles", (32, 32), "image.tif", "", **fields)


def write_geojson(path, *polygons, crs=None, kind="Polygon"):
    """Write rings as features."""
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": kind, "coordinates": rings}}
        for rings in polygons
    ]
    content = {"type": "FeatureCollection", "features": features}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def whole(mask, shape=SHAPE):
    return mask.read(Box((0, 0), shape))


def box_ring(top, left, bottom, right):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def crossings(rings, y, x):
    """Count, naively, how often a ray to the left of a pixel centre crosses the rings."""
    count = 0
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            if y0 <= y + 0.5 < y1 and x0 + (y + 0.5 - y0) * ((x1 - x0) / (y1 - y0)) <= x + 0.5:
                count += 1
    return count


def naive(polygons, shape):
    """Even-odd per polygon, united: the definition."""
    out = np.zeros(shape, np.uint8)
    for y in range(shape[0]):
        for x in range(shape[1]):
            out[y, x] = any(crossings(rings, y, x) % 2 for rings in polygons)
    return out


points = st.tuples(st.integers(-15, 80), st.integers(-15, 80)).map(lambda p: [p[0] / 4, p[1] / 4])
ring = st.lists(points, min_size=3, max_size=7)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(ring, min_size=1, max_size=2), min_size=1, max_size=3), st.integers(1, 16))
def test_polygons__as_defined_and_the_same_in_every_window(polygons, size):
    """Corners and edges through pixel centres (quarters of a pixel) included."""
    shape = (16, 16)
    closed = [[np.array([*r, r[0]], float) for r in rings] for rings in polygons]
    drawn = _edges(closed)
    expected = naive(polygons, shape)
    np.testing.assert_array_equal(drawn.draw(Box((0, 0), shape)), expected)
    for tile in Grid(shape, (size, size)).tiles(halo=2):
        np.testing.assert_array_equal(drawn.draw(tile.window), expected[tile.window.slices])


def test_polygons__irrational_slopes_in_every_window():
    rng = np.random.default_rng(5)
    shape = (700, 900)
    star = rng.random((400, 2)) * (900, 700)
    drawn = _edges([[np.concatenate([star, star[:1]])]])
    expected = drawn.draw(Box((0, 0), shape))
    assert 0.2 < expected.mean() < 0.8
    for size in ((64, 64), (1, 900), (333, 7)):
        for tile in list(Grid(shape, size).tiles(halo=3))[::7]:
            np.testing.assert_array_equal(drawn.draw(tile.window), expected[tile.window.slices])


def test_polygons__hole_and_union(tmp_path):
    path = write_geojson(
        tmp_path / "a.geojson",
        [box_ring(10, 10, 40, 50), box_ring(20, 20, 30, 30)],
        [box_ring(35, 40, 60, 70)],
    )
    expected = np.zeros(SHAPE, np.uint8)
    expected[10:40, 10:50] = 1
    expected[20:30, 20:30] = 0
    expected[35:60, 40:70] = 1
    mask = open_mask(path, image_info())
    np.testing.assert_array_equal(whole(mask), expected)
    np.testing.assert_array_equal(whole(pickle.loads(pickle.dumps(mask))), expected)


def test_polygons__neighbours_share_every_pixel_once():
    """Two halves of a square along a slanted edge: no gap, no overlap."""
    a = np.array([[0, 0], [61.3, 0], [37.7, 80], [0, 80], [0, 0]])
    b = np.array([[37.7, 80], [100, 80], [100, 0], [61.3, 0], [37.7, 80]])
    box = Box((0, 0), (80, 100))
    np.testing.assert_array_equal(_edges([[a]]).draw(box) + _edges([[b]]).draw(box), 1)


@pytest.mark.parametrize("crs", [None, "EPSG:32632", "urn:ogc:def:crs:EPSG::32632"])
def test_polygons__world_coordinates(tmp_path, crs):
    info = image_info(crs="EPSG:32632", transform=(10, 0, 5000, 0, -10, 9000))
    ring = [[5000 + 10 * x, 9000 - 10 * y] for x, y in box_ring(7, 11, 20, 33)]
    path = write_geojson(tmp_path / "a.json", [[ring]], crs=crs, kind="MultiPolygon")
    expected = np.zeros(SHAPE, np.uint8)
    expected[7:20, 11:33] = 1
    np.testing.assert_array_equal(whole(open_mask(path, info)), expected)


@pytest.mark.parametrize("suffix", ["gpkg", "shp"])
def test_polygons__geopackage_and_shapefile(tmp_path, suffix):
    pyogrio = pytest.importorskip("pyogrio.raw", reason="pyogrio is not installed")
    shapely = pytest.importorskip("shapely", reason="shapely is not installed")
    path = tmp_path / f"a.{suffix}"
    shape = shapely.Polygon(box_ring(10, 10, 40, 50), [box_ring(20, 20, 30, 30)])
    pyogrio.write(
        str(path), np.array([shape.wkb], object), [], [], geometry_type="Polygon", crs="EPSG:4326"
    )
    info = image_info(crs="EPSG:4326", transform=(1, 0, 0, 0, 1, 0))
    assert whole(open_mask(path, info)).sum() == 30 * 40 - 100
    with pytest.raises(ReadError, match=r"in EPSG:4326, the image is in EPSG:32632; reproject"):
        open_mask(path, image_info(crs="EPSG:32632", transform=(1, 0, 0, 0, 1, 0)))


def test_polygons__other_crs(tmp_path):
    path = write_geojson(
        tmp_path / "a.geojson", [box_ring(1, 1, 9, 9)], crs="urn:ogc:def:crs:OGC:1.3:CRS84"
    )
    info = image_info(crs="EPSG:32632", transform=(1, 0, 0, 0, -1, 0))
    with pytest.raises(ReadError, match="OGC:CRS84, the image is in EPSG:32632; reproject"):
        open_mask(path, info)
    open_mask(path, image_info(crs="EPSG:4326", transform=(1, 0, 0, 0, 1, 0)))


def test_polygons__none_touches(tmp_path):
    path = write_geojson(tmp_path / "a.geojson", [box_ring(1000, 1000, 1100, 1100)])
    with pytest.raises(ReadError, match=r"columns 1000.0 to 1100.0.*120 columns and 90 rows"):
        open_mask(path, image_info())


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"type": "FeatureCollection", "features": []}',
                                  '{"type": "Point", "coordinates": [1, 2]}', '{"type": "Polygon", "coordinates": [[1]]}'])  # fmt: skip
def test_polygons__no_polygon(tmp_path, text):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(ReadError, match=r"no polygon|not GeoJSON|not lists of x, y"):
        open_mask(tmp_path / "a.geojson", image_info())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "palette.png", "bits.tif", "labels.tif"])
def test_raster__nonzero_is_work(tmp_path, name):
    expected = (np.add.outer(np.arange(90), np.arange(120)) % 7 > 2).astype(np.uint8)
    path = tmp_path / name
    if name == "palette.png":
        image = Image.fromarray(expected, "P")
        image.putpalette([0, 0, 0, 0, 200, 0])
        image.save(path)
    elif name == "a.png":
        Image.fromarray(expected * 255).save(path)
    else:
        dtype = {"a.tif": "uint8", "bits.tif": "bool", "labels.tif": "int32"}[name]
        tifffile.imwrite(path, expected.astype(dtype), tile=(32, 32))
    mask = pickle.loads(pickle.dumps(open_mask(path, image_info())))
    for tile in Grid(SHAPE, (31, 44)).tiles():
        got = mask.read(tile.core)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected[tile.core.slices])
    mask.close()


def test_raster__other_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((90, 119), np.uint8))
    with pytest.raises(ReadError, match=r"90 x 119 pixels.*90 x 120.*mask of the image's size"):
        open_mask(tmp_path / "a.tif", image_info())


def test_mask__missing(tmp_path):
    for name in ("a.png", "a.geojson", "a.gpkg"):
        with pytest.raises(ReadError, match=r"does not exist|cannot be read"):
            open_mask(tmp_path / name, image_info())
