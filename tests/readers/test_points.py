"""Points from CSV and GeoJSON, as pixels of the image."""

import json

import pytest

from segpipe.readers import ReadError, SourceInfo
from segpipe.readers.points import read_points

SHAPE = (90, 120)
TRANSFORM = (2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0)


def image_info(**fields):
    return SourceInfo(SHAPE, 1, "uint8", "tiles", (32, 32), "image.tif", "", **fields)


def geojson(*points, crs=None, kind="Point", **properties):
    geometries = [{"type": kind, "coordinates": point} for point in points]
    features = [
        {"type": "Feature", "properties": properties, "geometry": geometry}
        for geometry in geometries
    ]
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    return json.dumps({"type": "FeatureCollection", "features": features} | named)


def read(tmp_path, name, text, **fields):
    path = tmp_path / name
    path.write_text(text)
    return read_points(path, image_info(**fields))


def test_rows_and_columns__are_pixels(tmp_path):
    text = "Column, row ,label,note\n7,5,,a\n\n119,89,3,b\n"
    assert read(tmp_path, "p.csv", text) == [(5, 7), (89, 119, 3)]
    assert read(tmp_path, "p.csv", "row;column\n5;7\n", transform=TRANSFORM) == [(5, 7)]


def test_x_and_y__are_coordinates_of_the_image(tmp_path):
    assert read(tmp_path, "p.csv", "x,y\n7.9,5.2\n") == [(5, 7)]
    world = "x,y\n500007.0,3999990.5\n"
    assert read(tmp_path, "p.csv", world, transform=TRANSFORM) == [(4, 3)]


def test_geojson__has_labels(tmp_path):
    text = geojson([7.5, 5.5], [0, 0, 12], label=4)
    assert read(tmp_path, "p.geojson", text) == [(5, 7, 4), (0, 0, 4)]
    many = geojson([[1, 2], [3, 4]], kind="MultiPoint")
    assert read(tmp_path, "p.json", many) == [(2, 1), (4, 3)]
    place = {"transform": TRANSFORM, "crs": "EPSG:32632"}
    there = geojson([500007.0, 3999990.5], crs="urn:ogc:def:crs:EPSG::32632")
    assert read(tmp_path, "p.geojson", there, **place) == [(4, 3)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "x,y\n1,1\n130,5\n", "line 3 at x 130, y 5 .*is outside the image of 90 rows"),
        ("p.csv", "row,column\n90,5\n", "line 2 at column 5, row 90 is outside"),
        ("p.csv", "row,column\n1.5,5\n", "line 2 is no point .*not whole; name them x and y"),
        ("p.csv", "row,column\n1\n", "line 2 is no point"),
        ("p.csv", "row,column,label\n1,2,cell\n", "line 2 is no point"),
        ("p.csv", "a,b\n1,2\n", "has the columns a, b; give the columns row,column"),
        ("p.csv", "x,y\n", "has no point in it"),
        ("p.geojson", "{}", "is not GeoJSON of points"),
        ("p.geojson", geojson([[[0, 0], [1, 1]]], kind="Polygon"), "a Polygon is no point"),
        ("p.geojson", geojson([500, 5]), "feature 1 at x 500, y 5 .*is outside"),
    ],
)
def test_wrong_points__are_named(tmp_path, name, text, message):
    with pytest.raises(ReadError, match=message):
        read(tmp_path, name, text)


def test_points_of_another_system__are_refused(tmp_path):
    text = geojson([1, 1], crs="EPSG:4326")
    with pytest.raises(ReadError, match=r"are in EPSG:4326, the image is in EPSG:32632"):
        read(tmp_path, "p.geojson", text, transform=TRANSFORM, crs="EPSG:32632")


def test_a_file_that_is_no_text__is_named(tmp_path):
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ReadError, match="is no text in UTF-8"):
        read_points(tmp_path / "p.csv", image_info())
