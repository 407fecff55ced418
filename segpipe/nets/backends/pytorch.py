"""PyTorch: on the CPU, and on CUDA with pinned memory and deterministic kernels."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from segpipe.nets.backends import Choice, Fetch, Precision, Start
from segpipe.nets.files import ModelFile
from segpipe.worker import NUMBER

if TYPE_CHECKING:
    import torch

    from segpipe.nets.unet import UNet

OPSET = 17
SHAPELESS = ("transposed", "bilinear", "nearest")
"""Ways to double the resolution that export without the shape of what is doubled."""
SHARE = 0.5
"""Of the memory of a GPU that a batch may take: the other half is for workspaces."""
MOST_PIXELS = 1 << 24
"""Of the windows of a batch: more keep a GPU no busier."""


def precisions(device: str) -> tuple[Precision, ...]:
    """Return what this machine computes, the fastest first."""
    import torch

    # either may emulate what it has no instructions for, which is slow
    fast = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        fast = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return ("bf16", "fp32") if fast else ("fp32",)


def gpu() -> torch.device:
    """Return the GPU of this process: the workers of a machine (`segpipe.worker`) take turns."""
    import torch

    number = os.environ.get(NUMBER, "0")
    return torch.device("cuda", int(number) % torch.cuda.device_count() if number.isdigit() else 0)


def load(file: ModelFile, choice: Choice, window: tuple[int, int], threads: int) -> Start:
    """Return the network on its device."""
    import torch

    network = _network(file, choice)
    compute = _on_cuda(network) if choice.device == "cuda" else _on_cpu(network, threads)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[choice.precision]

    return Halving(lambda part: compute(part, dtype), torch.OutOfMemoryError)


class Halving:
    """Compute batches; where memory runs out (`full` is raised), in halves from then on.

    Notes
    -----
    Results are fetched at once where a batch is parted: what waits keeps its memory.
    """

    def __init__(self, compute: Callable[[np.ndarray], Fetch], full: type[BaseException]) -> None:
        self.compute, self.full = compute, full
        self.largest: int | None = None
        """Windows that memory holds; None: as many as were asked for so far."""

    def __call__(self, batch: np.ndarray) -> Fetch:
        """Begin to compute a batch."""
        size = min(self.largest or len(batch), len(batch))
        while (fetch := self._tried(batch, size)) is None:
            size = self.largest = size // 2
        return fetch

    def _tried(self, batch: np.ndarray, size: int) -> Fetch | None:
        """Compute a batch in parts of `size`; None if that is too much."""
        try:
            if size == len(batch):
                return self.compute(batch)
            parts = [self.compute(batch[i : i + size])() for i in range(0, len(batch), size)]
        except self.full:
            if size == 1:
                raise
            return None
        found = np.concatenate(parts)
        return lambda: found


def batch_for(file: ModelFile, window: tuple[int, int], precision: Precision) -> int:
    """Return how many windows the memory of the GPU holds, a power of two.

    It depends on the kind of GPU, not on what is free at the moment: it decides the last bits.
    """
    import torch

    _free, total = torch.cuda.mem_get_info(gpu())
    size = {"bf16": 2, "fp32": 4}[precision]
    pixels = window[0] * window[1]
    most = min(MOST_PIXELS / pixels, total * SHARE / max(1.0, file.values * pixels * size))
    return 1 << (max(1, int(most)).bit_length() - 1)


def as_onnx(network: UNet, batch: int, window: tuple[int, int]) -> bytes:
    """Export a network of ours for one shape of input."""
    import torch

    from segpipe.nets.onnx_file import bound
    from segpipe.nets.unet import input_size

    shape = network.shape
    # exporting computes the network once; a graph without shapes in it can be had of a small one
    free = shape.upsampling in SHAPELESS
    edges = (input_size(2 * shape.align, shape),) * 2 if free else window
    axes = {name: {2: "rows", 3: "columns"} for name in ("image", "outputs")} if free else None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # the newer exporter needs a package more, and gives the same graph
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(batch, shape.in_channels, *edges),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["outputs"],
            dynamic_axes=axes,
        )
    return bound(buffer.getvalue(), "the network", batch, window) if free else buffer.getvalue()


def _network(file: ModelFile, choice: Choice) -> torch.nn.Module:
    import torch

    from segpipe.nets.weights import load_unpadded

    network = load_unpadded(file.path)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[choice.precision]
    device = gpu() if choice.device == "cuda" else torch.device("cpu")
    return network.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _on_cpu(network: torch.nn.Module, threads: int) -> Callable[..., Fetch]:
    import torch

    def compute(batch: np.ndarray, dtype: torch.dtype) -> Fetch:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)  # the number of threads decides the last bits
        try:
            with torch.inference_mode():
                x = torch.from_numpy(batch).to(dtype, memory_format=torch.channels_last)
                found = network(x).float().numpy()
        finally:
            torch.set_num_threads(before)
        return lambda: found

    return compute


def _on_cuda(network: torch.nn.Module) -> Callable[..., Fetch]:
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = False, True, False
    matmul.allow_tf32 = False

    device = gpu()

    def compute(batch: np.ndarray, dtype: torch.dtype) -> Fetch:
        # the current GPU is a thread's own
        with torch.cuda.device(device), torch.inference_mode():
            there = torch.from_numpy(batch).pin_memory().to(device, non_blocking=True)
            found = network(there.to(dtype, memory_format=torch.channels_last)).float()
            here = torch.empty(found.shape, pin_memory=True)
            here.copy_(found, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record()

        def fetch() -> np.ndarray:
            done.synchronize()
            return here.numpy()

        return fetch

    return compute
