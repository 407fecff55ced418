"""Files of models: what is written comes back, and nothing else is believed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segpipe.errors import InputError
from segpipe.nets import ModelCard, load_model
from segpipe.nets.card import Architecture, Channel, Grouping, Normalisation
from segpipe.nets.model import Model
from segpipe.nets.normalise import levels, normalise
from segpipe.nets.weights import CARD, build, load_card, load_network, save


def a_card(**keys: object) -> ModelCard:
    shape = Architecture(depth=2, width=2, padding="same", out_channels=4)
    values = {
        "name": "cells",
        "architecture": shape,
        "classes": ("background", "interior", "border"),
        "distance": True,
        "channels": (Channel(name="DAPI"),),
        "grouping": Grouping(),
    }
    return ModelCard(**(values | keys))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save(path, build(a_card().architecture), a_card())
    return path


def test_save__comes_back(tmp_path: Path) -> None:
    network, card = build(a_card().architecture), a_card()
    save(tmp_path / "m", network, card)
    again, its_card = load_network(tmp_path / "m")
    assert its_card == card == load_card(tmp_path / "m")
    assert not again.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


def test_save__half_precision_keeps_what_it_cannot_hold(tmp_path: Path) -> None:
    network = build(a_card().architecture)
    with torch.no_grad():
        network.head.bias[0] = 1e6
    save(tmp_path / "m", network, a_card(), torch.float16)
    again, _ = load_network(tmp_path / "m")
    assert again.head.bias[0] == 1e6
    weight = network.head.weight
    assert torch.equal(again.head.weight, weight.half().float())


def change(path: Path, **tensors: torch.Tensor | None) -> None:
    network, card = load_network(path)
    kept = network.state_dict() | tensors
    save_file(
        {k: v.clone() for k, v in kept.items() if v is not None}, path, {CARD: card.to_json()}
    )


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"head.weight": None}, "head.weight is missing"),
        ({"more": torch.zeros(1)}, "more is not of this network"),
        ({"head.bias": torch.zeros(5)}, r"head.bias has shape \(5,\), needs \(4,\)"),
        ({"head.bias": torch.full((4,), float("nan"))}, "not finite"),
    ],
)
def test_load__wrong_tensors(model: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    change(model, **tensors)
    with pytest.raises(InputError, match=message):
        load_network(model)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import builtins; builtins.was_here = True",)


def test_load__no_pickle_is_executed(tmp_path: Path) -> None:
    import builtins

    for name, data in {
        "a.pt": pickle.dumps(Malicious()),
        "b.safetensors": pickle.dumps({"weights": Malicious()}),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="no intact safetensors file"):
            load_network(tmp_path / name)
    torch.save({"x": Malicious()}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="can hold programs"):
        load_model(tmp_path / "c.pt")
    assert not hasattr(builtins, "was_here")


def test_load__damaged(model: Path, tmp_path: Path) -> None:
    data = model.read_bytes()
    for part in (b"", data[:5], data[:100], data[:-1], b"\xff" * 64):
        model.write_bytes(part)
        for load in (load_card, load_network):  # a plan reads the card alone
            with pytest.raises(InputError, match=r"no intact safetensors file|no model card"):
                load(model)
    with pytest.raises(InputError, match="cannot read the model"):
        load_network(tmp_path / "absent")


def test_load__no_card(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "m")
    with pytest.raises(InputError, match="has no model card"):
        load_network(tmp_path / "m")


def test_card__says_what_is_wrong() -> None:
    values = json.loads(a_card().to_json())
    for change, message in (
        ({"clases": []}, "did you mean `classes`"),
        ({"classes": ["background"]}, "need a network of as many"),
        ({"channels": [{"name": "a"}, {"name": "b"}]}, "2 channels are described"),
        ({"architecture": {"depth": 0}}, "architecture.depth"),
        ({"grouping": {"marker": 2}}, "grouping.marker"),
        ({"normalisation": {"low": [2], "high": [1]}}, "low must be below high"),
    ):
        with pytest.raises(InputError, match=message):
            ModelCard.from_json(json.dumps(values | change))
    with pytest.raises(InputError, match="no JSON"):
        ModelCard.from_json("{")


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (40, 61)])
def test_predict__any_size(padding: str, shape: tuple[int, int]) -> None:
    architecture = Architecture(depth=2, width=2, padding=padding, out_channels=4)
    card = a_card(architecture=architecture)
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    found = Model(build(architecture).eval(), card).predict(image)
    assert found.shape == (*shape, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[..., :3].sum(axis=2), 1, rtol=1e-5)
    assert (found[..., 3] >= 0).all()
    assert (found[..., 3] <= 1).all()


def test_predict__wrong_channels(model: Path) -> None:
    with pytest.raises(InputError, match=r"needs 1 channel\(s\) \(DAPI\), got an array of shape"):
        load_model(model).predict(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match="not finite"):
        load_model(model).predict(np.array([[0, 1.0, np.nan]]))


def test_levels__are_values_of_the_image() -> None:
    """An order statistic, which an integer histogram gives exactly."""
    image = np.random.default_rng(0).integers(0, 60000, (50, 70, 2), np.uint16)
    rule = Normalisation(low=(1,), high=(99.8,))
    low, high = levels(image, rule)
    for c in range(2):
        count = np.cumsum(np.bincount(image[..., c].ravel()))
        for share, value in ((1, low[c]), (99.8, high[c])):
            assert value == np.searchsorted(count, share / 100 * image[..., c].size)
    inputs = normalise(image, (low, high), rule)
    assert inputs.shape == (2, 50, 70)
    assert abs(np.percentile(inputs[0], 99.8) - 1) < 1e-3


def test_levels__without_range() -> None:
    flat = np.full((4, 4, 1), 7, np.uint8)
    assert not normalise(flat, levels(flat, Normalisation()), Normalisation()).any()
