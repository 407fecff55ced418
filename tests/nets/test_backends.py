"""Back ends: the same numbers, the choice, batches that do not fit a GPU."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from segpipe.errors import InputError
from segpipe.nets import backends
from segpipe.nets.backends import choose, loaded
from segpipe.nets.backends.pytorch import Halving, batch_for, gpu
from segpipe.nets.files import open_model
from segpipe.nets.inference import _computed
from segpipe.worker import NUMBER
from tests.nets.tiny import tiny_model

BACKENDS = [n for n in ("openvino", "onnxruntime", "torch") if importlib.util.find_spec(n)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory):
    return open_model(tiny_model(tmp_path_factory.mktemp("m"), shape={"upsampling": "unpooling"}))


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.random.default_rng(0).random((1, 1, 96, 64)).astype(np.float32)


def test_backends__agree(file, batch: np.ndarray) -> None:
    found = {}
    for name in BACKENDS:
        start = loaded(file, choose(file, name, "fp32", "cpu"), batch.shape[2:], 1)
        found[name] = start(batch)()
        assert found[name].shape == (1, 3, 56, 24), "the margin of 20 on each side is not computed"
        np.testing.assert_array_equal(start(batch)(), found[name])
    for name in BACKENDS:
        assert np.abs(found[name] - found[BACKENDS[0]]).max() < 1e-3


def test_choice__is_the_fastest_that_is_there(file, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(file, device="cpu").backend == BACKENDS[0]
    monkeypatch.setattr(backends, "_installed", lambda name: name == "torch")
    assert choose(file, device="cpu").backend == "torch"
    with pytest.raises(InputError, match="backend openvino is not installed"):
        choose(file, "openvino")
    monkeypatch.setattr(backends, "_installed", lambda name: False)
    with pytest.raises(InputError, match="no library computes networks"):
        choose(file)


def test_choice__refuses_what_is_not_there(file) -> None:
    with pytest.raises(InputError, match="onnxruntime computes fp32"):
        choose(file, "onnxruntime", "bf16")
    if backends._gpu() is None:
        with pytest.raises(InputError, match="sees no CUDA GPU"):
            choose(file, device="cuda")


def test_batches__that_do_not_fit_are_halved() -> None:
    sizes = []

    def compute(part: np.ndarray):
        sizes.append(len(part))
        if len(part) > 3:
            raise MemoryError
        return lambda: part * 2

    batch = np.arange(11, dtype=np.float32)[:, None]
    start = Halving(compute, MemoryError)
    np.testing.assert_array_equal(start(batch)(), batch * 2)
    assert sizes[:2] == [11, 5]
    assert max(sizes[2:]) == 2
    sizes.clear()
    np.testing.assert_array_equal(start(batch[:4])(), batch[:4] * 2)
    assert sizes == [2, 2], "what was too much is not tried again"
    assert backends.Loaded(start).largest == 2

    def never(part: np.ndarray):
        raise MemoryError

    with pytest.raises(MemoryError):
        Halving(never, MemoryError)(batch)


def test_computed__says_what_memory_held(file, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that windows computed in other batches are not taken for equal ones."""
    choice = choose(file, "torch", "fp32", "cpu", batch=8)
    start = Halving(lambda part: lambda: part, MemoryError)
    monkeypatch.setattr(backends, "loaded", lambda *_: backends.Loaded(start))
    assert backends.computed(file, choice, (64, 64), 1) == choice.notes()
    start.largest = 4
    assert backends.computed(file, choice, (64, 64), 1)["batch"] == 4


def test_gpu__workers_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    found = []
    for number in ("0", "1", "2", "3", "tcp://127.0.0.1:4711"):
        monkeypatch.setenv(NUMBER, number)
        found.append(gpu().index)
    assert found == [0, 1, 0, 1, 0]


def test_batch__depends_on_the_kind_of_gpu_alone(file, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for free in (1 << 30, 70 << 30):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _gpu, free=free: (free, 80 << 30))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        assert batch_for(file, (512, 512), "bf16") == 64
        assert batch_for(file, (1728, 1728), "bf16") == 4
        assert batch_for(file, (8192, 8192), "bf16") == 1


def test_batches__are_filled_up_and_come_back_in_order() -> None:
    shapes = []

    def start(batch: np.ndarray):
        shapes.append(batch.shape)
        return lambda: batch + 1

    cells = [((0, 0), (0, 1), (0, 2)), ((1, 0),)]
    batches = [(c, np.full((len(c), 1, 4, 4), i, np.float32)) for i, c in enumerate(cells)]
    found = list(_computed(start, batches, 3))
    assert [cell for cell, _ in found] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert set(shapes) == {(3, 1, 4, 4)}
    assert found[3][1].max() == 2


@pytest.mark.skipif(backends._gpu() is None, reason="needs a CUDA GPU, and there is none")
def test_cuda__agrees_with_the_cpu_and_with_itself(file, batch: np.ndarray) -> None:
    gpu = choose(file, "torch", "fp32", "cuda", batch.shape[2:], batch=1)
    start = loaded(file, gpu, batch.shape[2:], 1)
    cpu = loaded(file, choose(file, "torch", "fp32", "cpu"), batch.shape[2:], 1)
    np.testing.assert_array_equal(start(batch)(), start(batch)())
    assert np.abs(start(batch)() - cpu(batch)()).max() < 1e-3
