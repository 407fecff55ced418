"""OpenVINO on the CPU: oneDNN's kernels with the network's layers fused; bf16 where there is."""

from __future__ import annotations

import numpy as np

from segpipe.nets.backends import Choice, Fetch, Precision, Start, exported
from segpipe.nets.files import ModelFile


def precisions(_device: str) -> tuple[Precision, ...]:
    """Return what this machine computes, the fastest first."""
    import openvino

    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("bf16", "fp32") if "BF16" in able else ("fp32",)


def load(file: ModelFile, choice: Choice, window: tuple[int, int], threads: int) -> Start:
    """Return the compiled network."""
    import openvino

    core = openvino.Core()
    model = core.read_model(model=exported(file, choice.batch, window))
    settings = {
        "INFERENCE_PRECISION_HINT": {"bf16": "bf16", "fp32": "f32"}[choice.precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # workers are processes: pinned, they would all sit on the first core
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    shape = tuple(request.get_output_tensor().shape)

    def start(batch: np.ndarray) -> Fetch:
        found = np.empty(shape, np.float32)
        request.set_output_tensor(openvino.Tensor(found, shared_memory=True))
        request.infer({0: batch}, share_inputs=True, share_outputs=True)
        return lambda: found

    return start
