"""Ground truth as layers of the viewer: read from its file where the browser looks."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import neuroglancer
import numpy as np

from segpipe.errors import InputError
from segpipe.readers import SourceInfo
from segpipe.readers.labels import LabelSource, open_labels
from segpipe.tiles import Box

COARSEST = 1 << 12
"""Most pixels that one pixel of a coarse level stands for."""


class _Labels:
    """A label image as an array that is read when it is sliced, one thread at a time."""

    dtype = np.dtype(np.uint64)

    def __init__(self, source: LabelSource) -> None:
        self._source, self._lock = source, threading.Lock()
        self.shape = source.info.shape[:2]
        self.ndim = 2

    def __getitem__(self, box: Sequence[slice]) -> np.ndarray:
        place = Box(tuple(s.start for s in box), tuple(s.stop for s in box))
        with self._lock:
            values, valid = self._source.read(place)
        found = values.astype(np.int64).astype(self.dtype)
        return found if valid is None else np.where(valid, found, self.dtype.type(0))


def add_truth(scene: neuroglancer.ViewerState, files: Sequence[str], image: SourceInfo) -> None:
    """Put the label images of some files on the scene, hidden: one layer per annotator.

    Raises
    ------
    InputError
        A file cannot be read, or has another size than the image.
    """
    sources = [source for where in files for source in open_labels(where, image)]
    for number, source in enumerate(sources, 1):
        if tuple(source.info.shape) != tuple(image.shape):
            raise InputError(
                f"{source.name} has {_size(source.info)} pixels, the image has {_size(image)}; "
                "give a ground truth of the same image at the same size"
            )
        volume = neuroglancer.LocalVolume(
            _Labels(source),
            dimensions=_plane(scene.dimensions),
            volume_type="segmentation",
            max_downsampling=COARSEST,
        )
        name = "truth" if len(sources) == 1 and not _taken(scene, "truth") else f"truth {number}"
        layer = neuroglancer.SegmentationLayer(source=volume, selected_alpha=0.4)
        scene.layers.append(name=name, layer=layer, visible=False)


def _taken(scene: neuroglancer.ViewerState, name: str) -> bool:
    return any(layer.name == name for layer in scene.layers)


def _plane(space: neuroglancer.CoordinateSpace) -> neuroglancer.CoordinateSpace:
    """Return the axes of the scene in the order of an array: rows, columns."""
    order = [space.names.index(name) for name in ("y", "x")]
    return neuroglancer.CoordinateSpace(
        names=["y", "x"],
        scales=[float(space.scales[i]) for i in order],
        units=[space.units[i] for i in order],
    )


def _size(info: SourceInfo) -> str:
    return f"{info.shape[0]} x {info.shape[1]}"
