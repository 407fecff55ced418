"""Training: it learns, it can be interrupted, and it says what it cannot use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.measure import label

from segpipe.config import dump
from segpipe.errors import InputError
from segpipe.nets import load_model, weights
from segpipe.nets.training import loop, pairs, recipe, targets
from segpipe.nets.training.augment import Augmenter
from segpipe.nets.training.batches import Batches, class_weights, load
from segpipe.nets.training.launch import command, processes
from segpipe.nets.training.loss import loss
from segpipe.nets.training.recipe import Augmentation
from segpipe.nets.training.train import card_of, train

NOTHING = {
    "flip": False, "rotation": 0, "scale": [1, 1], "elastic": 0, "gamma": 1, "brightness": 0,
    "noise": 0, "blur": 0,
}  # fmt: skip


def write_discs(folder: Path, number: int = 12, edge: int = 64) -> None:
    """Bright discs of several sizes on noise, some of them touching."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    y, x = np.indices((edge, edge))
    for n in range(number):
        rng = np.random.default_rng(n)
        labels = np.zeros((edge, edge), np.uint16)
        for number_of in range(1, 12):
            centre, radius = rng.uniform(6, edge - 6, 2), rng.uniform(5, 9)
            disc = np.hypot(y - centre[0], x - centre[1]) < radius
            if (labels[disc] > 0).mean() < 0.05:
                labels[disc & (labels == 0)] = number_of
        image = 40 + 120 * (labels > 0) + rng.normal(0, 8, labels.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"images/{n}.png")
        Image.fromarray(labels).save(folder / f"labels/{n}.png")


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    write_discs(folder)
    return folder


def values(folder: Path, output: Path, **schedule: Any) -> dict[str, Any]:
    return {
        "name": "discs",
        "output": str(output),
        "data": {
            "images": str(folder / "images"),
            "labels": str(folder / "labels"),
            "validation": 0.2,
            "test": 0.2,
        },
        "network": {"depth": 2, "width": 4},
        "targets": {"distance": True},
        "schedule": {
            "crop": 64, "batch": 4, "steps": 4, "validate_every": 2, "warmup": 5, "ema": 0.5,
            "device": "cpu", "precision": "float32", "learning_rate": 0.02, **schedule,
        },
    }  # fmt: skip


def made(values: dict[str, Any]) -> recipe.Recipe:
    return recipe.Recipe.model_validate(values)


def test_train__learns_discs(discs: Path, tmp_path: Path) -> None:
    """In some seconds: the loss falls by far, and the foreground is that of the discs."""
    rows: list[dict[str, Any]] = []
    chosen = made(
        values(discs, tmp_path / "run", steps=140, validate_every=70, ema=0.9, learning_rate=0.008)
    )
    result = train(chosen, rows.append)
    assert [rows[0][f"{part} images"] for part in pairs.PARTS] == [9, 2, 1]
    assert rows[1]["step"] == loop.FIRST_STEPS, "how long it takes is said early"
    assert 0 < rows[1]["minutes to go at most"] < 60
    assert rows[-1]["loss"] < 0.5 * rows[2]["loss"]
    model = load_model(result["model"])
    assert model.card.training.images["train"] + 1 < 12
    image = np.asarray(Image.open(discs / "images/0.png"))
    labels = np.asarray(Image.open(discs / "labels/0.png"))
    found = model.predict(image)[..., 0] < 0.5
    assert 2 * (found & (labels > 0)).sum() / (found.sum() + (labels > 0).sum()) > 0.9
    page = Path(result["report"]).read_text("utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "").split("<script>")[0]
    assert "Scores on the validation part" in page
    card = Path(result["card"]).read_text("utf-8")
    assert "| test | " in card
    assert str(tmp_path) not in card, "paths of this machine are nobody's business"


def test_train__begins_with_a_model(discs: Path, tmp_path: Path) -> None:
    """Fine-tuning: without a step worth the name, the weights are those it began with."""
    first = train(made(values(discs, tmp_path / "first", steps=3)))
    given = values(discs, tmp_path / "second", steps=1, learning_rate=1e-12, warmup=0)
    again = train(made(given | {"initial": first["model"]}))
    one, other = (load_model(result["model"]) for result in (first, again))
    for (name, a), b in zip(
        one.network.named_parameters(), other.network.parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0, msg=name)
    assert "began with the weights of discs, trained for " in other.card.training.notes
    assert str(tmp_path) not in other.card.to_json()
    for change, message in (
        (
            {"network": {"depth": 1, "width": 3}},
            "initial: .* it needs network.depth 2 .here 1., network",
        ),
        ({"initial": str(tmp_path / "absent.safetensors")}, "there is no model"),
    ):
        with pytest.raises(InputError, match=message):
            train(made(given | {"initial": first["model"], "output": str(tmp_path / "3")} | change))
        assert not (tmp_path / "3").exists(), "the corrected recipe would be refused"


def test_train__begins_with_a_model_of_other_channels(discs: Path, tmp_path: Path) -> None:
    """What one channel taught is shared by three: grey in colour gives what it gave."""
    first = train(made(values(discs, tmp_path / "first", steps=3)))
    one, _card = weights.load_network(first["model"])
    three = weights.load_spread(first["model"], 3)
    grey = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(three(grey.repeat(1, 3, 1, 1)), one(grey), atol=1e-5, rtol=0)
    given = values(discs, tmp_path / "second", steps=1)
    given["data"]["colour"] = True
    colours = {"channels": ["red", "green", "blue"], "initial": first["model"]}
    model = load_model(train(made(given | colours))["model"])
    image = np.asarray(Image.open(discs / "images/0.png"))
    assert model.predict(np.stack([image] * 3, axis=2)).shape == (64, 64, 4)
    with pytest.raises(InputError, match="needs 3 channel"):
        model.predict(image)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {**saved["network"], **saved["average"]}


def test_train__resumed_is_uninterrupted_bit_by_bit(discs: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(made(values(discs, whole, steps=6)))

    def stop(row: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(made(values(discs, parts, steps=6)), stop)
    train(made(values(discs, parts, steps=6)))
    one, other = weights_of(whole), weights_of(parts)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    again = train(made(values(discs, parts, steps=6)))
    assert Path(again["model"]).exists(), "a finished training is not trained again"


def test_train__another_recipe_needs_another_folder(discs: Path, tmp_path: Path) -> None:
    train(made(values(discs, tmp_path, steps=2)))
    with pytest.raises(InputError, match="holds a training that differs in schedule"):
        train(made(values(discs, tmp_path, steps=3)))
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged or no checkpoint"):
        train(made(values(discs, tmp_path, steps=2)))


def test_train__stops_early(discs: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    given = values(discs, tmp_path, steps=40, validate_every=1, patience=3, learning_rate=1e-9)
    train(made(given), rows.append)
    assert len(rows) < 10


def test_train__two_processes_step_as_one(discs: Path, tmp_path: Path) -> None:
    """DistributedDataParallel over gloo, as torchrun starts it; each has half of the batch."""
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(values(discs, tmp_path / "run", steps=2)))
    line = command(2, path, ["schedule.threads=1"], str(tmp_path / "run"))
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 2 ") == 1, "only the first process speaks"
    assert (tmp_path / "run/model.safetensors").exists()


def test_launch__one_process_per_gpu(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as share the batch evenly; under torchrun no more."""
    given = values(discs, tmp_path)
    given["schedule"] |= {"device": "auto", "batch": 8}
    for gpus, wanted in ((0, 1), (1, 1), (2, 2), (3, 2), (8, 8), (16, 8)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert processes(made(given)) == wanted
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert processes(made(given)) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and there is none")
@pytest.mark.parametrize("precision", ["auto", "float16", "bfloat16"])
def test_train__cuda(discs: Path, tmp_path: Path, precision: str) -> None:
    rows: list[dict[str, Any]] = []
    given = values(discs, tmp_path, steps=60, validate_every=20, device="cuda", precision=precision)
    train(made(given), rows.append)
    assert rows[-1]["loss"] < 0.7 * rows[1]["loss"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_train__no_gpu(discs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="torch sees no GPU"):
        train(made(values(discs, tmp_path / "a", device="cuda")))
    with pytest.raises(InputError, match="float16 needs a GPU"):
        train(made(values(discs, tmp_path / "b", precision="float16")))


def test_train__bfloat16(discs: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    train(
        made(values(discs, tmp_path, steps=20, validate_every=10, precision="bfloat16")),
        rows.append,
    )
    assert rows[-1]["loss"] < rows[1]["loss"]


def test_train__classes(discs: Path, tmp_path: Path) -> None:
    """Semantic: labels are classes, cross-entropy and Dice, no objects."""
    classes = tmp_path / "classes"
    classes.mkdir()
    for path in (discs / "labels").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(
            classes / path.name
        )
    given = values(discs, tmp_path / "run", steps=60, validate_every=30)
    given["data"] |= {"labels": str(classes), "kind": "classes"}
    given |= {
        "targets": {"classes": ["background", "disc"]},
        "loss": {"dice": 1, "class_weights": "balanced"},
    }
    model = load_model(train(made(given))["model"])
    assert model.card.grouping is None
    assert model.card.training.metrics["test"]["Dice"] > 0.85


def test_train__masks(discs: Path, tmp_path: Path) -> None:
    """Objects are the connected parts of masks; background alone may part them."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (discs / "labels").iterdir():
        numbers = np.asarray(Image.open(path))
        Image.fromarray((numbers > 0).astype(np.uint8) * 255).save(masks / path.name)
    given = values(discs, tmp_path / "run", steps=60, validate_every=30)
    given["data"] |= {"labels": str(masks), "connected": True}
    given |= {"targets": {"classes": ["background", "interior"]}, "loss": {"dice": 1}}
    chosen = made(given)
    for pair in pairs.find(chosen.data):
        found, truth = pairs.read(pair, chosen.data)[1], np.asarray(Image.open(pair.labels)) > 0
        assert np.array_equal(found, label(truth, connectivity=1))
    model = load_model(train(chosen)["model"])
    assert model.card.grouping is not None
    assert model.card.outputs == ("background", "interior")
    assert model.card.training.metrics["test"]["F1"] > 0.6


def test_batches__are_a_function_of_the_step(discs: Path, tmp_path: Path) -> None:
    chosen = made(values(discs, tmp_path))
    found, card = pairs.find(chosen.data), card_of(chosen)
    source = Batches(load(found, chosen, card), chosen, card)
    first, other, again = source.batch(3), source.batch(4), source.batch(3)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.classes, again.classes)
    assert not torch.equal(first.inputs, other.inputs)
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    source.batch(3)
    assert torch.equal(before, torch.rand(1)), "the generator of others is left alone"


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_batches__without_augmentation_are_the_images(
    discs: Path, tmp_path: Path, padding: str
) -> None:
    """Crop, targets and weights lie on each other; with `valid` the targets are the middle."""
    given = values(discs, tmp_path) | {"augmentation": NOTHING}
    given["network"] |= {"padding": padding}
    chosen = made(given)
    card = card_of(chosen)
    (sample,) = load(pairs.find(chosen.data)[:1], chosen, card)
    source = Batches([sample], chosen, card)
    batch = source.batch(0)
    lost = 0 if padding == "same" else card.margin
    inside = batch.inputs[
        :, 0, lost : batch.inputs.shape[2] - lost, lost : batch.inputs.shape[3] - lost
    ]
    assert inside.shape == batch.classes.shape
    # discs are bright: where there is an object, inputs are high
    objects = batch.classes > 0
    assert inside[objects].median() > 0.7
    assert inside[~objects].median() < 0.3
    if padding == "same":
        np.testing.assert_allclose(batch.inputs[0], sample.inputs, atol=1e-5)
        assert torch.equal(batch.classes[0] > 0, torch.from_numpy(sample.labels > 0))


def test_augmenter__moves_image_and_labels_alike() -> None:
    torch.manual_seed(0)
    rule = Augmentation(gamma=1, brightness=0, noise=0, blur=0, elastic=3)
    labels = torch.zeros(6, 1, 64, 64)
    labels[..., 20:40, 10:50] = 3
    image, soft, moved = Augmenter(rule, 64)(labels / 3, labels / 3, labels)
    assert set(moved.unique().tolist()) <= {0.0, 3.0}
    torch.testing.assert_close(image, soft)
    assert ((image > 0.5) == (moved > 0)).float().mean() > 0.995
    assert (moved != labels).float().mean() > 0.05


def test_augmenter__displacement_is_as_large_as_said() -> None:
    torch.manual_seed(0)
    rule = Augmentation(flip=False, rotation=0, scale=(1, 1), elastic=5)
    grid = Augmenter(rule, 128)._grid(64, torch.device("cpu"))
    still = Augmenter(rule.model_copy(update={"elastic": 0}), 128)._grid(64, torch.device("cpu"))
    largest = ((grid - still).abs() * 64).amax((1, 2, 3))
    assert 3 < largest.max() < 7
    assert largest.min() < 1.5


def test_border_weights__is_the_map_of_the_paper() -> None:
    labels = np.zeros((30, 40), np.int32)
    labels[5:15, 5:15], labels[5:15, 18:30], labels[20:28, 8:20] = 1, 2, 3
    found = targets.border_weights(labels, 10, 3)
    y, x = np.indices(labels.shape)
    away = np.sort(
        [
            np.min([np.hypot(y - b, x - a) for b, a in np.argwhere(labels == n)], axis=0)
            for n in (1, 2, 3)
        ],
        axis=0,
    )
    wanted = np.where(labels == 0, 10 * np.exp(-((away[0] + away[1]) ** 2) / 18), 0)
    np.testing.assert_allclose(found, wanted, atol=10 * 0.012)
    assert found[10, 16] > 4
    assert not targets.border_weights(labels, 0, 3).any()
    everywhere = targets.border_weights(labels, 10, 3, inside=True)
    np.testing.assert_array_equal(everywhere[labels == 0], found[labels == 0])
    wanted = 10 * np.exp(-(away[1] ** 2) / 18)
    np.testing.assert_allclose(everywhere[labels > 0], wanted[labels > 0], atol=10 * 0.012)


def test_classes_of__border_is_inside() -> None:
    labels = torch.zeros(1, 20, 20)
    labels[:, 4:14, 4:9], labels[:, 4:14, 9:16] = 1, 2
    found = targets.classes_of(labels, 2, 3)[0]
    assert torch.equal(found > 0, labels[0] > 0)
    assert (found[6:12, 7:11] == 2).all(), "both sides where objects touch"
    assert (found[6:12, 6] == 1).all()
    assert set(targets.classes_of(labels, 2, 2).unique().tolist()) == {0, 1}


def test_loss__ignored_pixels_do_not_count(discs: Path, tmp_path: Path) -> None:
    chosen = made(values(discs, tmp_path))
    card = card_of(chosen)
    batch = Batches(load(pairs.find(chosen.data), chosen, card), chosen, card).batch(0)
    batch.weight[:, :32] = 0
    logits = torch.rand(4, 4, 64, 64)
    weights = torch.ones(3)
    rule = recipe.Loss(dice=1)
    before = loss(logits, batch, rule, weights)
    batch.classes[:, :32] = 0
    batch.distance[:, :32] = 0.3
    changed = logits.clone()
    changed[:, :, :32] = 9 * torch.rand(4, 4, 32, 64)
    torch.testing.assert_close(loss(changed, batch, rule, weights), before)


def test_class_weights__balanced_has_mean_one(discs: Path, tmp_path: Path) -> None:
    chosen = made(values(discs, tmp_path) | {"loss": {"class_weights": "balanced"}})
    samples = load(pairs.find(chosen.data), chosen, card_of(chosen))
    weight = class_weights(samples, chosen)
    assert weight[0] == weight.min()
    counts = torch.zeros(3)
    for sample in samples:
        found = targets.classes_of(torch.from_numpy(sample.labels)[None].float(), 2, 3)
        counts += torch.bincount(found.flatten(), minlength=3)
    torch.testing.assert_close((weight * counts).sum() / counts.sum(), torch.tensor(1.0))


def test_split__groups_stay_together_and_new_images_move_nothing(tmp_path: Path) -> None:
    write_discs(tmp_path, 40, 16)
    table = tmp_path / "table.csv"
    table.write_text("name,group\n" + "".join(f"{n},{n // 4}\n" for n in range(32)))
    data = recipe.Data(
        images=str(tmp_path / "images"), labels=str(tmp_path / "labels"), table=str(table),
        validation=0.3, test=0.3,
    )  # fmt: skip
    found = pairs.find(data)
    assert len(found) == 32
    parts = {pair.name: pair.part for pair in found}
    assert all(len({parts[str(4 * g + n)] for n in range(4)}) == 1 for g in range(8))
    assert set(parts.values()) == {"train", "validation", "test"}
    table.write_text(table.read_text() + "".join(f"{n},{n // 4}\n" for n in range(32, 40)))
    assert parts.items() <= {pair.name: pair.part for pair in pairs.find(data)}.items()
    table.write_text("name,part\n1,train\n2,test\n")
    assert {pair.name: pair.part for pair in pairs.find(data)} == {"1": "train", "2": "test"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image\n1\n", "column `name`"),
        ("name\n77\n", "names `77`"),
        ("name,part\n1,tset\n", "part of `1` is `tset`"),
        ("name,part\n1,test\n", r"no image of .* is left to train on"),
    ],
)
def test_split__wrong_table(tmp_path: Path, table: str, message: str) -> None:
    write_discs(tmp_path, 3, 16)
    (tmp_path / "t.csv").write_text(table)
    data = recipe.Data(
        images=str(tmp_path / "images"),
        labels=str(tmp_path / "labels"),
        table=str(tmp_path / "t.csv"),
    )
    with pytest.raises(InputError, match=message):
        pairs.find(data)


def test_pairs__ome_zarr_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zarr

    monkeypatch.setattr(pairs, "BLOCK", 32)
    pixels = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80)
    for name in ("images", "labels"):
        group = zarr.open_group(tmp_path / f"{name}.zarr", mode="w", zarr_format=3)
        group.create_array("0", data=pixels, chunks=(32, 32), dimension_names=("y", "x"))
        axes = [{"name": axis, "type": "space"} for axis in "yx"]
        scale = [{"type": "scale", "scale": [1.0, 1.0]}]
        levels = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    data = recipe.Data(images=str(tmp_path / "images.zarr"), labels=str(tmp_path / "labels.zarr"))
    found = pairs.find(data)
    assert len(found) == 6
    covered = np.zeros(pixels.shape, int)
    for pair in found:
        image, labels, counts = pairs.read(pair, data)
        assert pair.box is not None
        np.testing.assert_array_equal(image[..., 0], pixels[pair.box.slices])
        np.testing.assert_array_equal(labels, image[..., 0])
        assert counts.all()
        covered[pair.box.slices] += 1
    assert (covered == 1).all()


def test_pairs__weight(discs: Path, tmp_path: Path) -> None:
    """Crops are drawn as often as the table says; the same training has the same weights."""
    table = tmp_path / "table.csv"
    table.write_text("name,part,weight\n0,train,\n1,train,1e9\n2,validation,\n")
    given = values(discs, tmp_path / "run", steps=1) | {"augmentation": NOTHING}
    given["data"]["table"] = str(table)
    chosen = made(given)
    found, card = pairs.find(chosen.data), card_of(chosen)
    assert [pair.weight for pair in found] == [1, 1e9, 1]
    samples = load(found[:2], chosen, card)
    for crop in Batches(samples, chosen, card).batch(0).inputs:
        np.testing.assert_allclose(crop, samples[1].inputs, atol=1e-5)
    train(chosen)
    table.write_text("name,part,weight\n0,train,\n1,train,5\n2,validation,\n")
    with pytest.raises(InputError, match="holds a training that differs in weights"):
        train(chosen)
    for wrong in ("0", "-1", "often", "inf"):
        table.write_text(f"name,weight\n0,{wrong}\n")
        with pytest.raises(InputError, match=f"weight of `0` is `{wrong}`; weights are numbers"):
            pairs.find(chosen.data)


def test_pairs__missing_files(tmp_path: Path) -> None:
    write_discs(tmp_path, 2, 16)
    images, labels = str(tmp_path / "images"), str(tmp_path / "labels")
    with pytest.raises(InputError, match=r"data.labels: there is no"):
        pairs.find(recipe.Data(images=images, labels=str(tmp_path / "absent")))
    (tmp_path / "labels/1.png").unlink()
    with pytest.raises(InputError, match=r"1.png has no labels"):
        pairs.find(recipe.Data(images=images, labels=labels))


def test_read__numbers_of_classes(tmp_path: Path) -> None:
    write_discs(tmp_path, 1, 16)
    numbers = np.array([[255, 0, 7]] * 16, np.uint8).repeat(6, axis=1)[:, :16]
    Image.fromarray(numbers).save(tmp_path / "labels/0.png")
    data = recipe.Data(
        images=str(tmp_path / "images"), labels=str(tmp_path / "labels"), kind="classes",
        values=(255, 0, 7), validation=0, test=0,
    )  # fmt: skip
    (pair,) = pairs.find(data)
    assert np.array_equal(
        pairs.read(pair, data)[1], np.select([numbers == 255, numbers == 0], [0, 1], 2)
    )
    with pytest.raises(InputError, match=r"holds the number 7; data.values names \[255, 0\]"):
        pairs.read(pair, data.model_copy(update={"values": (255, 0)}))


def test_read__another_size(tmp_path: Path) -> None:
    write_discs(tmp_path, 1, 16)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "labels/0.png")
    data = recipe.Data(
        images=str(tmp_path / "images"), labels=str(tmp_path / "labels"), validation=0, test=0
    )
    with pytest.raises(InputError, match=r"one label image of \(16, 16\) pixels"):
        pairs.read(pairs.find(data)[0], data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedul": {}}, "did you mean `schedule`"),
        ({"schedule": {"step": 3}}, "did you mean `steps`"),
        ({"schedule": {"steps": 0}}, r"schedule.steps must be 1 or more, got 0"),
        ({"targets": {"classes": ["cell"]}}, "targets.classes are"),
        (
            {
                "data": {"images": "i", "labels": "l", "kind": "classes", "connected": True},
                "targets": {"classes": ["background", "disc"]},
            },
            "data.connected needs data.kind instances",
        ),
        ({"loss": {"class_weights": [1, 2]}}, "needs 3 numbers"),
    ],
)
def test_recipe__says_what_is_wrong(
    discs: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(dump(values(discs, tmp_path / "run") | change))
    with pytest.raises(InputError, match=message):
        recipe.load(path)


def test_recipe__paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("name: a\noutput: run\ndata: {images: i, labels: ../l}\n")
    found = recipe.load(path, ["schedule.steps=7"], "there")
    assert found.data.images == str(tmp_path / "i")
    assert found.data.labels == str(tmp_path.parent / "l")
    assert (found.output, found.schedule.steps) == ("there", 7)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = recipe.load(path, ["data.images=j", "initial=nuclei"])
    assert found.data.images == str(tmp_path / "here/j"), "what is set starts where one is"
    assert found.data.labels == str(tmp_path.parent / "l")
    assert found.initial == "nuclei"


def test_learning_rate__rises_and_falls() -> None:
    rule = recipe.Schedule(steps=100, warmup=10, learning_rate=1.0)
    rates = [loop.learning_rate(step, rule) for step in range(100)]
    assert 0 < rates[0] < 0.2
    assert max(rates) > 0.95
    assert rates[-1] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_log__is_one_json_row_per_look(discs: Path, tmp_path: Path) -> None:
    train(made(values(discs, tmp_path)))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert {"loss", "seconds", "AP.5", "PQ"} <= rows[0].keys()
