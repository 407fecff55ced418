"""From outputs of a network to objects, as its card says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segpipe.methods.instances import Rule, instances
from segpipe.methods.instances_kernels import LEVELS
from segpipe.nets.card import BORDER, Grouping, ModelCard


def group_instances(outputs: np.ndarray, card: ModelCard) -> np.ndarray:
    """Return the objects that a network has found, numbered.

    Parameters
    ----------
    outputs
        (H, W, K) of `Model.predict`: float in 0 to 1, or uint8 in 255ths.
    card
        Of the model; `card.grouping` has the thresholds.

    Returns
    -------
    labels
        uint32 (H, W): 1..N in raster order of each object's first pixel, 0 = background.

    Raises
    ------
    ValueError
        The model finds classes only.

    Notes
    -----
    What is done, and why tiles can do it, stands in `segpipe.methods.instances`.
    """
    if card.grouping is None:
        raise ValueError(
            f"the model {card.name} finds classes, not objects: its card has no grouping"
        )
    share = outputs if outputs.dtype == np.uint8 else quantised(outputs)
    return instances(share, rule_of(card.grouping, card.classes, card.distance))


def rule_of(grouping: Grouping, classes: Sequence[str], distance: bool) -> Rule:
    """Return the thresholds in 255ths, and the planes that they are for."""
    objects = object_planes(classes)
    return Rule(
        # background alone is never foreground
        foreground=max(1, round(grouping.foreground * LEVELS)),
        marker=round(grouping.marker * LEVELS),
        dynamics=max(1, round(grouping.dynamics * LEVELS)),
        depth=(len(classes),) if distance else objects,
        border=classes.index(BORDER) if BORDER in classes else None,
        border_share=round(grouping.border * 256),
        classes=objects,
        min_size=grouping.min_size,
    )


def object_planes(classes: Sequence[str]) -> tuple[int, ...]:
    """Return the outputs of classes of objects: neither background nor borders between them.

    >>> object_planes(("background", "interior", "border"))
    (1,)
    """
    return tuple(k for k, name in enumerate(classes) if k and name != BORDER) or (1,)


def quantised(outputs: np.ndarray) -> np.ndarray:
    """Return shares (0 to 1) as whole 255ths, uint8.

    >>> quantised(np.array([0.0, 0.5, 1.0], np.float32)).tolist()
    [0, 128, 255]
    """
    return np.floor(outputs * np.float32(LEVELS) + np.float32(0.5)).astype(np.uint8)
