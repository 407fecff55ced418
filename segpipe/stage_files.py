"""Files that a stage names besides the image: points to begin from, labels to work on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe import methods
from segpipe.config import Stage
from segpipe.errors import InputError
from segpipe.readers import SourceInfo
from segpipe.readers.labels import PICK, RasterLabels, open_labels
from segpipe.readers.places import open_place
from segpipe.readers.points import POINT_FILES, read_points


def with_points(stage: Stage, image: SourceInfo) -> dict[str, Any]:
    """Return a stage's parameters, with the points of a file instead of its name.

    Raises
    ------
    ReadError
        The file cannot be read, or a point lies outside the image.
    """
    field = getattr(methods.find(stage.method), "points", None)
    given = stage.parameters.get(field) if field else None
    if not isinstance(given, str) or not (Path(given).suffix or "://" in given):
        return stage.parameters
    if Path(given.split("?")[0]).suffix.lower() not in POINT_FILES:
        raise InputError(
            f"{stage.method}, {field}: {given} is no file of points ({', '.join(POINT_FILES)}); a "
            "label image is what a stage `reads`"
        )
    return stage.parameters | {str(field): read_points(given, image)}


def labels_fingerprint(where: str, image: SourceInfo) -> str:
    """Check that a file holds one label image of the image's size; return its identity.

    Raises
    ------
    InputError
        It does not.
    """
    found = open_labels(where, image)
    try:
        if len(found) > 1:
            raise InputError(f"{where} holds {len(found)} label images; give a file with one")
        if found[0].info.shape != image.shape:
            raise InputError(
                f"{where} has {found[0].info.shape[0]} x {found[0].info.shape[1]} pixels, the image"
                f" {image.shape[0]} x {image.shape[1]}; labels must have the image's size"
            )
    finally:
        for source in found:
            source.close()
    if isinstance(found[0], RasterLabels):
        return found[0].info.fingerprint
    place = open_place(where.partition(PICK)[0])  # read whole: what is known is the file's
    try:
        return place.fingerprint
    finally:
        place.close()
