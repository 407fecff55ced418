"""PNG, JPEG and the like, against Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from segpipe.readers import open_source
from segpipe.tiles import Box


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "lossless.webp", "a.gif"])
def test_stream__lossless_rgb(tmp_path, reads, picture, name):
    image = picture // 64 * 64 if name == "a.gif" else picture
    Image.fromarray(image).save(tmp_path / name, **({"lossless": True} if "webp" in name else {}))
    expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
    info = reads(tmp_path / name, expected).info
    assert (info.access, info.rgb, info.masked) == ("stream", True, False)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("gray", [False, True])
def test_stream__jpeg_within_rounding_of_pillow(tmp_path, reads, picture, progressive, gray):
    path = tmp_path / "a.jpg"
    smooth = np.asarray(Image.fromarray(picture).resize((320, 240), Image.Resampling.BICUBIC))
    Image.fromarray(smooth[..., 0] if gray else smooth).save(
        path, quality=95, progressive=progressive
    )
    source = open_source(path)
    pixels = source.read(Box((0, 0), source.info.shape))[0]
    reference = np.asarray(Image.open(path)).reshape(pixels.shape).astype(int)
    assert np.abs(pixels - reference).max() <= 4
    assert reads(path, pixels).info.rgb != gray


@pytest.mark.parametrize("mode", ["L", "I;16", "LA", "RGBA", "P", "1"])
def test_stream__png_modes(tmp_path, reads, picture, mode):
    gray = picture[..., 0]
    alpha = (picture[..., 1] > 100).astype(np.uint8) * 255
    path = tmp_path / "a.png"
    if mode == "I;16":
        stored = gray.astype(np.uint16) * 257 + 3
        Image.fromarray(stored).save(path)
        assert reads(path, stored).info.channels == 1
    elif mode in ("LA", "RGBA"):
        colours = gray[..., None] if mode == "LA" else picture
        Image.fromarray(np.dstack([colours, alpha]), mode).save(path)
        assert reads(path, colours, (alpha > 0).astype(np.uint8)).info.alpha
    elif mode == "L":
        Image.fromarray(gray).save(path)
        assert not reads(path, gray).info.rgb
    elif mode == "1":
        Image.fromarray(gray > 99).save(path)
        reads(path, (gray > 99).astype(np.uint8) * 255)
    else:
        small = Image.fromarray(picture).quantize(200)
        small.save(path)
        assert reads(path, np.asarray(small.convert("RGB"))).info.rgb


def test_stream__rgb16(tmp_path, reads, picture):
    import imagecodecs

    image = picture.astype(np.uint16) * 251
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(image))
    assert reads(tmp_path / "a.png", image).info.rgb


def test_stream__exif_orientation_is_not_applied(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert open_source(tmp_path / "a.jpg").info.shape == picture.shape[:2]


def test_stream__in_order_decodes_once_backwards_again(tmp_path, monkeypatch, picture):
    from segpipe.readers import stream

    Image.fromarray(picture).save(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    opened = []
    header = stream._open_image
    monkeypatch.setattr(stream, "_open_image", lambda *a: opened.append(1) or header(*a))
    for top in range(0, 120, 10):
        for left in range(0, 200, 40):
            source.read(Box((max(0, top - 4), left), (top + 11, min(203, left + 44))))
    assert len(opened) == 1
    np.testing.assert_array_equal(source.read(Box((0, 0), (9, 9)))[0], picture[:9, :9])
    assert len(opened) == 2


def test_stream__memory_is_one_band(tmp_path):
    """A tall image is read with the memory of a band: 1.2 GB decoded, far less held."""
    import resource
    import subprocess
    import sys

    import pyvips

    pyvips.Image.black(3000, 100_000, bands=3).copy(interpretation="srgb").pngsave(
        str(tmp_path / "a.png"), compression=1, filter="none"
    )
    code = f"""
import resource
from segpipe.readers import open_source
from segpipe.tiles import Grid
source = open_source({str(tmp_path / "a.png")!r})
source.read(Grid(source.info.shape, (512, 3000)).core(0))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for tile in Grid(source.info.shape, (512, 3000)).tiles():
    source.read(tile.core)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    assert resource is not None
    grown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 60_000  # kB; the whole is 900,000


def test_stream__cmyk_is_refused(tmp_path):
    Image.new("CMYK", (20, 20)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"cmyk.*gray and RGB"):
        open_source(tmp_path / "a.jpg")


def test_stream__pillow_bytes_named_otherwise(tmp_path, reads, picture):
    """The content decides, not the suffix."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())
    reads(tmp_path / "a.tif", picture)
