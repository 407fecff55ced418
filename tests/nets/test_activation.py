"""Raw outputs as probabilities, bytes and classes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from segpipe.nets.activation import LARGEST, Outputs, _exp, activate, as_bytes
from segpipe.nets.files import ModelFile
from segpipe.nets.windows import Frame


def model(activation: str, classes: int, distance: bool = False) -> ModelFile:
    names = ("background", *(f"c{n}" for n in range(1, classes)))
    frame = Frame(1, 0, 0, 0)
    return ModelFile(
        "", "onnx", "", "m", ("grey",), names, frame, distance=distance, activation=activation
    )


def expected(raw: np.ndarray, file: ModelFile) -> np.ndarray:
    """The same by SciPy, in double precision."""
    raw, number = raw.astype(float), len(file.classes)
    if file.activation == "softmax":
        return np.concatenate([special.softmax(raw[:number], axis=0), special.expit(raw[number:])])
    shares = special.expit(raw) if file.activation == "sigmoid" else raw.clip(0, 1)
    if len(shares) == len(file.outputs):
        return shares
    return np.concatenate([1 - shares[: number - 1].max(axis=0, keepdims=True), shares])


@pytest.mark.parametrize(
    ("file", "planes"),
    [
        (model("softmax", 3), 3),
        (model("softmax", 3, distance=True), 4),
        (model("sigmoid", 3), 2),
        (model("none", 2), 1),
        (model("none", 3), 3),
    ],
    ids=["softmax", "and distance", "sigmoid", "foreground alone", "probabilities"],
)
def test_activate__is_what_scipy_gives(file: ModelFile, planes: int) -> None:
    raw = np.random.default_rng(planes).normal(size=(planes, 30, 41)).astype(np.float32) * 5
    out = Outputs.nothing(len(file.outputs), raw.shape[1:], shares=True)
    assert activate(raw, file, out)
    wanted = expected(raw, file)
    np.testing.assert_allclose(out.shares, wanted, atol=5e-7)
    assert np.abs(out.fields - wanted * 255).max() < 0.501
    fields, classes = as_bytes(out.shares, len(file.classes))
    np.testing.assert_array_equal(fields, out.fields)
    np.testing.assert_array_equal(classes, out.classes)
    np.testing.assert_array_equal(classes, out.shares[: len(file.classes)].argmax(axis=0))
    bare = Outputs.nothing(len(file.outputs), raw.shape[1:], shares=False)
    activate(raw, file, bare)
    np.testing.assert_array_equal(bare.fields, out.fields)


@pytest.mark.parametrize("width", [1, 7, 16, 33])
def test_activate__does_not_depend_on_how_many_pixels_there_are(width: int) -> None:
    file = model("softmax", 3, distance=True)
    raw = np.random.default_rng(0).normal(size=(4, 5, 64)).astype(np.float32) * 9
    whole = Outputs.nothing(4, (5, 64), shares=True)
    activate(raw, file, whole)
    part = Outputs.nothing(4, (5, width), shares=True)
    activate(raw[:, :, 64 - width :], file, part)
    np.testing.assert_array_equal(part.shares, whole.shares[:, :, 64 - width :])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("plane", [0, 3])
def test_activate__tells_what_is_no_number(value: float, plane: int) -> None:
    file = model("softmax", 3, distance=True)
    raw = np.zeros((4, 6, 9), np.float32)
    out = Outputs.nothing(4, (6, 9), shares=False)
    assert activate(raw, file, out)
    raw[plane, 3, 4] = value
    assert not activate(raw, file, out)


def test_exp__is_exact_to_single_precision() -> None:
    x = np.linspace(-LARGEST, LARGEST, 5001).astype(np.float32)
    found = x.copy()
    _exp(found, np.empty(len(x), np.int32))
    np.testing.assert_allclose(found, np.exp(x.astype(float)), rtol=2e-7)
    beyond = np.array([-1e9, 1e9], np.float32)
    _exp(beyond, np.empty(2, np.int32))
    assert beyond[0] < 1e-37
    assert np.isfinite(beyond[1])
