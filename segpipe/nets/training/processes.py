"""Where a training computes: devices, precision, and one process per GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segpipe.errors import InputError
from segpipe.nets.training.recipe import Schedule

PATIENCE = timedelta(hours=2)
"""The others wait so long while the first process looks at the validation part."""


@dataclass(frozen=True)
class Place:
    """One process among those of a training."""

    device: torch.device
    rank: int
    processes: int
    dtype: torch.dtype
    """Of convolutions."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """Return the context in which the network computes in `dtype`."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return the network such that all processes step alike."""
        if self.processes == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids)

    def agreed(self, value: bool) -> bool:
        """Return what the first process says."""
        if self.processes == 1:
            return value
        told = torch.tensor([int(value)], device=self.device)
        torch.distributed.broadcast(told, 0)
        return bool(told.item())


@contextmanager
def place(schedule: Schedule) -> Iterator[Place]:
    """Find device and precision; under ``torchrun`` join the other processes.

    Raises
    ------
    InputError
        A GPU is asked for and there is none, or the precision is not to be had there.
    """
    processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if schedule.batch % processes:
        raise InputError(
            f"schedule.batch {schedule.batch} must be a multiple of the {processes} processes"
        )
    device = _device(schedule)
    if device.type == "cpu" and schedule.threads:
        torch.set_num_threads(schedule.threads)
    if processes > 1:
        _join(device)
    try:
        yield Place(device, rank, processes, _dtype(schedule, device))
        if processes > 1:
            # who leaves while others still talk may end them, or be ended, by an abort of gloo
            torch.distributed.barrier()
    finally:
        if processes > 1:
            torch.distributed.destroy_process_group()


def _join(device: torch.device) -> None:
    """Meet the other processes."""
    if device.type == "cuda":
        torch.distributed.init_process_group("nccl", timeout=PATIENCE, device_id=device)
    else:
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)


def _device(schedule: Schedule) -> torch.device:
    if schedule.device == "cuda" and not torch.cuda.is_available():
        raise InputError("schedule.device is cuda, but torch sees no GPU; use auto or cpu")
    if schedule.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def _dtype(schedule: Schedule, device: torch.device) -> torch.dtype:
    if schedule.precision != "auto":
        if schedule.precision == "float16" and device.type == "cpu":
            raise InputError("schedule.precision float16 needs a GPU; use bfloat16 or float32")
        wanted: torch.dtype = getattr(torch, schedule.precision)
        return wanted
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float16
    return torch.bfloat16 if _cpu_bfloat16() else torch.float32


def _cpu_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 itself, as Linux tells; emulated it is slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def scaler(where: Place) -> Any:
    """Return what keeps small gradients of float16 from vanishing; it does nothing otherwise."""
    return torch.amp.GradScaler(where.device.type, enabled=where.dtype is torch.float16)
