"""`segpipe view`: what it hands out, to whom, and that a browser really draws it."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neuroglancer
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from segpipe.errors import InputError
from segpipe.store.arrays import Region, create_array
from segpipe.store.folder import Folder
from segpipe.store.ome import Calibration, publish_image, publish_labels, publish_map
from segpipe.tiles import Box
from segpipe.view import open_viewer
from segpipe.view.properties import segment_properties
from tests.report.chromium import ask, console, needs_chromium, opened
from tests.report.runs import cells, scene, write_run

SHAPE, TILE = (1100, 1300), (512, 512)
TRUTH = np.repeat([[1], [2]], 550, axis=0).repeat(1300, axis=1).astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run with a pyramid and chunks inside shards, in a unit that the client does not know."""
    labels = cells(SHAPE, 100)
    labels[:550, :650] = 0
    where = tmp_path_factory.mktemp("view") / "run"
    folder = write_run(where, scene(SHAPE), labels, rgb=True, unit="degree", tile=(1024, 1024))
    put_beside(folder)
    return folder


def put_beside(folder: Folder) -> None:
    """Put ground truth and probabilities of two classes beside the labels."""
    image, size = folder / "image.ome.zarr", Calibration((0.5, 0.5))
    create_array(image, "labels/truth/0", SHAPE, "uint8", TILE)
    Region(image, "labels/truth/0", Box((0, 0), SHAPE)).write(TRUTH)
    publish_labels(image, "truth", 1, size, {})
    shares = np.stack([TRUTH == 1, TRUTH == 2]).astype(np.uint8) * 255
    create_array(image, "probability/net/0", shares.shape, "uint8", TILE)
    Region(image, "probability/net/0", Box((0, 0), SHAPE)).write(shares)
    publish_image(image / "probability/net", 1, size, ["crop", "weed"], {})


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
    found = layers(viewer)
    assert list(found) == ["image", "probability/net", "cells", "truth"]
    assert [found[n]["type"] for n in ("cells", "truth")] == ["segmentation"] * 2
    assert [found[n].get("visible", True) for n in found] == [True, False, True, False]
    assert found["cells"]["source"][1]["url"].endswith(
        "properties/cells/|neuroglancer-precomputed:"
    )
    assert "emitRGB" in layers(viewer)["image"]["shader"]


@pytest.mark.parametrize(
    ("names", "planes", "first"),
    [
        (["crop", "weed"], 2, 0),
        (["background", "crop", "weed"], 3, 1),
        (None, 3, 1),  # as methods write them: background first, without names
        (None, 1, 0),
    ],
)
def test_view__opens_probabilities_at_the_foreground(
    names: list[str] | None, planes: int, first: int, tmp_path: Path
) -> None:
    shape = (60, 70)
    folder = write_run(tmp_path / "run", scene(shape), cells(shape))
    image = folder / "image.ome.zarr"
    create_array(image, "probability/net/0", (planes, *shape), "uint8", shape)
    if names is None:
        publish_map(image, "probability/net", 1, Calibration((1.0, 1.0)), {})
    else:
        publish_image(image / "probability/net", 1, Calibration((1.0, 1.0)), names, {})
    shader = layers(open_viewer(folder.where))["probability/net"]["shader"]
    assert f"slider(min=0, max={planes - 1}, default={first})" in shader
    assert "{{" not in shader


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


def test_view__hands_out_what_was_measured(run: Folder, viewer: neuroglancer.Viewer) -> None:
    info = json.loads(fetch(data_url(viewer) + "properties/cells/info")[1])
    assert info["@type"] == "neuroglancer_segment_properties"
    table = pq.read_table(f"{run.where}/segments.parquet").to_pydict()
    assert info["inline"]["ids"] == [str(n) for n in table["label"]]
    found = {p["id"]: p for p in info["inline"]["properties"]}
    assert list(found) == [
        *("area", "compactness", "mean_red", "mean_green", "mean_blue"),
        *("std_red", "std_green", "std_blue", "label"),
    ]
    assert found["area"]["values"] == table["area"]
    np.testing.assert_allclose(found["mean_green"]["values"], table["intensity_mean-1"], rtol=1e-5)
    red, green, blue = (round(table[f"intensity_mean-{i}"][0]) for i in range(3))
    assert found["label"]["values"][0] == f"#{red:02x}{green:02x}{blue:02x}"


def test_segment_properties__largest_and_classes(tmp_path: Path) -> None:
    area = np.array([5, 900, 7, 7, 300, 7], np.int64)
    columns = {"label": np.arange(1, 7), "area": area, "class": np.array([2, 0, 2, 2, 1, 0]),
               "intensity_mean-0": np.array([1.5, np.nan, 0, 0, 0, 0])}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "segments.parquet")
    folder = Folder(str(tmp_path))
    info = json.loads(segment_properties(folder, "segments.parquet", False, most=3))["inline"]
    assert info["ids"] == ["2", "3", "5"]
    found = {p["id"]: p for p in info["properties"]}
    assert found["area"]["values"] == [900, 7, 300]
    assert found["class"]["tags"] == ["class-0", "class-1", "class-2"]
    assert found["class"]["values"] == [[0], [2], [1]]
    assert found["mean_0"]["values"] == [0, 0, 0]
    none = json.loads(segment_properties(folder, "nothing.parquet", True))["inline"]
    assert none == {"ids": [], "properties": []}


def test_view__scale_in_metres(tmp_path: Path) -> None:
    image = scene((90, 120), 2).astype(np.uint16)
    folder = write_run(tmp_path / "run", image, cells((90, 120)), unit="micrometer")
    shown = open_viewer(folder.where)
    assert shown.state.to_json()["dimensions"] == {"x": [5e-7, "m"], "y": [5e-7, "m"]}
    shader = layers(shown)["image"]["shader"]
    assert "#uicontrol invlerp contrast0(range=[" in shader
    assert "emitGrayscale" in shader


def test_view__refuses_what_is_no_finished_run(run: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run in .*run\.json"):
        open_viewer(str(tmp_path))
    (tmp_path / "collection.json").write_text("{}")
    with pytest.raises(InputError, match="is a collection; give one of its images"):
        open_viewer(str(tmp_path))
    (tmp_path / "run.json").write_text(json.dumps(run.get_json("run.json") | {"state": "running"}))
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
        assert "hidden at first: 2 probability/net, 4 truth;" in process.stdout.readline()
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
        with viewer.txn() as shown:
            shown.layers["probability/net"].visible = True
        likely = _drawn(viewer)
        with viewer.txn() as shown:
            shown.layers["probability/net"].visible = False
            shown.layers["truth"].visible = True
        truth = _drawn(viewer)
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
    # the first class is likely in the upper half, the truth covers everything
    upper, lower = rows < 540, rows > 560
    by = np.abs(likely[np.ix_(*inside)].astype(int) - drawn).max(-1) > 8
    assert by[upper].mean() > 0.9
    assert by[lower].mean() < 0.02
    assert (np.abs(truth[np.ix_(*inside)].astype(int) - drawn).max(-1) > 8).mean() > 0.9


def test_view__truth_that_does_not_fit_is_refused(run: Folder, tmp_path: Path) -> None:
    Image.fromarray(TRUTH[:100]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="100 x 1300 pixels, the image has 1100 x 1300"):
        open_viewer(run.where, truth=[str(tmp_path / "a.png")])


@needs_chromium
def test_view__draws_truth_from_a_file(run: Folder, tmp_path: Path) -> None:
    Image.fromarray(TRUTH - 1).save(tmp_path / "a.png")  # 0 in the upper half: nothing there
    viewer = open_viewer(run.where, truth=[str(tmp_path / "a.png")])
    assert list(layers(viewer)) == ["image", "probability/net", "cells", "truth", "truth 1"]
    with viewer.config_state.txn() as controls, viewer.txn() as shown:
        controls.show_ui_controls = controls.show_panel_borders = shown.show_scale_bar = False
        shown.layers["cells"].visible = False
    with opened(viewer.get_viewer_url(), tmp_path / "log"):
        before = _drawn(viewer).astype(int)
        with viewer.txn() as shown:
            shown.layers["truth 1"].visible = True
        changed = np.abs(_drawn(viewer).astype(int) - before).max(-1) > 8
    assert len(console((tmp_path / "log").read_text())) == 1
    middle = len(changed) // 2
    assert changed[: middle - 10].mean() < 0.02
    assert changed[middle + 10 : middle + 200, 300:600].mean() > 0.9


@needs_chromium
def test_view__segments_can_be_searched(run: Folder, tmp_path: Path) -> None:
    """What a user types into the segment list: the browser counts as the table does."""
    area = np.array(pq.read_table(f"{run.where}/segments.parquet")["area"])
    limit = int(np.median(area))
    viewer = open_viewer(run.where)
    with viewer.txn() as shown:
        shown.selected_layer.layer, shown.selected_layer.visible = "cells", True
        shown.layers["cells"].tab = "segments"
        shown.layers["cells"].segment_query = f"area>{limit}"
    with opened(viewer.get_viewer_url(), tmp_path / "log"):
        _drawn(viewer)
        wanted = f"{int((area > limit).sum())} match /{len(area)} total ids"
        for _ in range(40):
            said = ask(tmp_path / "log", "Runtime.evaluate", expression="document.body.innerText")
            if wanted in said["result"]["value"]:
                break
            time.sleep(0.25)
        assert wanted in said["result"]["value"]
        assert "8 numerical properties" in said["result"]["value"]
    assert len(console((tmp_path / "log").read_text())) == 1


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
