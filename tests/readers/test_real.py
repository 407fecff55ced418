"""Real files, as they come from scanners, cameras and archives."""

import numpy as np
import tifffile
from PIL import Image

from segpipe.readers import open_source
from segpipe.tiles import Box, Grid


def test_svs__aperio_slide(data, reads):
    path = data("wsi_cmu1/CMU-1-Small-Region.svs")
    info = reads(path, tifffile.imread(path, series=0), sizes=[(512, 500)]).info
    assert (info.access, info.native, info.rgb) == ("tiles", (240, 240), True)
    assert (info.pixel_size, info.pixel_unit) == ((0.499, 0.499), "micrometer")


def test_tiff__microscope_image(data, reads):
    path = data("stardist_sample/img2d.tif")
    reads(path, tifffile.imread(path))


def test_jpeg__large_photo_in_bands(data):
    source = open_source(data("earth_mosaic/bmng.jpg"))
    assert (source.info.shape, source.info.rgb) == ((2700, 5400), True)
    reference = np.asarray(Image.open(source.info.source)).astype(int)
    for tile in Grid(source.info.shape, (900, 2000)).tiles(halo=8):
        pixels, valid = source.read(tile.window)
        assert valid is None
        assert np.abs(pixels - reference[tile.window.slices]).max() <= 4


def test_png__149_megapixels(data):
    source = open_source(data("earth_mosaic/landsea_17280x8640.png"))
    values = set()
    for tile in Grid(source.info.shape, (1024, 17280)).tiles():
        values |= set(np.unique(source.read(tile.core)[0]).tolist())
    assert values == {0, 1, 2}


def test_png__nuclei(data, reads):
    for path in sorted(data("dsb2018/images").glob("*.png"))[:3]:
        reads(path, np.asarray(Image.open(path)))


def test_jpeg__camera_photo(data):
    path = sorted(data("carrot_weed/images").glob("*.jpg"))[0]
    source = open_source(path)
    pixels = source.read(Box((1000, 1000), (1300, 1500)))[0]
    reference = np.asarray(Image.open(path))[1000:1300, 1000:1500].astype(int)
    assert np.abs(pixels - reference).max() <= 4
