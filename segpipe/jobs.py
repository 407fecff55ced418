"""What a worker does: the kinds of jobs of a run, each a number of tasks (`segpipe.tasks`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from segpipe.errors import InputError
from segpipe.passes import Pass, Table, Window
from segpipe.readers import SourceInfo, open_mask, open_source
from segpipe.readers.labels import open_labels
from segpipe.stage_files import labels_fingerprint
from segpipe.store.arrays import Region, as_pixels, as_planes, checksum
from segpipe.store.digest import label_digest
from segpipe.store.folder import Folder
from segpipe.store.pyramid import coarser
from segpipe.store.tables import Recipe, assemble
from segpipe.tasks import Work
from segpipe.tiles import Box, Grid


@dataclass(frozen=True)
class ArrayInput:
    """An array of the run, read through windows."""

    name: str
    folder: Folder
    path: str

    def read(self, box: Box) -> dict[str, tuple[np.ndarray, str]]:
        """Return the array over `box` as pixels, and its checksum."""
        planes = Region(self.folder, self.path, box).read()
        return {self.name: (as_pixels(planes), checksum(planes))}


@dataclass(frozen=True)
class SourceInput:
    """The source file, read through windows together with what says which pixels count."""

    where: str
    mask: str | None
    masked: bool
    max_pixels: int | None
    fingerprint: str
    mask_fingerprint: str | None
    """What source and mask were when the run was planned."""

    def read(self, box: Box) -> dict[str, tuple[np.ndarray, str]]:
        """Return ``image`` and, for a masked image, ``mask`` (uint8, 1 = counts) over `box`.

        The image is a view of its planes: it is on its way into the store.
        """
        source = _opened(self)
        image, valid = source[0].read(box)
        arrays = {"image": as_planes(image)}
        if self.masked:
            mask = np.ones(box.shape, np.uint8) if valid is None else valid
            if source[1] is not None:
                mask = mask & source[1].read(box)
            arrays["mask"] = mask
        return {name: (_seen(planes), checksum(planes)) for name, planes in arrays.items()}


@dataclass(frozen=True)
class LabelsInput:
    """A file of labels, read through windows as ``segments``."""

    where: str
    fingerprint: str
    image: SourceInfo
    name: str = "segments"

    def read(self, box: Box) -> dict[str, tuple[np.ndarray, str]]:
        """Return the labels over `box`, 0 where they do not count, and their checksum."""
        labels, valid = _labels(self).read(box)
        if valid is not None:  # what does not count may be any number
            labels = np.where(valid == 0, np.zeros((), labels.dtype), labels)
        if labels.dtype.kind not in "uib" and (labels != np.floor(labels)).any():
            raise InputError(f"{self.where}: labels must be whole numbers, got {labels.dtype}")
        if labels.size and labels.min() < 0:
            raise InputError(f"{self.where}: labels must be 0 or more, got {labels.min()}")
        wide = labels.dtype.itemsize > 4
        labels = labels.astype(np.uint64 if wide else np.uint32)
        return {self.name: (labels, checksum(labels))}


@lru_cache(maxsize=2)
def _labels(spec: LabelsInput) -> Any:
    """Open a file of labels once per worker."""
    if labels_fingerprint(spec.where, spec.image) != spec.fingerprint:
        raise InputError(f"the labels {spec.where} have changed since the run began; start anew")
    return open_labels(spec.where, spec.image)[0]


def _seen(planes: np.ndarray) -> np.ndarray:
    """View stored planes as a method sees them."""
    return planes if planes.ndim == 2 else np.moveaxis(planes, 0, -1)


@lru_cache(maxsize=1)
def _opened(spec: SourceInput) -> tuple[Any, Any]:
    """Open the source once per worker.

    Parsing offsets is dear, and a striped or streamed source keeps its current band. The cache
    holds a file position, never a result.
    """
    source = open_source(spec.where, max_pixels=spec.max_pixels, fingerprint=spec.fingerprint)
    if spec.mask is None:
        return source, None
    mask = open_mask(spec.mask, source.info)
    if mask.fingerprint != spec.mask_fingerprint:
        raise InputError(f"the mask {spec.mask} has changed since the run began; start a new run")
    return source, mask


@dataclass(frozen=True)
class Levels:
    """Coarser levels of an array that are made together, from aligned blocks of one level."""

    image: Folder
    prefix: str
    """Where the levels lie in the image (arrays 0, 1, 2, … behind this prefix)."""
    source: int
    """The level that is at hand."""
    made: tuple[int, ...]
    """The levels that are made of it: the next ones."""

    def regions(self, block: Box) -> list[Region]:
        """Return where a block of the source level lies in each level made."""
        regions = []
        for level in self.made:
            factor = 2 ** (level - self.source)
            start = tuple(a // factor for a in block.start)
            stop = tuple(-(-b // factor) for b in block.stop)
            regions.append(Region(self.image, f"{self.prefix}{level}", Box(start, stop)))
        return regions

    def halve(self, planes: np.ndarray) -> list[np.ndarray]:
        """Return a block of the source level in each level made."""
        found = []
        for _ in self.made:
            planes = coarser(planes)
            found.append(planes)
        return found


@dataclass(frozen=True)
class PassJob:
    """One pass of a method over the tiles of the grid."""

    name: str
    folder: Folder
    key: str
    step: Pass
    grid: Grid
    inputs: tuple[ArrayInput | SourceInput | LabelsInput, ...]
    paths: Mapping[str, tuple[Folder, str]]
    """Name of each array written -> where it lies."""
    levels: Mapping[str, Levels] = field(default_factory=dict)
    """Name of an array written -> its coarser levels that are made while the tile is at hand."""

    def __len__(self) -> int:
        return len(self.grid)

    def outputs(self, number: int) -> list[Region]:
        """Return the tile's core in each array written."""
        core = self.grid.core(number)
        regions = [Region(folder, path, core) for folder, path in self.paths.values()]
        return regions + [r for levels in self.levels.values() for r in levels.regions(core)]

    def work(self, number: int, part: Any) -> Work:
        """Read the window, map it, hand over the core."""
        work = Work()
        tile = self.grid.tile(number, self.step.halo, self.step.align)
        arrays: dict[str, np.ndarray] = {}
        with work.timed("read"):
            for item in self.inputs:
                for name, (pixels, found) in item.read(tile.window).items():
                    arrays[name], work.inputs[name] = pixels, found
        with work.timed("compute"):
            output = self.step.map(Window(tile, self.grid, arrays), part)
            work.record, work.tables = output.record, output.tables
            for name, pixels in output.arrays.items():
                planes = as_planes(pixels)
                work.regions.append((Region(*self.paths[name], tile.core), planes))
                if name in self.levels:
                    levels = self.levels[name]
                    made = zip(levels.regions(tile.core), levels.halve(planes), strict=True)
                    work.regions.extend(made)
        return work


@dataclass(frozen=True)
class PyramidJob:
    """Coarser levels of an array, a few at a time, block by block."""

    name: str
    folder: Folder
    key: str
    grid: Grid
    """Blocks of the level that is read."""
    levels: Levels

    def __len__(self) -> int:
        return len(self.grid)

    def outputs(self, number: int) -> list[Region]:
        """Return the block at each coarser level."""
        return self.levels.regions(self.grid.core(number))

    def work(self, number: int, _part: Any) -> Work:
        """Halve the block once per level."""
        work, levels = Work(), self.levels
        path = f"{levels.prefix}{levels.source}"
        with work.timed("read"):
            block = Region(levels.image, path, self.grid.core(number)).read()
        with work.timed("compute"):
            work.regions = list(zip(self.outputs(number), levels.halve(block), strict=True))
        return work


@dataclass(frozen=True)
class DigestJob:
    """SHA-256 of a label image: a single task, since a hash has an order."""

    name: str
    folder: Folder
    key: str
    array: Folder
    path: str

    def __len__(self) -> int:
        return 1

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the digest lies in the record."""
        return []

    def work(self, _number: int, _part: Any) -> Work:
        """Read the labels row band by row band."""
        work = Work()
        with work.timed("read"):
            digest = label_digest(self.array, self.path)
        work.record = {"digest": np.frombuffer(digest.encode(), np.uint8)}
        return work


@dataclass(frozen=True)
class TableJob:
    """Assemble a table from the tiles' parts; `part` says which labels begin in which band."""

    name: str
    folder: Folder
    key: str
    target: str
    place: str
    """Where the parts lie."""
    table: Table
    grid: Grid

    def __len__(self) -> int:
        return 1

    def outputs(self, _number: int) -> list[Region]:
        """Return nothing: the table is a file of its own."""
        return []

    def work(self, _number: int, part: Any) -> Work:
        """Merge one row of tiles after the other."""
        work = Work()
        across, table = self.grid.counts[1], self.table
        bands = [range(i, i + across) for i in range(0, len(self.grid), across)]
        recipe = Recipe(table.pieces, table.merge, table.close, part)
        with work.timed("write"):
            found = assemble(self.folder, self.target, self.place, bands, recipe)
        work.objects[self.target] = found
        return work
