"""What is held while reading stays below what is projected."""

import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from segpipe.readers import open_source
from segpipe.tiles import Grid

LAYOUTS = {
    "tiles.tif": {"tile": (128, 128), "compression": "zlib"},
    "strips.tif": {"rowsperstrip": 64, "compression": "zlib"},
    "raw.tif": {},
    "alpha.tif": {"tile": (128, 128), "extrasamples": ["unassalpha"]},
    "stream.png": None,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("size", [(256, 256), (512, 1500)])
def test_memory__below_projection(tmp_path, name, size):
    samples = 4 if name == "alpha.tif" else 3
    image = np.random.default_rng(0).integers(0, 255, (2000, 3000, samples), np.uint8)
    if LAYOUTS[name] is None:
        Image.fromarray(image).save(tmp_path / name, compress_level=1)
    else:
        tifffile.imwrite(tmp_path / name, image, photometric="rgb", **LAYOUTS[name])
    source = open_source(tmp_path / name)
    tracemalloc.start()
    for tile in Grid(source.info.shape, size).tiles(halo=8):
        source.read(tile.window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    projected = source.info.working_bytes((size[0] + 16, size[1] + 16))
    assert peak < projected + 500_000, f"{peak / projected:.2f}"
    assert peak < image.nbytes
