"""Models of others: bioimage.io packages and ONNX with a card; files that are refused."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segpipe.errors import InputError
from segpipe.methods.unet import UNet, unet
from segpipe.nets import load_model
from segpipe.nets.backends import choose, loaded
from segpipe.nets.backends.pytorch import as_onnx
from segpipe.nets.files import open_model
from segpipe.nets.weights import load_network
from segpipe.passes import ImageInfo, run_in_memory
from tests.nets.lwnet import built
from tests.nets.tiny import tiny_model

COLOURS = ((200.0, 60.0), (110.0, 70.0), (60.0, 30.0))
"""Of a fundus: red, green and blue of the ground, and how much darker vessels are."""

pytest.importorskip("bioimageio.spec", reason="pip install 'segpipe[nets]'")


@pytest.fixture(scope="module")
def broad(data: Path) -> Path:
    folder = data / "models/unet2d_nuclei_broad"
    if not folder.is_dir():
        pytest.skip("no bioimage.io package at hand")
    return folder


@pytest.fixture(scope="module")
def package(broad: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "broad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(broad / "bioimageio.yaml", "rdf.yaml")
        archive.write(broad / "weights.onnx", "weights.onnx")
    return path


@pytest.fixture
def onnx_model(tmp_path: Path) -> Path:
    network, _card = load_network(tiny_model(tmp_path))
    path = tmp_path / "other.onnx"
    path.write_bytes(as_onnx(network, 1, (96, 96)))
    card = {
        "channels": ["c0"],
        "classes": ["background", "interior", "border"],
        "halo": 24,
        "align": 4,
        "normalisation": {"method": "percentiles", "low": [1.0], "high": [99.8], "clip": [-1, 4]},
        "grouping": {"foreground": 0.5, "marker": 0.4, "min_size": 4},
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_vessels__is_the_network_of_its_authors(data: Path) -> None:
    """The shipped file against the network built from their weights, on a photograph."""
    weights = data / "models/lwnet_drive/weights_state_dict.npz"
    photograph = data / "drive_retina/training/images/21_training.png"
    if not (weights.is_file() and photograph.is_file()):
        pytest.skip("no weights of lwnet or no photograph of a retina at hand")
    with np.load(weights) as arrays:
        network = built(dict(arrays))
    image = np.asarray(Image.open(photograph))[100:292, 150:406]
    inputs = torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(255))
    file = open_model("vessels")
    start = loaded(file, choose(file, "onnxruntime", "fp32", "cpu"), image.shape[:2], 1)
    found = start(inputs.numpy())()
    assert found.std() > 1
    np.testing.assert_allclose(found, network(inputs).numpy(), atol=1e-4)


def test_vessels__config_finds_lines(tmp_path: Path) -> None:
    """A dark curve on a bright field is a vessel, in any tiles."""
    rows, columns = np.mgrid[:320, :352]
    away = np.abs(rows - 160 - 60 * np.sin(columns / 50))
    image = np.stack([top - depth * np.exp(-((away / 3) ** 2)) for top, depth in COLOURS], -1)
    found = unet(image.astype(np.uint8), model="vessels", output="classes", backend="onnxruntime")
    inner = (slice(40, -40), slice(40, -40))
    assert (found[inner][away[inner] < 1.5] > 0).mean() > 0.9
    assert (found[inner][away[inner] > 12] > 0).mean() < 0.02


def test_onnx__is_another_model_with_another_card(onnx_model: Path) -> None:
    """A run goes on with the very model it began with, of which the card is a part."""
    before = open_model(onnx_model)
    card = json.loads(onnx_model.with_suffix(".json").read_text())
    card["normalisation"]["high"] = [99.0]
    onnx_model.with_suffix(".json").write_text(json.dumps(card))
    after = open_model(onnx_model)
    assert after.normalisation.high == (99.0,)
    assert after.digest == before.digest
    assert after.identity != before.identity
    image = ImageInfo((96, 96), 1, "uint8")
    files = [step.files for step in UNet(str(onnx_model)).passes(image) if step.files]
    assert files == [(("other", after.identity),)]


def test_bioimage__reproduces_its_test_output(broad: Path, package: Path) -> None:
    image, expected = (np.load(broad / f"test_{n}put.npy")[0, 0] for n in ("in", "out"))
    for path in (broad, broad / "bioimageio.yaml", package):
        found = load_model(path).predict(image)
        assert np.abs(found[..., 1] - expected).max() < 1e-5


def test_bioimage__tiles_do_not_show(package: Path, broad: Path) -> None:
    image = np.load(broad / "test_input.npy")[0, 0][:, :300]
    image = np.pad(image, ((0, 90), (0, 0)), mode="reflect")  # windows of 512 are blended
    method = UNet(str(package), output="classes", precision="fp32")
    passes = method.passes(ImageInfo(image.shape, 1, "float32"))
    whole, _ = run_in_memory(passes, {"image": image[..., None]})
    tiled, _ = run_in_memory(passes, {"image": image[..., None]}, (256, 200))
    assert 0.05 < (whole["classes"] == 1).mean() < 0.9
    for name in ("fields", "classes", "labels"):
        np.testing.assert_array_equal(tiled[name], whole[name])
    predicted = load_model(package).predict(image)
    assert np.abs(predicted * 255 - whole["fields"]).max() < 1


def test_onnx__gives_what_ours_gives(onnx_model: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 4000, (150, 110)).astype(np.uint16)
    ours = load_model(tmp_path / "tiny.safetensors").predict(image)
    theirs = load_model(onnx_model).predict(image)
    assert np.abs(ours - theirs).max() < 1e-4
    labels = unet(image, str(onnx_model), backend="onnxruntime")
    assert labels.max() > 3


def test_onnx__needs_a_card_that_fits(onnx_model: Path) -> None:
    card = onnx_model.with_suffix(".json")
    said = json.loads(card.read_text())
    for change, message in (
        ({"classes": ["background", "cell"]}, r"names 2 outputs, the network has \?x3"),
        ({"channels": ["a", "b"]}, "names 2 channels"),
        ({"halo": 60}, "leaves nothing"),
        ({"hallo": 1}, "hallo"),
    ):
        card.write_text(json.dumps(said | change))
        onnx_model.touch()
        with pytest.raises(InputError, match=message):
            open_model(onnx_model)
    card.unlink()
    onnx_model.touch()
    with pytest.raises(InputError, match="describe them in"):
        open_model(onnx_model)


class Evil:
    def __reduce__(self):
        return (Path("pwned").touch, ())


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.pkl"])
def test_pickles__are_not_read(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="can hold programs"):
        load_model(tmp_path / name)
    for disguised in ("b.safetensors", "b.onnx", "b.zip"):
        shutil.copy(tmp_path / name, tmp_path / disguised)
        (tmp_path / "b.json").write_text(
            '{"channels": ["a"], "classes": ["background", "b"], "halo": 8}'
        )
        with pytest.raises(InputError, match="no intact"):
            load_model(tmp_path / disguised)
    assert not (tmp_path / "pwned").exists()


def test_packages__with_programs_elsewhere_or_damaged(broad: Path, tmp_path: Path) -> None:
    text = (broad / "bioimageio.yaml").read_text()
    home = tmp_path / "model"
    home.mkdir()
    rdf = home / "rdf.yaml"
    cut = text.index("  onnx:"), text.index("  pytorch_state_dict:")
    for changed, message in (
        (
            text[: cut[0]] + text[cut[1] :].replace("    parent: pytorch_state_dict\n", ""),
            "has no ONNX weights",
        ),
        (text, "missing or damaged"),
        (text.replace("id: zero_mean_unit_variance", "id: binarize", 1), "no valid|not done here"),
        ("format_version: 0.5.4\ntype: model\n", "no valid bioimage.io model"),
    ):
        rdf.write_text(changed)
        with pytest.raises(InputError, match=message):
            open_model(rdf)
    rdf.write_text(text)
    (home / "weights.onnx").write_bytes((broad / "weights.onnx").read_bytes()[:-9] + b"xxxxxxxxx")
    with pytest.raises(InputError, match="SHA-256 is not the one"):
        open_model(home)


def test_corrupt_safetensors__is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError):
        unet(np.zeros((40, 40), np.uint8), str(path))
