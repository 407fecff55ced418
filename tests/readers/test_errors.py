"""What cannot be read says so in a sentence: what was given, what to do."""

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from segpipe.readers import ReadError, open_source
from segpipe.tiles import Box


def refuses(where, match, **options):
    """Expect a `ReadError` with the file's name and without a traceback in it."""
    with pytest.raises(ReadError, match=match) as caught:
        open_source(where, **options)
    assert str(where) in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    refuses(tmp_path / "none.tif", "does not exist")


def test_empty_file(tmp_path):
    (tmp_path / "a.png").touch()
    refuses(tmp_path / "a.png", "is empty")


@pytest.mark.parametrize("content", [b"hello, I am text", b"\0", b"%PDF-1.7 " + bytes(99)])
def test_unknown_format(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    refuses(tmp_path / "a.tif", "no known format.*known are TIFF.*OME-Zarr")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission_denied(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.png").chmod(0)
    refuses(tmp_path / "a.png", "permission denied")


def test_permission_denied__as_any_user(tmp_path, monkeypatch):
    from pathlib import Path

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(Path, "open", refuse)
    refuses(tmp_path / "a.png", "permission denied; check its rights")


def test_no_file_left_open(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + bytes(100))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        refuses(tmp_path / "a.tif", "no image in it|cannot be read|no pixels")
    assert len(os.listdir("/proc/self/fd")) <= before + 1


@pytest.mark.parametrize(
    "layout",
    [{"tile": (32, 32), "compression": "zlib"}, {}, {"rowsperstrip": 8, "compression": "lzw"}],
)
def test_tiff__truncated_data(tmp_path, picture, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", **layout)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    refuses(path, r"truncated: \d+ of \d+ tiles or strips lie beyond")


@pytest.mark.parametrize("keep", [5, 8, 20, 60, 120, 200, 300])
def test_tiff__truncated_directory(tmp_path, picture, keep):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", tile=(16, 16), compression="zlib")
    path.write_bytes(path.read_bytes()[:keep])
    refuses(path, "truncated|damaged")


@pytest.mark.parametrize("seed", range(40))
def test_tiff__damaged_directory_never_escapes(tmp_path, seed):
    """Random bytes in the directory give an image or a `ReadError`, nothing else."""
    path = tmp_path / "a.tif"
    rng = np.random.default_rng(seed)
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb", tile=(32, 32))
    content = bytearray(path.read_bytes())
    for at in rng.integers(4, 400, 6):
        content[at] = rng.integers(0, 256)
    path.write_bytes(content)
    try:
        source = open_source(path)
        source.read(Box((0, 0), (min(64, source.info.shape[0]), min(64, source.info.shape[1]))))
    except ReadError:
        pass


@pytest.mark.parametrize("codec", ["zlib", "zstd", "lzw", "jpeg"])
def test_tiff__damaged_tile_is_named(tmp_path, picture, codec):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", tile=(32, 32), compression=codec)
    with tifffile.TiffFile(path) as tif:
        offset, count = (t[9] for t in (tif.pages[0].dataoffsets, tif.pages[0].databytecounts))
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes(range(7, 7 + 64)) * (count // 64) + bytes(count % 64)
    path.write_bytes(content)
    source = open_source(path)
    source.read(Box((0, 0), (32, 200)))
    with pytest.raises(
        ReadError, match=r"tile 9 \(rows 32 to 64, columns 64 to 96\) cannot be decoded"
    ):
        source.read(Box((0, 0), (131, 203)))


@pytest.mark.parametrize("dtype", ["complex64", "float64", "int32", "uint32", "int8", "float16"])
def test_tiff__pixel_type(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), dtype))
    refuses(tmp_path / "a.tif", f"{dtype}; allowed are uint8, uint16, int16, float32: convert")


@pytest.mark.parametrize(("shape", "axes"), [((5, 20, 20), "ZYX"), ((3, 2, 20, 20), "TCYX")])
def test_tiff__stacks(tmp_path, shape, axes):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, np.zeros(shape, np.uint8), metadata={"axes": axes}, photometric="minisblack"
    )
    refuses(path, f"stack with axes {axes[0]} = {shape[0]}.*allowed are Y, X")


def test_tiff__codec_that_is_unknown(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((32, 32), np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags["Compression"].overwrite(65001)
    with pytest.raises(ReadError, match=r"tile 0 .* cannot be decoded"):
        open_source(path).read(Box((0, 0), (9, 9)))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif"])
def test_stream__truncated_and_damaged(tmp_path, suffix):
    image = np.random.default_rng(0).integers(0, 255, (400, 300, 3), np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(image).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match="truncated or damaged"):
        open_source(path).read(Box((0, 0), (400, 300)))
    path.write_bytes(whole[:14])
    refuses(path, "truncated or damaged")


def test_stream__rows_above_the_damage_are_readable(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (400, 300, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    source = open_source(tmp_path / "a.png")
    top = Box((0, 0), (64, 300))
    np.testing.assert_array_equal(source.read(top)[0], image[:64])
    with pytest.raises(ReadError, match=r"rows \d+ to \d+ cannot be decoded"):
        source.read(Box((300, 0), (400, 300)))
    np.testing.assert_array_equal(source.read(top)[0], image[:64])


def png_bomb(path, height, width):
    """A PNG that declares a huge size and holds nothing."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def test_bomb__png_declares_more_than_its_bytes_can_hold(tmp_path):
    png_bomb(tmp_path / "a.png", 60_000, 60_000)
    refuses(tmp_path / "a.png", "decompression bomb")


@pytest.mark.parametrize(("height", "width"), [(0, 0), (0, 5), (5, 0)])
def test_png__of_zero_size(tmp_path, height, width):
    png_bomb(tmp_path / "a.png", height, width)
    refuses(tmp_path / "a.png", f"the image has no pixels, its size is {height} x {width}")


def test_bmp__of_zero_size(tmp_path):
    header = struct.pack("<IiiHHIIiiII", 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header)
    refuses(tmp_path / "a.bmp", "no pixels, its size is 0 x 0")


def test_bomb__png_beyond_what_can_be_opened(tmp_path):
    """libvips gives no reason, and libpng calls such a file damaged."""
    png_bomb(tmp_path / "a.png", 2**31 - 1, 2**31 - 1)
    refuses(tmp_path / "a.png", r"4,611,686,014,132,420,609 pixels.*`--set max_pixels=N`")
    png_bomb(tmp_path / "b.png", 2**31 - 1, 1)
    refuses(tmp_path / "b.png", "edges of up to 10,000,000: .*convert it to tiled TIFF")


def test_bomb__png_beyond_the_limit(tmp_path):
    png_bomb(tmp_path / "a.png", 100_000, 100_000)
    refuses(tmp_path / "a.png", "10,000,000,000 pixels, allowed are 4,294,967,296.*max_pixels")


def test_bomb__max_pixels_is_obeyed(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    for name in ("a.png", "a.tif"):
        refuses(tmp_path / name, "allowed are 1,000", max_pixels=1000)
        open_source(tmp_path / name, max_pixels=131 * 203)


@pytest.mark.parametrize(
    ("tag", "value", "match"),
    [
        ("ImageLength", 2**31, "truncated|needed|pixels"),
        ("TileWidth", 2**20 * 16, "decoded whole|damaged|directory"),
    ],
)
def test_bomb__tiff_with_huge_sizes(tmp_path, tag, value, match):
    path = tmp_path / "a.tif"
    image = np.zeros((64, 64), np.uint8)
    tifffile.imwrite(path, image, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags[tag].overwrite(value)
        if tag == "TileWidth":
            tif.pages[0].tags["TileLength"].overwrite(value)
    refuses(path, match)


def test_box__outside_of_the_image(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(ReadError, match="does not lie inside"):
        open_source(tmp_path / "a.png").read(Box((0, 0), (132, 10)))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_changed_input_is_refused_by_a_worker(tmp_path, picture, name):
    path = tmp_path / name
    for image in (picture, picture[:100]):
        if name == "a.png":
            Image.fromarray(image).save(path)
        else:
            tifffile.imwrite(path, image, photometric="rgb")
        if image is picture:
            sent = pickle.dumps(open_source(path))
    with pytest.raises(ReadError, match="has changed since it was first opened"):
        pickle.loads(sent)
