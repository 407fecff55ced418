"""Data of a training that cannot be used: said with the file, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segpipe.errors import InputError
from segpipe.nets.training import pairs, recipe
from segpipe.nets.training.batches import load
from segpipe.nets.training.train import card_of, train
from tests.nets.test_training import made, values, write_discs


def data_of(folder: Path, **more: Any) -> recipe.Data:
    return recipe.Data(images=str(folder / "images"), labels=str(folder / "labels"), **more)


def test_pairs__names_that_are_not_unique(tmp_path: Path) -> None:
    write_discs(tmp_path, 2, 16)
    for kind in ("labels", "images"):
        double = tmp_path / kind / "1.bmp"
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(double)
        with pytest.raises(InputError, match=r"1.bmp and .*1.png have one name but for the suffix"):
            pairs.find(data_of(tmp_path))
        double.unlink()


def test_pairs__a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    write_discs(tmp_path, 2, 16)
    data = data_of(tmp_path).model_copy(update={"labels": str(tmp_path / "labels/1.png")})
    with pytest.raises(InputError, match=r"1.png is a file; give a folder, as data.images is one"):
        pairs.find(data)
    data = data_of(tmp_path).model_copy(update={"images": str(tmp_path / "images/1.png")})
    with pytest.raises(InputError, match=r"1.png is a file; give a folder, as data.labels is one"):
        pairs.find(data)


def test_pairs__no_image_at_all_goes_before_the_table(tmp_path: Path) -> None:
    write_discs(tmp_path, 0, 16)
    (tmp_path / "t.csv").write_text("name\n0\n")
    with pytest.raises(InputError, match="there is no image in"):
        pairs.find(data_of(tmp_path, table=str(tmp_path / "t.csv")))


def test_read__numbers_beyond_what_crops_can_hold(tmp_path: Path) -> None:
    write_discs(tmp_path, 1, 16)
    numbers = np.zeros((16, 16), np.uint32)
    numbers[2:5], numbers[5:8], numbers[8:] = 1 << 31, (1 << 31) + 1, 7
    (tmp_path / "labels/0.png").unlink()
    tifffile.imwrite(tmp_path / "labels/0.tif", numbers)
    data = data_of(tmp_path, validation=0, test=0)
    found = pairs.read(pairs.find(data)[0], data)[1]
    assert found[:, 0].tolist() == [0] * 2 + [2] * 3 + [3] * 3 + [1] * 8


def test_load__names_the_image_and_minds_what_counts(tmp_path: Path) -> None:
    write_discs(tmp_path, 1, 64)
    (tmp_path / "images/0.png").unlink()
    pixels = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    pixels[:4] = np.nan
    given = values(tmp_path, tmp_path / "run")
    given["data"] |= {"validation": 0, "test": 0}
    chosen = made(given)
    tifffile.imwrite(tmp_path / "images/0.tif", pixels)
    (sample,) = load(pairs.find(chosen.data), chosen, card_of(chosen))
    assert not sample.counts[:4].any(), "no number, no pixel"
    assert np.isfinite(sample.inputs).all()
    tifffile.imwrite(tmp_path / "images/0.tif", np.dstack([pixels] * 3), photometric="rgb")
    with pytest.raises(InputError, match=r"images/0.tif: the model discs needs 1 channel"):
        load(pairs.find(chosen.data), chosen, card_of(chosen))


def test_refused__leaves_nothing_and_a_mended_call_goes_on(tmp_path: Path) -> None:
    write_discs(tmp_path, 12, 64)
    good = (tmp_path / "images/5.png").read_bytes()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "images/5.png")
    given = values(tmp_path, tmp_path / "run", steps=1)
    with pytest.raises(InputError, match=r"5.png: the model discs needs 1 channel"):
        train(made(given))
    assert not (tmp_path / "run").exists()
    (tmp_path / "images/5.png").write_bytes(good)
    train(made(given))
    for name in ("checkpoint.pt", "best.safetensors"):
        (tmp_path / "run" / name).unlink()
    other = given | {"schedule": given["schedule"] | {"steps": 2}}
    train(made(other))  # a recipe alone, without a checkpoint, holds no training


def test_no_validation_images__is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_discs(tmp_path, 4, 64)
    given = values(tmp_path, tmp_path / "run", steps=1)
    given["data"] |= {"validation": 0, "test": 0}
    train(made(given))
    assert "no validation images, so the last step is the model" in caplog.text


def test_initial__models_of_others(tmp_path: Path) -> None:
    write_discs(tmp_path, 12, 64)
    given = values(tmp_path, tmp_path / "run") | {"initial": "vessels"}
    with pytest.raises(InputError, match=r"initial: vessels is a model of others \(vessels.onnx\)"):
        train(made(given))
    assert not (tmp_path / "run").exists()


def test_claim__names_key_and_both_values(tmp_path: Path) -> None:
    write_discs(tmp_path, 12, 64)
    given = values(tmp_path, tmp_path / "run", steps=1)
    model = train(made(given))["model"]
    again = given | {"schedule": given["schedule"] | {"steps": 7}, "loss": {"dice": 2}}
    with pytest.raises(InputError, match=r"in loss.dice 0.0 \(here 2.0\); schedule.steps 1 \(here"):
        train(made(again))
    other = values(tmp_path, tmp_path / "other", steps=1)
    train(made(other | {"initial": model}))
    with pytest.raises(InputError, match=r"differs in initial \(other weights, or none\); give"):
        train(made(other))
