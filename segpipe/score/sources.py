"""Which label images are scored: files, or those of a run, and the ground truth beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe import methods
from segpipe.errors import InputError
from segpipe.readers import SourceInfo
from segpipe.readers.labels import LabelSource, is_vector, open_labels
from segpipe.stage_plans import build_method
from segpipe.state import COLLECTION, chosen_stage, complete_state, no_run, read_state
from segpipe.store import IMAGE, table_name
from segpipe.store.arrays import Region
from segpipe.store.columns import batches, column_names
from segpipe.store.folder import Folder
from segpipe.tiles import Box


def open_all(
    labels: str, truths: Sequence[str], stage: str | None = None
) -> tuple[LabelSource, list[LabelSource]]:
    """Open labels and truth; vector files are drawn on the pixels of the rasters."""
    if not truths:
        raise InputError("there is no ground truth to score against; give --truth")
    run = _of_run(labels, stage)
    image = None if run is None else run.info
    found: dict[str, list[LabelSource]] = {} if run is None else {labels: [run]}
    for where in sorted(dict.fromkeys([labels, *truths]), key=is_vector):
        if where not in found:
            found[where] = open_labels(where, image)
        info = found[where][0].info
        image = info if image is None or image.transform is None else image
    if len(found[labels]) > 1:
        raise InputError(
            f"{labels} holds {len(found[labels])} label images, and one can be scored at a time; "
            "choose an array with FILE::NAME, or write each to a file of its own"
        )
    ours = found[labels][0]
    annotators = [source for where in truths for source in found[where]]
    for source in annotators:
        if source.info.shape != ours.info.shape:
            raise InputError(
                f"{source.name} has {_size(source)} pixels, the labels {labels} have "
                f"{_size(ours)}; give a ground truth of the same image at the same size"
            )
    return ours, annotators


@dataclass(frozen=True)
class RunLabels:
    """A label image of a finished run."""

    folder: Folder
    stage: str
    table: str
    info: SourceInfo
    """The image that was segmented."""
    outside: bool
    """Label 0 says: outside of what was segmented (mask, nodata, transparency, NaN)."""

    @property
    def name(self) -> str:
        """Where the label image lies."""
        return str(self.folder / IMAGE / f"labels/{self.stage}")

    def read(self, box: Box) -> tuple[np.ndarray, None]:
        """Return the labels of `box`."""
        return Region(self.folder / IMAGE, f"labels/{self.stage}/0", box).read(), None

    def classes(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the labels of the segments and their classes, int64; None without classes."""
        if "class" not in column_names(self.folder, self.table):
            return None
        parts = list(batches(self.folder, self.table, ["label", "class"]))
        columns = [[part[name].astype(np.int64) for part in parts] for name in ("label", "class")]
        empty = np.zeros(0, np.int64)
        return np.concatenate([empty, *columns[0]]), np.concatenate([empty, *columns[1]])

    def close(self) -> None:
        """Do nothing: no handle is kept."""


def _of_run(where: str, stage: str | None) -> RunLabels | None:
    """Open the label image of a run; None when there is no run in `where`."""
    folder = Folder(where)
    named = not Path(where.split("?")[0]).suffix  # a run in an object store; files have endings
    state = read_state(folder) if (folder.local.is_dir() if folder.local else named) else None
    if state is None:
        if folder.local is not None and (folder.local / COLLECTION).exists():
            raise no_run(where, folder)
        if stage is not None:
            raise InputError(f"--stage names a label image of a run, and {where} is no run folder")
        return None
    state = complete_state(where, folder)
    name = chosen_stage(state, stage)
    image = SourceInfo(**state["source"])
    image = dataclasses.replace(image, shape=(image.shape[0], image.shape[1]))
    table = table_name("segments", name, alone=len(state["labels"]) == 1)
    masked = image.masked or state["config"].get("mask") is not None
    outside = masked and not _has_background(state["config"])
    return RunLabels(folder, name, table, image, outside)


def _has_background(config: Mapping[str, Any]) -> bool:
    """Whether a method of the run gives label 0 to pixels that it did look at."""
    for stage in config.get("stages") or [config]:
        partial = getattr(methods.find(stage["method"]), "partial", False)
        if isinstance(partial, property):  # it depends on the parameters
            partial = getattr(build_method(stage["method"], stage["parameters"]), "partial", False)
        if partial:
            return True
    return False


def _size(source: LabelSource) -> str:
    return f"{source.info.shape[0]} x {source.info.shape[1]}"
