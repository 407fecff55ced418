"""The method `unet`: windows, masks, objects, what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from segpipe.errors import InputError, RunError
from segpipe.passes import ImageInfo, run_in_memory
from segpipe.quality import contingency, matches

pytest.importorskip("torch", reason="networks need pip install 'segpipe[nets]'")

from segpipe.methods import unet_passes as module
from segpipe.methods.instances import Rule, instance_passes, instances
from segpipe.methods.unet import UNet, unet
from segpipe.methods.unet_passes import class_passes
from segpipe.methods.watershed import watershed
from segpipe.nets import inference, load_model, windows
from tests.nets.tiny import tiny_model
from tests.regions.test_rank import by_first_pixel

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BACKENDS = [n for n in ("openvino", "onnxruntime", "torch") if importlib.util.find_spec(n)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder)
    tiny_model(folder, "valid", shape={"padding": "valid"})
    tiny_model(folder, "deep", distance=True, grouping={"marker": 0.7, "dynamics": 0.1})
    return folder


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Blobs of many sizes, some of them across any seam."""
    noise = np.random.default_rng(3).random((210, 170))
    smooth = ndimage.gaussian_filter(noise, 3)
    return ((smooth - smooth.min()) / np.ptp(smooth) * 60000).astype(np.uint16)


def run(method: UNet, image: np.ndarray, size=None, mask=None, order=None):
    info = ImageInfo(image.shape[:2], 1, str(image.dtype), masked=mask is not None)
    arrays = {"image": image[..., None]} | ({} if mask is None else {"mask": mask})
    return run_in_memory(method.passes(info), arrays, size, order)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["tiny", "valid", "deep"])
def test_tiles__do_not_show(models: Path, picture: np.ndarray, name: str, backend: str) -> None:
    method = UNet(str(models / f"{name}.safetensors"), window=160, backend=backend)
    whole, table = run(method, picture)
    assert whole["labels"].max() > 3
    assert len(np.unique(whole["classes"])) > 1
    for size in ((64, 64), (77, 101), method.passes(ImageInfo((210, 170), 1, "uint16"))[1].align):
        inference._remembered.cache_clear()  # windows are computed anew
        tiled, rows = run(method, picture, size)
        for array in ("fields", "classes", "labels"):
            np.testing.assert_array_equal(tiled[array], whole[array], err_msg=f"{array} {size}")
        for column, values in table["segments"].items():
            np.testing.assert_array_equal(rows["segments"][column], values, err_msg=column)


@pytest.mark.parametrize("name", ["tiny", "valid", "deep"])
def test_windows__give_what_one_window_gives(models: Path, picture: np.ndarray, name: str) -> None:
    file = str(models / f"{name}.safetensors")
    one = load_model(file).predict(picture)
    method = UNet(file, window=128, precision="fp32", probabilities="float16")
    many = run(method, picture)[0]["probabilities"]
    assert np.abs(many - one).max() < 2e-3, "float16 has 11 bits"
    bytes_of = run(method, picture)[0]["fields"].astype(int)
    assert np.abs(bytes_of - one * 255).max() < 0.51 + 255e-5


def test_shipped_rule__of_predictions_is_the_runs(models: Path, picture: np.ndarray) -> None:
    """The plain function on probabilities gives the labels of a run in tiles."""
    from segpipe.nets.grouping import group_instances

    model = load_model(models / "deep.safetensors")
    found, _ = run(UNet(str(models / "deep.safetensors"), window=128), picture, (90, 70))
    expected = group_instances(found["fields"], model.card)
    np.testing.assert_array_equal(found["labels"], expected)


@pytest.mark.parametrize("dynamics", [4, 25])
def test_instances__tiled_whole_and_by_the_watershed(dynamics: int) -> None:
    rng = np.random.default_rng(dynamics)
    inside = ndimage.gaussian_filter(rng.random((150, 130)), 2.5)
    inside = (255 * (inside - inside.min()) / np.ptp(inside)).astype(np.uint8)
    fields = np.stack([255 - inside, inside], axis=2)
    rule = Rule(110, 140, dynamics, min_size=20, min_score=125)
    whole = instances(fields, rule)
    info = ImageInfo((150, 130), 2, "uint8")
    arrays = {"image": fields, "fields": fields}
    from segpipe.regions.finish import label_pass

    for size in ((40, 40), (37, 130), (64, 50)):
        passes = (*instance_passes(rule), label_pass(info))
        tiled = run_in_memory(passes, arrays, size)[0]["labels"]
        np.testing.assert_array_equal(tiled, whole)
    depth = 64 * (255 - inside.astype(np.uint16))
    usual = watershed(depth, altitude="image", sigma=0, h=64 * dynamics, mask=inside >= 110).ravel()
    sizes = np.bincount(usual)
    means = np.bincount(usual, inside.ravel()) / np.maximum(sizes, 1)
    peaks = np.zeros(len(sizes))
    np.maximum.at(peaks, usual, inside.ravel())
    kept = (sizes >= 20) & (means >= 125) & (peaks >= 140)
    kept[0] = False
    assert whole.max() > 10
    expected = np.where(kept, np.cumsum(kept), 0)[usual].reshape(whole.shape)
    np.testing.assert_array_equal(whole, expected)


@pytest.mark.parametrize("min_size", [1, 6, 40])
def test_parts_of_classes__small_ones_are_left_out_in_any_tiling(min_size: int) -> None:
    from segpipe.regions.finish import label_pass

    rng = np.random.default_rng(min_size)
    smooth = ndimage.gaussian_filter(rng.random((120, 100)), 1.5)
    classes = np.digitize(smooth, np.quantile(smooth, [0.5, 0.8])).astype(np.uint8)
    expected = np.zeros(classes.shape, np.uint32)
    for value in (1, 2):
        parts = ndimage.label(classes == value)[0]
        large = np.bincount(parts.ravel())[parts] >= min_size
        expected += np.where(large & (classes == value), parts + 10_000 * value, 0).astype("u4")
    expected = by_first_pixel(expected)
    assert expected.max() > 10
    info = ImageInfo(classes.shape, 1, "uint8")
    passes = (*class_passes(min_size), label_pass(info))
    arrays = {"image": classes[:, :, None], "classes": classes}
    for size in (None, (40, 40), (17, 100), (64, 23)):
        found = run_in_memory(passes, arrays, size)[0]["labels"]
        np.testing.assert_array_equal(found, expected, err_msg=str(size))


def test_small_parts__of_a_model_s_classes_are_left_out(models: Path, picture: np.ndarray) -> None:
    file = str(models / "tiny.safetensors")
    every, few = (unet(picture, file, output="classes", min_size=n) for n in (None, 12))
    sizes = np.bincount(every.ravel())
    assert 0 < (sizes[1:] < 12).sum() < len(sizes) - 1
    np.testing.assert_array_equal(few > 0, (every > 0) & (sizes[every] >= 12))


def test_mask__is_background_everywhere(models: Path, picture: np.ndarray) -> None:
    mask = np.zeros(picture.shape, np.uint8)
    mask[30:150, 40:120] = 1
    mask[70:80] = 0
    method = UNet(str(models / "tiny.safetensors"), window=96, output="classes")
    found, _ = run(method, picture, mask=mask)
    for array in ("labels", "classes", "fields"):
        assert not found[array][mask == 0].any()
    tiled, _ = run(method, picture, (70, 90), mask)
    np.testing.assert_array_equal(tiled["labels"], found["labels"])
    nothing, _ = run(method, picture, mask=np.zeros_like(mask))
    assert not nothing["labels"].any()


def test_windows_without_pixels__cost_nothing(
    models: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = inference._computed

    def counted(start, batches, size):
        for item in plain(start, batches, size):
            seen.append(item[0])
            yield item

    monkeypatch.setattr(inference, "_computed", counted)
    mask = np.zeros(picture.shape, np.uint8)
    mask[:20, :20] = 1
    run(UNet(str(models / "tiny.safetensors"), window=96), picture, mask=mask)
    assert seen == [(0, 0)]


def test_nan_pixels__count_as_masked(models: Path, picture: np.ndarray) -> None:
    image = picture.astype(np.float32)
    image[50:60, 50:60] = np.nan
    labels = unet(image, str(models / "tiny.safetensors"), output="classes")
    assert not labels[50:60, 50:60].any()
    assert labels.any()


def test_nan_output__is_an_error_and_no_background(
    models: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = lambda batch: lambda: np.full((1, 3, *batch.shape[2:]), np.nan, np.float32)  # noqa: E731
    monkeypatch.setattr(inference, "loaded", lambda *_: broken)
    with pytest.raises(RunError, match="not finite at rows and columns"):
        unet(picture, str(models / "tiny.safetensors"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_overflow__of_a_network_is_an_error(
    models: Path, picture: np.ndarray, tmp_path: Path, backend: str
) -> None:
    """Weights that are finite, outputs that are not, by the libraries themselves."""
    from segpipe.nets.weights import load_network, save

    network, card = load_network(models / "tiny.safetensors")
    network.head.weight.fill_(3e38)
    network.head.bias.fill_(3e38)
    save(tmp_path / "huge.safetensors", network, card)
    with pytest.raises(RunError, match="the network tiny gave numbers that are not finite"):
        unet(picture * 1.0, str(tmp_path / "huge.safetensors"), backend=backend)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 7), (33, 2)])
def test_images_smaller_than_a_window__are_continued(models: Path, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    labels = unet(image, str(models / "tiny.safetensors"), output="classes")
    assert labels.shape == shape


def test_workers__that_compute_differently_are_not_mixed() -> None:
    say = lambda text: {"computed": np.frombuffer(text, np.uint8)}  # noqa: E731
    with pytest.raises(RunError, match="in different ways"):
        module._same([say(b'{"a": 1}'), say(b'{"a": 2}')], None, None)


def test_weights_that_changed__stop_a_run(models: Path, picture: np.ndarray) -> None:
    file = dataclasses.replace(inference_file(models), digest="0" * 64)
    from segpipe.nets.backends import choose, loaded

    with pytest.raises(RunError, match="has changed since the run began"):
        loaded(file, choose(file), (64, 64), 1)


def inference_file(models: Path):
    from segpipe.nets.files import open_model

    return open_model(models / "tiny.safetensors")


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ({"channels": 5}, {}, r"needs 1 channel \(.*\), got 5; name 1 .* 5: channels: \[0\]$"),
        ({}, {"model": "vessels"}, r"got 1; give an image that has them; channels: \[0, 0, 0\]"),
        ({"channels": 2}, {"channels": [2]}, "channels must be 0 to 1, got 2"),
        ({}, {"backend": "tensorrt"}, "backend"),
        ({}, {"window": 10}, "window must be 64 to 8192"),
        (
            {"pixel_size": (5.0, 5.0), "pixel_unit": "micrometer"},
            {},
            "was trained on pixels of 0.5",
        ),
        ({}, {"model": "nowhere.onnx"}, "there is no model"),
        ({}, {"model": "nuclie"}, "there is no model nuclie; did you mean `nuclei`?"),
    ],
)
def test_what_does_not_fit__is_refused(tmp_path: Path, image, options, message) -> None:
    from segpipe.nets.card import PixelSize
    from segpipe.stage_plans import build_method

    path = tiny_model(tmp_path, pixel_size=PixelSize(value=0.5))
    info = ImageInfo(**({"shape": (100, 100), "channels": 1, "dtype": "uint8"} | image))
    with pytest.raises(InputError, match=message):
        build_method("unet", {"model": str(path)} | options).passes(info)


def test_repeated_channel__is_taken_as_the_refusal_says() -> None:
    gray = np.random.default_rng(0).integers(0, 255, (70, 80), dtype=np.uint8)
    repeated = unet(gray, "vessels", output="classes", channels=(0, 0, 0))
    np.testing.assert_array_equal(repeated, unet(np.stack([gray] * 3, 2), "vessels"))


def test_rgb__is_seen_as_luminance_by_a_model_of_one_channel(models: Path, slide_rgb) -> None:
    from segpipe.methods.whole import gray

    path, small = str(models / "tiny.safetensors"), slide_rgb[:100, :90]
    np.testing.assert_array_equal(unet(small, path), unet(gray(small, None), path))


@pytest.mark.parametrize(("n", "margin"), [(1, 3), (4, 9), (10, 4)])
def test_reflected__is_numpys(n: int, margin: int) -> None:
    line = np.arange(n)
    wide = np.pad(line, margin, mode="reflect" if n > 1 else "edge")
    np.testing.assert_array_equal(line[windows.reflected(-margin, n + 2 * margin, margin, n)], wide)


@pytest.mark.parametrize(
    ("kind", "least"), [("histology_purple", 0.55), ("brightfield_gray", 0.4), ("fluo", 0.7)]
)
def test_nuclei_rgb__finds_unseen_nuclei_of_every_kind(data: Path, kind: str, least: float) -> None:
    """Of images that training left out, grey ones given as three equal channels."""
    from segpipe.nets.training import pairs, recipe

    folder = data / "dsb2018"
    if not folder.is_dir():
        pytest.skip("no dsb2018 at hand")
    parts = [f"data.{part}={folder}/{part}" for part in ("images", "labels")]
    chosen = recipe.load(CONFIGS / "training/nuclei-rgb.yaml", parts).data
    with (folder / "index.csv").open(newline="") as file:
        kinds = {row["id"][:16]: row["type"] for row in csv.DictReader(file)}
    unseen = [p for p in pairs.find(chosen) if p.part == "test" and kinds[p.name] == kind][:8]
    found = []
    for pair in unseen:
        image, truth, _counts = pairs.read(pair, chosen)
        labels = unet(image.astype(np.uint8)[:512, :512], "nuclei-rgb")
        found.append(matches(contingency(labels, truth[:512, :512]), 0.5).ap)
    assert len(found) >= 4
    assert np.mean(found) > least


def test_nuclei__across_seams_come_out_whole(data: Path) -> None:
    """Neighbouring images of one field, put together: tiles of one image each change nothing."""
    folder = data / "dsb2018"
    if not folder.is_dir():
        pytest.skip("no dsb2018 at hand")
    quads = json.loads((folder / "mosaics_2x2.json").read_text())["quads"]
    there = {path.stem for path in (folder / "images").glob("*.png")}
    sure = [q for q in quads if q["type"] == "fluo" and q["seam_match_iou"] >= 0.6]
    chosen = [q for q in sure if there.issuperset(q["tiles"])][:4]
    assert chosen
    for quad in chosen:
        parts = [
            np.asarray(Image.open(folder / f"images/{tile}.png").convert("L"))
            for tile in quad["tiles"]
        ]
        mosaic = np.block([[parts[0], parts[1]], [parts[2], parts[3]]])
        whole, table = run(UNet(), mosaic)
        tiled, rows = run(UNet(), mosaic, parts[0].shape, order=[2, 0, 3, 1])
        np.testing.assert_array_equal(tiled["labels"], whole["labels"])
        for name, column in table["segments"].items():
            np.testing.assert_array_equal(rows["segments"][name], column, err_msg=name)
        h, w = parts[0].shape
        seams = [whole["labels"][[h - 1, h]], whole["labels"][:, [w - 1, w]].T]
        assert any(((a == b) & (a > 0)).any() for a, b in seams), "no object crosses a seam"
