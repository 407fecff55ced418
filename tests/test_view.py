"""`segpipe view`: what it hands out, to whom, and that a browser really draws it."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neuroglancer
import numpy as np
import pytest
from PIL import Image

from segpipe.errors import InputError
from segpipe.store.folder import Folder
from segpipe.view import open_viewer
from tests.report.chromium import console, needs_chromium, opened
from tests.report.runs import cells, scene, write_run

SHAPE, TILE = (1100, 1300), (512, 512)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run with a pyramid and chunks inside shards, in a unit that the client does not know."""
    labels = cells(SHAPE, 100)
    labels[:550, :650] = 0
    where = tmp_path_factory.mktemp("view") / "run"
    return write_run(where, scene(SHAPE), labels, rgb=True, unit="degree", tile=(1024, 1024))


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    yield
    neuroglancer.stop()


@pytest.fixture(scope="module")
def viewer(run: Folder) -> neuroglancer.Viewer:
    return open_viewer(run.where)


def layers(viewer: neuroglancer.Viewer) -> dict[str, Any]:
    return {layer["name"]: layer for layer in viewer.state.to_json()["layers"]}


def data_url(viewer: neuroglancer.Viewer) -> str:
    return layers(viewer)["image"]["source"][0]["url"].removesuffix("|zarr3:")


def fetch(url: str, **headers: str) -> tuple[int, bytes, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.status, answer.read(), answer.headers


def test_view__state(viewer: neuroglancer.Viewer) -> None:
    state = viewer.state.to_json()
    assert viewer.get_viewer_url().startswith("http://127.0.0.1:")
    assert state["position"] == [650, 550]
    assert list(layers(viewer)) == ["image", "cells"]
    assert layers(viewer)["cells"]["type"] == "segmentation"
    assert "emitRGB" in layers(viewer)["image"]["shader"]


def test_view__hands_out_bytes_and_ranges(run: Folder, viewer: neuroglancer.Viewer) -> None:
    name = "0/c/0/0/0"
    stored, url = run.get(f"image.ome.zarr/{name}"), data_url(viewer) + name
    assert stored
    n = len(stored)
    assert fetch(url)[1] == stored
    for asked, part in (
        ("0-9", stored[:10]),
        (f"{n - 5}-{n + 9}", stored[-5:]),
        ("-7", stored[-7:]),
    ):
        status, found, headers = fetch(url, Range=f"bytes={asked}")
        assert (status, found) == (206, part)
        assert headers["Content-Range"].endswith(f"/{n}")
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        assert int(answer.headers["Content-Length"]) == n


@pytest.mark.parametrize("name", ["nothing", "../run.json", "..%2Frun.json", "0/../../run.json"])
def test_view__hands_out_nothing_else(viewer: neuroglancer.Viewer, name: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(data_url(viewer) + name)
    assert caught.value.code == 404
    with pytest.raises(urllib.error.HTTPError):
        fetch(data_url(viewer).rsplit("/", 2)[0] + "/guessed/zarr.json")


def test_view__leaves_out_units_the_client_refuses(viewer: neuroglancer.Viewer) -> None:
    group = json.loads(fetch(data_url(viewer) + "labels/cells/zarr.json")[1])
    axes = group["attributes"]["ome"]["multiscales"][0]["axes"]
    assert axes == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]


def test_view__scale_in_metres(tmp_path: Path) -> None:
    image = scene((90, 120), 2).astype(np.uint16)
    folder = write_run(tmp_path / "run", image, cells((90, 120)), unit="micrometer")
    shown = open_viewer(folder.where)
    assert shown.state.to_json()["dimensions"] == {"x": [5e-7, "m"], "y": [5e-7, "m"]}
    shader = layers(shown)["image"]["shader"]
    assert "#uicontrol invlerp contrast0(range=[" in shader
    assert "emitGrayscale" in shader


def test_view__refuses_what_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run in .*run\.json"):
        open_viewer(str(tmp_path))
    (tmp_path / "run.json").write_text('{"state": "running"}')
    with pytest.raises(InputError, match=r"not complete; go on with `segpipe resume"):
        open_viewer(str(tmp_path))


SERVE = """
import sys
from segpipe.errors import InputError
from segpipe.view import serve
try:
    serve(sys.argv[1], port=int(sys.argv[2]), say=lambda text: print(text, flush=True))
except InputError as error:
    print(error)
    sys.exit(2)
print("left in good order")
"""


def test_serve__says_where_and_ends_with_ctrl_c(run: Folder) -> None:
    command = [sys.executable, "-c", SERVE, run.where, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        assert b"neuroglancer" in fetch(url)[1]
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "left in good order" in process.communicate(timeout=20)[0]
        assert process.returncode == 0


def test_serve__port_in_use(run: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-c", SERVE, run.where, str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1, port" in done.stdout


@needs_chromium
def test_view__a_browser_draws_image_and_labels(
    viewer: neuroglancer.Viewer, tmp_path: Path
) -> None:
    with viewer.config_state.txn() as controls, viewer.txn() as shown:
        controls.show_ui_controls = controls.show_panel_borders = shown.show_scale_bar = False
    with opened(viewer.get_viewer_url(), tmp_path / "log"):
        both = _drawn(viewer)
        with viewer.txn() as shown:
            shown.layers["cells"].visible = False
        image = _drawn(viewer)
    said = console((tmp_path / "log").read_text())
    assert len(said) == 1, said
    assert "event source connected" in said[0]
    # the picture is the image, around its middle, at the scale of the state
    scale, position = viewer.state.cross_section_scale, viewer.state.position
    at = [
        (np.arange(n) + 0.5 - n / 2) * scale + centre
        for n, centre in zip(image.shape[:2], position[::-1], strict=True)
    ]
    inside = [(a >= 4) & (a < n - 4) for a, n in zip(at, SHAPE, strict=True)]
    rows, columns = (a[i].astype(int) for a, i in zip(at, inside, strict=True))
    expected = scene(SHAPE)[rows[:, None], columns].astype(int)
    drawn, covered = (p[np.ix_(*inside)].astype(int) for p in (image, both))
    assert np.abs(drawn - expected).mean() < 12
    # and the labels cover it where there are any
    changed = np.abs(covered - drawn).max(-1) > 8
    labelled = (rows[:, None] >= 560) | (columns >= 660)
    empty = (rows[:, None] < 540) & (columns < 640)
    assert changed[labelled].mean() > 0.9
    assert changed[empty].mean() < 0.02


def _drawn(viewer: neuroglancer.Viewer) -> np.ndarray:
    """Return what the browser shows once everything is loaded."""
    answer: list[Any] = []
    ready = threading.Event()

    def take(found: Any) -> None:
        answer.append(found.screenshot)
        ready.set()

    viewer.async_screenshot(take)
    assert ready.wait(40), "the browser drew nothing"
    return np.asarray(Image.open(io.BytesIO(answer[0].image)).convert("RGB"))
