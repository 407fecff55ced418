"""TIFF and its dialects, against the arrays that tifffile wrote."""

import numpy as np
import pytest
import tifffile

from segpipe.readers import open_source
from segpipe.tiles import Box

TILED = {"tile": (32, 48)}
GEO_KEYS = {"projected": (3072, 32632, 1), "geographic": (2048, 4326, 2)}


def geotags(kind="projected", point=False, scale=(10.0, 20.0, 0.0), tie=(0, 0, 0, 500.0, 900.0, 0)):
    """Extra tags of a GeoTIFF."""
    key, code, model = GEO_KEYS[kind]
    keys = (1, 1, 0, 3, 1024, 0, 1, model, 1025, 0, 1, 2 if point else 1, key, 0, 1, code)
    return [(33550, "d", 3, scale, True), (33922, "d", 6, tie, True), (34735, "H", 16, keys, True)]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("layout", [TILED, {"rowsperstrip": 7}, {}], ids=["tiled", "strips", "one"])
@pytest.mark.parametrize("codec", [None, "zlib", "zstd", "lzw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiff__layouts_and_codecs(
    tmp_path, reads, picture, byteorder, planar, layout, codec, dtype
):
    image = picture.astype(dtype) * np.dtype(dtype).type(1 if dtype == "uint8" else 3)
    stored = np.moveaxis(image, -1, 0) if planar == "separate" else image
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig=planar,
        byteorder=byteorder,
        compression=codec,
        predictor=codec == "zlib",
        metadata=None,
        **layout,
    )
    info = reads(tmp_path / "a.tif", image).info
    assert info.access == ("tiles" if layout == TILED else "bands")
    assert info.rgb == (dtype in ("uint8", "uint16"))
    assert info.masked == (dtype == "float32")


@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_tiff__jpeg_tiles(tmp_path, reads, picture, subsampling):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        picture,
        photometric="rgb",
        tile=(32, 32),
        compression="jpeg",
        compressionargs={"level": 90, "subsampling": subsampling},
    )
    assert reads(path, tifffile.imread(path)).info.rgb


def test_tiff__bigtiff_gray_one_pixel(tmp_path, reads):
    image = np.array([[77]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, bigtiff=True)
    assert reads(tmp_path / "a.tif", image).info.channel_names == ("channel0",)


def test_tiff__missing_tiles_are_nodata(tmp_path, reads):
    """GDAL's sparse files leave tiles out; they read as the nodata value and do not count."""
    image = np.zeros((96, 96), np.uint16)
    image[:32, :32] = 9

    def tiles():
        for i in range(9):
            yield image[:32, :32] if i == 0 else None

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, tiles(), shape=image.shape, dtype=image.dtype, tile=(32, 32),
                     extratags=[(42113, "s", 0, "0", True)])  # fmt: skip
    source = reads(path, image, (image > 0).astype(np.uint8))
    assert source.info.nodata == 0


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_tiff__alpha(tmp_path, reads, picture, kind):
    alpha = (picture[..., 0] > 60).astype(np.uint8) * 200
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.dstack([picture, alpha]),
        photometric="rgb",
        extrasamples=[kind],
        tile=(32, 32),
    )
    info = reads(tmp_path / "a.tif", picture, (alpha > 0).astype(np.uint8)).info
    assert info.alpha
    assert info.rgb


def test_tiff__unspecified_fourth_sample_is_a_channel(tmp_path, reads, picture):
    image = np.dstack([picture, picture[..., 0]])
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=["unspecified"])
    info = reads(tmp_path / "a.tif", image).info
    assert (info.channels, info.rgb, info.alpha) == (4, False, False)


@pytest.mark.parametrize("bits", [1, 8])
def test_tiff__internal_mask(tmp_path, reads, picture, bits):
    mask = picture[..., 1] > 90
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(picture, photometric="rgb", tile=(32, 32), metadata=None)
        stored = mask if bits == 1 else mask.astype(np.uint8) * 255
        tif.write(stored, photometric="minisblack", subfiletype=4 if bits == 1 else 2,
                  tile=(32, 32), metadata=None)  # fmt: skip
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        tif.pages[1].tags["NewSubfileType"].overwrite(4)
    assert reads(tmp_path / "a.tif", picture, mask.astype(np.uint8)).info.alpha


def test_tiff__palette_becomes_rgb(tmp_path, reads):
    index = (np.arange(40 * 50).reshape(40, 50) % 256).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", index, photometric="palette", colormap=colours * 257)
    assert reads(tmp_path / "a.tif", colours.T.astype(np.uint8)[index]).info.rgb


def test_tiff__float_nan_does_not_count(tmp_path, reads):
    image = np.random.default_rng(0).random((50, 60, 2), np.float32)
    image[3:9, 4:20, 1] = np.nan
    image[40, 40] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig")
    assert reads(tmp_path / "a.tif", image, np.isfinite(image).all(-1).astype(np.uint8)).info.masked


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [("uint8", "0", 0), ("uint16", "65535 ", 65535), ("float32", "-3.4028234663852886e+38", -3.4028234663852886e38),
     ("float32", "nan", np.nan), ("uint8", "-9999", -9999)],
)  # fmt: skip
def test_tiff__nodata_needs_all_channels(tmp_path, reads, dtype, text, value):
    image = np.random.default_rng(0).integers(1, 200, (40, 70, 3)).astype(dtype)
    image[5:20, 8:30, 0] = 0 if value == -9999 else value
    image[5:10, 8:30] = 0 if value == -9999 else value
    valid = np.ones((40, 70), np.uint8)
    if value != -9999:
        valid[5 : 20 if np.isnan(value) else 10, 8:30] = 0
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(16, 16),
                     extratags=[(42113, "s", 0, text, True)])  # fmt: skip
    info = reads(tmp_path / "a.tif", image, valid).info
    assert info.masked
    assert info.nodata == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("layout", [{"tile": (32, 32), "compression": "zlib"}, {}])
def test_ome_tiff__channels_pyramid_and_metadata(tmp_path, reads, layout):
    image = np.random.default_rng(0).integers(0, 9999, (4, 90, 120)).astype(np.uint16)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "CD3", "CD8", "Ki67"]},
                "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}  # fmt: skip
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(image, subifds=1, metadata=metadata, photometric="minisblack", **layout)
        tif.write(image[:, ::2, ::2], subfiletype=1, photometric="minisblack", **layout)
    info = reads(tmp_path / "a.ome.tif", np.moveaxis(image, 0, -1)).info
    assert info.channel_names == ("DAPI", "CD3", "CD8", "Ki67")
    assert (info.pixel_size, info.pixel_unit) == ((0.25, 0.5), "micrometer")


def test_imagej__channels_and_pixel_size(tmp_path, reads):
    image = np.random.default_rng(0).integers(0, 9999, (3, 60, 70)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, imagej=True, resolution=(4, 2),
                     metadata={"axes": "CYX", "unit": "um"})  # fmt: skip
    info = reads(tmp_path / "a.tif", np.moveaxis(image, 0, -1)).info
    assert (info.pixel_size, info.pixel_unit) == ((0.5, 0.25), "micrometer")


def test_baseline__centimetres_count_inches_do_not(tmp_path):
    image = np.zeros((20, 20), np.uint8)
    for unit, size in (("CENTIMETER", (0.5, 0.5)), ("INCH", None)):
        path = tmp_path / f"{unit}.tif"
        tifffile.imwrite(path, image, resolution=(20000, 20000), resolutionunit=unit)
        assert open_source(path).info.pixel_size == size


@pytest.mark.parametrize(
    ("tags", "crs", "unit", "transform"),
    [
        (geotags(), "EPSG:32632", "metre", (10, 0, 500, 0, -20, 900)),
        (geotags("geographic"), "EPSG:4326", "degree", (10, 0, 500, 0, -20, 900)),
        (geotags(point=True), "EPSG:32632", "metre", (10, 0, 495, 0, -20, 910)),
        (
            geotags(tie=(5, 6, 0, 500.0, 900.0, 0)),
            "EPSG:32632",
            "metre",
            (10, 0, 450, 0, -20, 1020),
        ),
    ],
)
def test_geotiff__coordinates(tmp_path, reads, picture, tags, crs, unit, transform):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(picture, photometric="rgb", tile=(64, 64), extratags=tags, metadata=None)
        tif.write(picture[::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1, metadata=None)
    info = reads(path, picture).info
    assert (info.crs, info.pixel_unit) == (crs, unit)
    assert info.transform == pytest.approx(transform)
    assert info.pixel_size == pytest.approx((20, 10))


def test_geotiff__transformation_matrix_and_band_names(tmp_path):
    matrix = (0.0, 2.0, 0, 100.0, 3.0, 0.0, 0, 200.0, 0, 0, 0, 0, 0, 0, 0, 1)
    names = "".join(
        f'<Item name="DESCRIPTION" sample="{i}" role="description">{name}</Item>'
        for i, name in enumerate(("B04", "B08"))
    )
    tags = [
        (34264, "d", 16, matrix, True),
        (42112, "s", 0, f"<GDALMetadata>{names}</GDALMetadata>", True),
    ]
    image = np.zeros((20, 30, 2), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", planarconfig="contig",
                     extratags=[*tags, geotags()[2]], metadata=None)  # fmt: skip
    info = open_source(tmp_path / "a.tif").info
    assert info.transform == (0, 2, 100, 3, 0, 200)
    assert info.pixel_size == (2, 3)
    assert info.channel_names == ("B04", "B08")


def test_bands__each_strip_is_decoded_once_per_row_of_tiles(tmp_path, picture, monkeypatch):
    tifffile.imwrite(
        tmp_path / "a.tif", picture, rowsperstrip=8, compression="zlib", photometric="rgb"
    )
    source = open_source(tmp_path / "a.tif")
    decoded = []
    whole = type(source)._decoded
    monkeypatch.setattr(
        type(source),
        "_decoded",
        lambda self, layer, n, data: decoded.append(n) or whole(self, layer, n, data),
    )
    for left in range(0, 200, 20):
        source.read(Box((30, left), (62, left + 20)))
    assert decoded == [3, 4, 5, 6, 7]


def test_tiles__only_touched_tiles_are_decoded(tmp_path, picture, monkeypatch):
    tifffile.imwrite(
        tmp_path / "a.tif", picture, tile=(16, 16), compression="zlib", photometric="rgb"
    )
    source = open_source(tmp_path / "a.tif")
    decoded = []
    whole = type(source)._decoded
    monkeypatch.setattr(
        type(source),
        "_decoded",
        lambda self, layer, n, data: decoded.append(n) or whole(self, layer, n, data),
    )
    source.read(Box((20, 20), (30, 40)))
    assert decoded == [14, 15]
    source.read(Box((20, 40), (30, 50)))
    assert decoded == [14, 15, 16]


def test_tiff__threads_may_share_a_source(tmp_path, picture):
    from concurrent.futures import ThreadPoolExecutor

    tifffile.imwrite(
        tmp_path / "a.tif", picture, rowsperstrip=8, compression="zlib", photometric="rgb"
    )
    source = open_source(tmp_path / "a.tif")
    boxes = [Box((y, x), (y + 20, x + 30)) for y in range(0, 110, 7) for x in range(0, 170, 11)]
    with ThreadPoolExecutor(8) as pool:
        for box, (pixels, _) in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(pixels, picture[box.slices])
