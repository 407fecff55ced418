"""A small network with random weights, for tests that ask where outputs go, not what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.nets.card import Architecture, Channel, Grouping, ModelCard, Normalisation


def tiny_model(folder: Path, name: str = "tiny", *, channels: int = 1, **more: Any) -> Path:
    """Write a model of depth 2 with three classes; return its file."""
    import torch

    from segpipe.nets.weights import build, save

    distance = more.pop("distance", False)
    shape = {"depth": 2, "width": 4, "padding": "same", "norm": "none"} | more.pop("shape", {})
    architecture = Architecture(in_channels=channels, out_channels=3 + distance, **shape)
    card = ModelCard(
        name=name,
        architecture=architecture,
        classes=("background", "interior", "border"),
        distance=distance,
        channels=tuple(Channel(name=f"c{i}") for i in range(channels)),
        normalisation=more.pop("normalisation", Normalisation()),
        grouping=Grouping(
            **{"foreground": 0.5, "marker": 0.4, "min_size": 4} | more.pop("grouping", {})
        ),
        **more,
    )
    torch.manual_seed(7)
    network = build(architecture)
    with torch.no_grad():
        network.head.weight *= 4  # decided enough for all classes to occur
    path = folder / f"{name}.safetensors"
    save(path, network, card)
    return path
