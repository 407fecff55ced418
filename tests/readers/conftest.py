"""What the tests of readers share: reading tile by tile, an S3 server, real data."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from segpipe.readers import Source, open_source
from segpipe.tiles import Box, Grid

DATA = Path(
    os.environ.get("SEGPIPE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)


@pytest.fixture
def data() -> Callable[[str], Path]:
    """Path of a real file; skips the test where it is not there."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"real data {name} not in {DATA}; set SEGPIPE_TEST_DATA to its folder")
        return path

    return find


def assemble(source: Source, size: tuple[int, int], halo: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Read the windows of all tiles in raster order and put them together."""
    info = source.info
    pixels = np.zeros((*info.shape, info.channels), info.dtype)
    valid = np.full(info.shape, 2, np.uint8)
    for tile in Grid(info.shape, size).tiles(halo):
        got, counts = source.read(tile.window)
        assert got.dtype == info.dtype
        assert got.shape == (*tile.window.shape, info.channels)
        assert (counts is None) == (not info.masked)
        pixels[tile.window.slices] = got
        valid[tile.window.slices] = 1 if counts is None else counts
    return pixels, valid


@pytest.fixture
def reads() -> Callable[..., Source]:
    """Open, read in several ways, compare with what is expected; returns the source."""

    def check(
        where: str | Path,
        expected: np.ndarray,
        valid: np.ndarray | None = None,
        sizes: Sequence[tuple[int, int]] = ((37, 50), (64, 1000), (23, 40)),
    ) -> Source:
        expected = expected if expected.ndim == 3 else expected[..., None]
        source = open_source(where)
        assert source.info.shape == expected.shape[:2]
        assert source.info.channels == expected.shape[2]
        assert source.info.dtype == expected.dtype.name
        assert len(source.info.channel_names) == expected.shape[2]
        whole = np.ones(expected.shape[:2], np.uint8) if valid is None else valid
        copy = pickle.loads(pickle.dumps(source))
        for number, size in enumerate(sizes):
            pixels, counts = assemble(copy if number else source, size, halo=number * 5)
            np.testing.assert_array_equal(pixels, expected)
            np.testing.assert_array_equal(counts, whole)
        rng = np.random.default_rng(1)
        for _ in range(6):
            start = [int(rng.integers(0, n)) for n in expected.shape[:2]]
            stop = [
                int(rng.integers(a + 1, n + 1)) for a, n in zip(start, expected.shape, strict=False)
            ]
            box = Box(tuple(start), tuple(stop))
            np.testing.assert_array_equal(source.read(box)[0], expected[box.slices])
        copy.close()
        return source

    return check


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """RGB picture whose every pixel is different from its neighbours, of no round size."""
    y, x = np.mgrid[:131, :203]
    return np.stack([(x * 3 + y) % 256, (y * 5 + x // 7) % 256, (x * y) % 256], -1).astype(np.uint8)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """URL of an empty bucket on a local S3 server, with the environment set for it."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    import s3fs

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in settings.items():
            patch.setenv(key, value)
        s3fs.S3FileSystem(endpoint_url=settings["AWS_ENDPOINT_URL"]).mkdir("pictures")
        yield "s3://pictures"
    server.stop()
