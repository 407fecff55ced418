"""URLs: S3 (a local server), HTTP with and without ranges, fsspec's memory."""

import http.server
import re
import threading

import numpy as np
import pytest
import tifffile
from PIL import Image

from segpipe.readers import ReadError, open_source
from segpipe.readers.places import RemoteFile, _batches, _merged
from segpipe.tiles import Box


def put(url, path):
    """Copy a local file or folder to a URL."""
    import fsspec

    from segpipe.readers.places import storage_options

    fs, root = fsspec.core.url_to_fs(url, **storage_options(url))
    fs.put(str(path), root, recursive=path.is_dir())
    return url


@pytest.mark.parametrize(
    "layout",
    [{"tile": (32, 32), "compression": "zlib"}, {}, {"rowsperstrip": 9, "compression": "lzw"}],
)
def test_s3__tiff(s3, tmp_path, reads, picture, layout):
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb", **layout)
    info = reads(put(f"{s3}/a.tif", tmp_path / "a.tif"), picture).info
    assert info.source == f"{s3}/a.tif"


def test_s3__png(s3, tmp_path, reads, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    reads(put(f"{s3}/a.png", tmp_path / "a.png"), picture)


@pytest.mark.parametrize("version", [2, 3])
def test_s3__zarr(s3, tmp_path, reads, picture, version):
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    group.create_array("0", data=np.moveaxis(picture, -1, 0), chunks=(3, 32, 32))
    image = {"multiscales": [{"axes": [{"name": a} for a in "cyx"], "datasets": [{"path": "0"}]}]}
    group.attrs.update(image if version == 2 else {"ome": image})
    reads(put(f"{s3}/v{version}.zarr", tmp_path / "a.zarr"), picture, sizes=[(64, 1000)])


def test_s3__a_window_fetches_only_its_tiles(s3, tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 255, (2048, 2048), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(128, 128))
    source = open_source(put(f"{s3}/window.tif", tmp_path / "a.tif"))
    fetched = []
    ranges = RemoteFile.ranges
    monkeypatch.setattr(
        RemoteFile, "ranges", lambda self, wanted: fetched.extend(wanted) or ranges(self, wanted)
    )
    box = Box((100, 900), (200, 1000))
    np.testing.assert_array_equal(source.read(box)[0][..., 0], image[box.slices])
    assert sum(count for _, count in fetched) == 2 * 1 * 128 * 128


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://pictures/none.tif", "does not exist"),
        ("s3://no-such-bucket/a.tif", "does not exist"),
        ("s3://pictures/none.zarr", "does not exist"),
        ("http://127.0.0.1:9/a.tif", "cannot be reached|does not exist"),
        ("nosuch://a.tif", "no reader for this kind of address"),
        ("memory://none.png", "does not exist"),
    ],
)
def test_url__unreachable(s3, url, message):
    with pytest.raises(ReadError, match=message) as caught:
        open_source(url)
    assert str(caught.value).startswith(url)


def test_url__forbidden(monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(*args, **kwargs):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    with pytest.raises(ReadError, match=r"permission denied.*credentials"):
        open_source("memory://forbidden.tif")


def test_memory__tiff_and_file_url(tmp_path, reads, picture):
    tifffile.imwrite(tmp_path / "a b.tif", picture, tile=(32, 32), photometric="rgb")
    reads(put("memory://a.tif", tmp_path / "a b.tif"), picture)
    reads((tmp_path / "a b.tif").as_uri(), picture)


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Static files with byte ranges, which the standard library leaves out."""

    ranges = True

    def do_GET(self):
        from pathlib import Path

        asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        path = Path(self.translate_path(self.path))
        if not (asked and self.ranges and path.is_file()):
            return super().do_GET()
        content = path.read_bytes()
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def web(tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    handler = type("Handler", (Ranges,), {})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: handler(*args, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def test_http__tiff_and_png(tmp_path, reads, picture, web):
    url, _ = web
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(32, 32), photometric="rgb")
    Image.fromarray(picture).save(tmp_path / "a.png")
    reads(f"{url}/a.tif", picture)
    reads(f"{url}/a.png", picture)


def test_http__no_ranges_is_an_error_not_wrong_pixels(tmp_path, picture, web):
    url, handler = web
    handler.ranges = False
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(32, 32), photometric="rgb")
    with pytest.raises(ReadError, match="range"):
        open_source(f"{url}/a.tif").read(Box((0, 0), (9, 9)))


def test_ranges__merged_and_batched():
    near = [(i * 100, 80) for i in range(10)]
    assert _merged(near) == [(0, 980)]
    assert _merged([(10**9, 5), (0, 5)]) == [(0, 5), (10**9, 5)]
    batches = list(_batches([(i << 25, 1 << 25) for i in range(5)]))
    assert [len(b) for b in batches] == [2, 2, 1]
