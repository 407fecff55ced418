"""Networks: U-Net and its family, their files, their training.

`load_model` gives a model whose ``predict`` takes an array. torch is imported when a network is
built, not before: cards are read without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segpipe.nets.card import ModelCard

if TYPE_CHECKING:
    from segpipe.nets.model import Model, load_model

__all__ = ["Model", "ModelCard", "load_model"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load_model"):
        from segpipe.nets import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
