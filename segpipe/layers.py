"""What a run leaves as OME-Zarr: the image, the labels, and what methods keep besides them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from segpipe.errors import InputError
from segpipe.passes import Pass
from segpipe.plan import Plan

GROUPS = {"fields": "probability", "probabilities": "probability"}
"""Arrays with planes -> the group that they are published in, if it has another name."""


@dataclass(frozen=True)
class Layer:
    """An array of the result, with a pyramid."""

    stage: str
    """The stage that writes it, or ``image``."""
    array: str
    """Its name in the passes."""
    prefix: str
    """Where its levels lie in the image (arrays 0, 1, 2, … behind this)."""
    planes: tuple[int, ...]
    """(C,) of an image, () of labels."""
    dtype: str

    @property
    def name(self) -> str:
        """Name among the jobs of a run."""
        return self.stage if self.array in ("image", "labels") else f"{self.stage}-{self.array}"

    @property
    def label_name(self) -> str | None:
        """Name as a label image; None of an image."""
        return None if self.planes else self.prefix.split("/")[1]


def note_digest(said: dict[str, Any], layer: Layer, digest: str, segments: int) -> None:
    """Write down the digest of a label image where ``run.json`` has it.

    Of the labels of a stage it goes with their number of segments, of another map that the stage
    keeps it stands alone.
    """
    if layer.array == "labels":
        said["labels"][layer.stage] = {"digest": digest, "segments": segments}
    elif layer.label_name is not None:
        said.setdefault("maps", {})[layer.label_name] = {"digest": digest}


def layers_of(plan: Plan) -> dict[tuple[str, str], Layer]:
    """Return the layers of a run by (stage, array).

    Raises
    ------
    InputError
        Two of them would lie in one place.
    """
    image = plan.image
    found = [Layer("image", "image", "", (image.channels,), image.dtype)]
    for stage in plan.stages:
        for step in stage.passes:
            found += _kept(stage.name, step)
    places = [layer.prefix for layer in found]
    for place in places:
        if places.count(place) > 1:
            raise InputError(f"two stages write {place.rstrip('/')}; give one another `name`")
    return {(layer.stage, layer.array): layer for layer in found}


def _kept(stage: str, step: Pass) -> Iterator[Layer]:
    for array, dtype in step.writes.items():
        if array == "labels":
            yield Layer(stage, array, f"labels/{stage}/", (), dtype)
        elif array in step.keeps and array in step.planes:
            place = f"{GROUPS.get(array, array)}/{stage}/"
            yield Layer(stage, array, place, (step.planes[array],), dtype)
        elif array in step.keeps:
            yield Layer(stage, array, f"labels/{stage}-{array}/", (), dtype)
