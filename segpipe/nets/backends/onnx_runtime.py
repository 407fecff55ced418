"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np

from segpipe.nets.backends import Choice, Fetch, Precision, Start, exported
from segpipe.nets.files import ModelFile


def precisions(_device: str) -> tuple[Precision, ...]:
    """Return what it computes."""
    return ("fp32",)


def load(file: ModelFile, choice: Choice, window: tuple[int, int], threads: int) -> Start:
    """Return a session of the network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        exported(file, choice.batch, window), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name

    def start(batch: np.ndarray) -> Fetch:
        (found,) = session.run(None, {name: batch})
        return lambda: found

    return start
