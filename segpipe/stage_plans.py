"""Stages: their methods with parameters checked, and what each of them reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from segpipe import methods
from segpipe.config import Stage
from segpipe.errors import InputError
from segpipe.explain import by_key, nearest, refused
from segpipe.passes import ImageInfo, Method, Pass, filtered_image
from segpipe.readers import SourceInfo
from segpipe.regions.pieces import GIVEN, pieces_passes
from segpipe.stage_files import labels_fingerprint, with_points

SURE = 0.8
"""Of the segments that a stage is expected to give, as many surely come."""


@dataclass(frozen=True)
class StagePlan:
    """One stage: the method with its parameters, and its passes."""

    name: str
    method: Method
    passes: tuple[Pass, ...]
    reads: str = "image"
    """``image``, or the stage or file whose labels the method works on."""
    fingerprint: str | None = None
    """Identity of that file."""
    pixels: ImageInfo | None = None
    """The filtered image of the stage that it reads; None: it works on the image."""

    @property
    def given(self) -> str:
        """Name of the array that a file of labels is read as."""
        return GIVEN if GIVEN in self.passes[0].reads else "segments"


def build_method(name: str, parameters: dict[str, Any]) -> Method:
    """Return method `name` with `parameters` checked."""
    kind = methods.find(name)
    known = [field.name for field in dataclasses.fields(kind)]
    for key in parameters:
        if key not in known:
            hint = nearest(key, known, f"it has {', '.join(known)}")
            raise InputError(f"method {name} has no parameter `{key}`; {hint}")
    try:
        return _check_of(name)(parameters)
    except ValidationError as error:
        meanings = {field: meaning for field, _, _, meaning in methods.parameters(kind)}
        found = by_key(error.errors(), lambda place: str(place[0]) if place else "")
        lines = [refused(key, items, meanings.get(key, "")) for key, items in found.items()]
        raise InputError(f"parameters of {name}: {'; '.join(lines)}") from error


@cache
def _check_of(name: str) -> Callable[[dict[str, Any]], Method]:
    """Return what checks the parameters of a method; making it takes milliseconds."""
    return TypeAdapter(methods.find(name)).validate_python


def plan_stage(
    stage: Stage, before: Sequence[StagePlan], image: ImageInfo, source: SourceInfo
) -> StagePlan:
    """Decide on a stage, given those before it.

    Raises
    ------
    InputError
        The method cannot do it.
    """
    method = build_method(stage.method, with_points(stage, source))
    read = [s.passes for s in before if s.name == stage.reads]
    pixels = filtered_image(read[0], image) if read else None
    passes = _passes(stage, method, pixels or image)
    works_on_labels = any("segments" in step.reads for step in passes)
    if works_on_labels and stage.reads == "image":
        raise InputError(
            f"{stage.method} works on the labels of another stage; give `stages` with one before "
            f"it, for example slic, and `reads: slic`, or `reads:` a file of labels"
        )
    if stage.reads != "image" and not works_on_labels:
        if pixels is None:
            raise InputError(
                f"stage {stage.output} reads `{stage.reads}`, but {stage.method} as it is set"
                " segments `image`, or a filtered image (of mean-shift with `filtered: true`)"
            )
        return StagePlan(stage.output, method, passes, stage.reads, pixels=pixels)
    if pixels is not None:
        passes = _passes(stage, method, image)
    fingerprint = None
    if stage.reads not in ("image", *(s.name for s in before)):
        fingerprint = labels_fingerprint(stage.reads, source)
        if getattr(method, "groups", False):
            passes = (*pieces_passes(image), *passes)
    _check_number(method, next((s.method for s in before if s.name == stage.reads), None), image)
    return StagePlan(stage.output, method, passes, stage.reads, fingerprint)


def _check_number(method: Method, before: Method | None, image: ImageInfo) -> None:
    """Refuse more segments than a method can take, where the stage before says how many come."""
    most, expected = getattr(method, "most_segments", None), getattr(before, "expected", None)
    if most is None or expected is None or image.masked:
        return
    about = expected(image)
    if about * SURE > most:
        raise InputError(
            f"{method.name} takes at most {most:,} segments, and {before.name} will give about"  # type: ignore[union-attr]
            f" {about:,}; {method.remedy}"  # type: ignore[attr-defined]
        )


def _passes(stage: Stage, method: Method, image: ImageInfo) -> tuple[Pass, ...]:
    try:
        return method.passes(image)
    except ValueError as error:
        raise InputError(f"{stage.method} cannot segment this image: {error}") from error
