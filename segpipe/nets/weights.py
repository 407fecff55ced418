"""Weights and card in one safetensors file: numbers and JSON, nothing that could be executed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.errors import InputError
from segpipe.nets.card import Architecture, ModelCard

if TYPE_CHECKING:
    import torch

    from segpipe.nets.unet import UNet

CARD = "segpipe.card"
"""Key of the card in the file's metadata."""
FIRST = "encoder.0.0.weight"
"""The convolution that sees the channels of the image."""
LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself has this limit."""


def save(
    path: str | Path,
    network: torch.nn.Module,
    card: ModelCard,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a network and its card; the file appears when it is complete.

    Parameters
    ----------
    path
        File to write, ``.safetensors``.
    network
        Built by `build`.
    card
        What the model is.
    dtype
        Store floating weights as this, for example ``torch.float16`` for half the bytes; they are
        computed with in float32 whatever they are stored as.
    """
    from safetensors.torch import save as serialised

    tensors = {
        name: _stored(value.detach().cpu(), dtype) for name, value in network.state_dict().items()
    }
    part = Path(f"{path}.part")
    part.write_bytes(serialised(tensors, {CARD: card.to_json(), "format": "pt"}))
    part.replace(path)


def load_unpadded(path: str | Path) -> UNet:
    """Read a network, ready for inference, as one without padding, however it was trained.

    Of a window, the inner part that no zeros of the padding reach is the same, and nothing else is
    computed: the decoder, most of the work, leaves out the margin that the encoder needs.

    Raises
    ------
    InputError
        See `load_network`.
    """
    card, tensors = _read(path)
    return _filled(card.architecture.model_copy(update={"padding": "valid"}), tensors, path)


def load_network(path: str | Path) -> tuple[UNet, ModelCard]:
    """Read a network, ready for inference, and its card.

    Raises
    ------
    InputError
        The file cannot be read, is no safetensors file, has no card, or its tensors are not those
        of the network that the card describes, or not finite. Nothing in the file is executed.
    """
    card, tensors = _read(path)
    return _filled(card.architecture, tensors, path), card


def load_spread(path: str | Path, channels: int) -> UNet:
    """Read a network for images of other channels, to train it on.

    What the first convolution learnt of its channels is shared by all equally: an image that shows
    the same in each gives what one of that kind gave before.

    Raises
    ------
    InputError
        See `load_network`.
    """
    network, card = load_network(path)
    if channels == card.architecture.in_channels:
        return network
    tensors = network.state_dict()
    together = tensors[FIRST].sum(1, keepdim=True)
    tensors[FIRST] = together.repeat(1, channels, 1, 1) / channels
    shape = card.architecture.model_copy(update={"in_channels": channels})
    return _filled(shape, tensors, path)


def load_card(path: str | Path) -> ModelCard:
    """Read the card alone, without torch; raises as `load_network` does."""
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # other formats give absurd lengths
            header = json.loads(file.read(length) if length <= LONGEST_HEADER else b"")
            text = header.pop("__metadata__", {}).get(CARD)
            ends = [tensor["data_offsets"][1] for tensor in header.values()]
            if os.fstat(file.fileno()).st_size != 8 + length + max(ends, default=0):
                raise ValueError("cut short")
    except OSError as error:
        raise InputError(f"cannot read the model {path}: {error.strerror}") from error
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise InputError(_no_safetensors(path)) from error
    if not isinstance(text, str):
        raise InputError(
            f"{path} has no model card ({CARD} in its metadata), so nobody knows what network its"
            " weights belong to; write it with segpipe.nets.weights.save"
        )
    return ModelCard.from_json(text, f"the model card in {path}")


def build(shape: Architecture) -> UNet:
    """Return a network of a given shape, with random weights."""
    from segpipe.nets.unet import UNet

    return UNet(shape)


def _filled(shape: Architecture, tensors: dict[str, torch.Tensor], path: str | Path) -> UNet:
    """Return a network of a given shape with the weights of a file, ready for inference."""
    network = build(shape)
    _check(tensors, network.state_dict(), path)
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _stored(value: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Return a tensor as it is stored; one that `dtype` cannot hold stays as it is."""
    import torch

    if dtype is None or not value.is_floating_point():
        return value.contiguous()
    short = value.to(dtype)
    held = bool(torch.isfinite(short).all())
    return (short if held else value).contiguous()


def _read(path: str | Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    card = load_card(path)
    try:
        with safe_open(path, "pt") as file:
            return card, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{_no_safetensors(path)} ({error})") from error


def _no_safetensors(path: str | Path) -> str:
    return (
        f"{path} is no intact safetensors file; copy it again. Other formats (.pt, .pth, .ckpt) may"
        " hold programs and are not read"
    )


def _check(
    found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], path: str | Path
) -> None:
    """Refuse tensors that are not those of the network."""
    wrong = [f"{name} is missing" for name in wanted if name not in found]
    wrong += [f"{name} is not of this network" for name in found if name not in wanted]
    for name in [name for name in wanted if name in found]:
        given, needed = tuple(found[name].shape), tuple(wanted[name].shape)
        if given != needed:
            wrong.append(f"{name} has shape {given}, needs {needed}")
        elif not found[name].isfinite().all():
            wrong.append(f"{name} holds numbers that are not finite")
    if wrong:
        more = f"\n  and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(
            f"the weights in {path} do not fit its card:\n  " + "\n  ".join(wrong[:5]) + more
        )
