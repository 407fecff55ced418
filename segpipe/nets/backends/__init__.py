"""Libraries that compute networks, behind one interface, and the choice between them.

A back end is a module with ``precisions(device)`` and ``load(file, choice, window, threads)``, on
GPUs ``batch_for(file, window, precision)`` as well; what it loads takes a float32 batch
(N, C, H, W) of one fixed shape and gives float32 (N, K, H', W').
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import metadata
from typing import Any, Literal, Protocol, cast

import numpy as np

from segpipe.errors import InputError, RunError
from segpipe.nets.files import ModelFile

Backend = Literal["openvino", "onnxruntime", "torch"]
Precision = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]
MODULES: dict[str, str] = {
    "openvino": "segpipe.nets.backends.openvino_cpu",
    "onnxruntime": "segpipe.nets.backends.onnx_runtime",
    "torch": "segpipe.nets.backends.pytorch",
}
"""Fastest first, on CPUs (``tests/bench/bench_unet.py``)."""


class Fetch(Protocol):
    """What a started batch will have given."""

    def __call__(self) -> np.ndarray:
        """Wait, and return float32 (N, K, H', W')."""


Start = Callable[[np.ndarray], Fetch]
"""Begins to compute a float32 batch (N, C, H, W)."""


@dataclass(frozen=True)
class Choice:
    """How a network is computed; part of what decides the last bits of the result."""

    backend: Backend
    precision: Precision
    device: Device
    version: str
    """Of the library."""
    hardware: str
    """The processor's instructions or the GPU."""
    batch: int = 1
    """Windows computed together."""

    def notes(self) -> dict[str, Any]:
        """Return what ``run.json`` says of it."""
        return asdict(self)


def choose(
    file: ModelFile,
    backend: Backend | Literal["auto"] = "auto",
    precision: Precision | Literal["auto"] = "auto",
    device: Device | Literal["auto"] = "auto",
    window: tuple[int, int] = (512, 512),
    batch: int | None = None,
) -> Choice:
    """Choose the fastest way to compute a model on this machine, within what was asked for.

    Raises
    ------
    InputError
        What was asked for is not installed, or cannot compute this model.
    """
    gpu = _gpu() if device != "cpu" else None
    if device == "cuda" and gpu is None:
        raise InputError("device cuda: torch sees no CUDA GPU on this machine; leave `device` out")
    if backend == "auto":
        names = ["torch"] if gpu and file.format == "safetensors" else list(MODULES)
        names = [n for n in names if _installed(n) and (n != "torch" or file.format != "onnx")]
        if not names:
            raise InputError("no library computes networks; `pip install 'segpipe[nets]'`")
        backend = cast("Backend", names[0])
    if not _installed(backend):
        raise InputError(f"backend {backend} is not installed; `pip install {backend}`")
    if backend == "torch" and file.format == "onnx":
        raise InputError("backend torch computes safetensors models; for ONNX choose onnxruntime")
    place: Device = "cuda" if gpu and backend == "torch" else "cpu"
    kinds = _precisions(backend, place)
    if precision == "auto":
        precision = kinds[0]
    if precision not in kinds:
        raise InputError(f"{backend} computes {', '.join(kinds)} on this {place}, not {precision}")
    hardware = gpu if place == "cuda" and gpu else _processor()
    if batch is None:
        batch = _module(backend).batch_for(file, window, precision) if place == "cuda" else 1
    return Choice(backend, precision, place, _version(backend), hardware, batch)


@dataclass(eq=False)
class Loaded:
    """A loaded network, for threads: it does one computation at a time."""

    start: Start
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, batch: np.ndarray) -> Fetch:
        """Begin to compute a float32 batch (N, C, H, W)."""
        with self._lock:
            return self.start(batch)

    @property
    def largest(self) -> int | None:
        """Windows that were computed together at most, where memory held no more."""
        return getattr(self.start, "largest", None)


@lru_cache(maxsize=2)
def loaded(file: ModelFile, choice: Choice, window: tuple[int, int], threads: int) -> Loaded:
    """Load a model; once per process, for it is a pure function of its arguments.

    Raises
    ------
    RunError
        The weights are not those that the run was planned with.
    """
    import hashlib

    from segpipe.nets.onnx_file import read_weights

    content = read_weights(file.path, file.member)
    if hashlib.sha256(content).hexdigest() != file.digest:
        raise RunError(f"the model {file.path} has changed since the run began; start a new run")
    with _LOADING:
        return Loaded(_module(choice.backend).load(file, choice, window, threads))


_LOADING = threading.Lock()
"""Exporting to ONNX changes torch's state for a moment."""


def computed(
    file: ModelFile, choice: Choice, window: tuple[int, int], threads: int
) -> dict[str, Any]:
    """Return how a loaded network was computed, smaller batches than chosen included."""
    largest = loaded(file, choice, window, threads).largest
    return choice.notes() | ({} if largest is None else {"batch": largest})


def exported(file: ModelFile, batch: int, window: tuple[int, int]) -> bytes:
    """Return a model as ONNX for one shape of input; ours are converted in memory."""
    from segpipe.nets.onnx_file import bound, read_weights

    if file.format == "onnx":
        return bound(read_weights(file.path, file.member), file.path, batch, window)
    from segpipe.nets.backends.pytorch import as_onnx
    from segpipe.nets.weights import load_unpadded

    return as_onnx(load_unpadded(file.path), batch, window)


def _module(backend: str) -> Any:
    return importlib.import_module(MODULES[backend])


@lru_cache
def _precisions(backend: str, device: str) -> tuple[Precision, ...]:
    """Return what a library computes, the fastest first; asking it takes milliseconds."""
    found: tuple[Precision, ...] = _module(backend).precisions(device)
    return found


@lru_cache
def _version(backend: str) -> str:
    return metadata.version(backend)


def _installed(backend: str) -> bool:
    return importlib.util.find_spec(backend) is not None


def _gpu() -> str | None:
    """Name of the CUDA GPU that torch would use."""
    if not _installed("torch"):
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(_module("torch").gpu()))


@lru_cache
def _processor() -> str:
    """Return the instructions that decide how the processor computes."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        import platform

        return platform.machine()
    known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    return next((flag for flag in known if flag in flags), "sse")
