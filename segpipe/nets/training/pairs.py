"""Images with their labels, and the part of the data that each belongs to."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segpipe.errors import InputError
from segpipe.methods.components import components
from segpipe.nets.training.recipe import Data
from segpipe.readers import open_source
from segpipe.readers.labels import open_labels
from segpipe.tiles import Box, Grid

PARTS = ("train", "validation", "test")
BLOCK = 1024
"""A single large image is cut into blocks of this edge (px), each a group of its own."""
MOST = 1 << 24
"""Largest number of an object: crops are turned and stretched as float32."""
SPLIT_SEED = 0
"""The split stays when the seed of the training changes, so that scores can be compared."""


@dataclass(frozen=True)
class Pair:
    """One image, or a block of one, and its labels."""

    name: str
    image: str
    labels: str
    group: str
    part: str
    box: Box | None = None
    """Block of the image; None: all of it."""
    weight: float = 1.0
    """How often crops are taken from it, next to others of its size."""


def find(data: Data) -> list[Pair]:
    """Return all pairs, sorted by name.

    Raises
    ------
    InputError
        A folder is missing, an image has no labels, or a part is empty that must not be.
    """
    files = list(_files(data))
    if not files:
        raise InputError(f"data.images: there is no image in {data.images}; give another folder")
    chosen = _chosen(data, {pair.name for pair in files})
    pairs = [
        replace(pair, group=group, part=part or _part(group, data), weight=weight)
        for pair in files
        for group, part, weight in [chosen.get(pair.name, (pair.group, "", 1.0))]
        if data.table is None or pair.name in chosen
    ]
    pairs.sort(key=lambda pair: pair.name)
    if not any(pair.part == "train" for pair in pairs):
        raise InputError(
            f"no image of {data.images} is left to train on; check data.table and the shares"
            " data.validation and data.test"
        )
    return pairs


def read(pair: Pair, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return image (H, W, C), labels (H, W) and where these count (H, W) bool."""
    source, (labels, *more) = open_source(pair.image), open_labels(pair.labels)
    try:
        if more or source.info.shape != labels.info.shape:
            raise InputError(
                f"{pair.labels} must hold one label image of {source.info.shape} pixels, as the"
                f" image has; got {1 + len(more)} of {labels.info.shape}"
            )
        box = pair.box or Box((0, 0), source.info.shape)
        pixels, valid = source.read(box)
        numbers, known = labels.read(box)
    finally:
        source.close()
        labels.close()
    counts = np.ones(numbers.shape, bool)
    for mask in (valid, known):
        counts &= True if mask is None else mask.astype(bool)
    if data.ignore is not None:
        counts &= numbers != data.ignore
    if data.grey and pixels.shape[2] > 1:
        pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)
    if data.colour and pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    numbers = np.where(counts, numbers, 0)
    if numbers.max(initial=0) > MOST:
        numbers = np.unique(np.append(0, numbers), return_inverse=True)[1][1:].reshape(counts.shape)
    numbers = numbers.astype(np.int32)
    if data.values is not None:
        numbers = _classes(np.where(counts, numbers, data.values[0]), data.values, pair)
    if data.connected:
        numbers = components(numbers).astype(np.int32)
    return pixels, numbers, counts


def _classes(numbers: np.ndarray, values: Sequence[int], pair: Pair) -> np.ndarray:
    """Return which of `values` each number is."""
    order = np.argsort(values)
    ranked = np.asarray(values)[order]
    place = np.searchsorted(ranked, numbers).clip(0, len(values) - 1)
    wrong = ranked[place] != numbers
    if wrong.any():
        raise InputError(
            f"{pair.labels} holds the number {numbers[wrong][0]}; data.values names {list(values)}"
        )
    return order[place].astype(np.int32)


def _files(data: Data) -> Iterator[Pair]:
    images, labels = Path(data.images), Path(data.labels)
    for key, path in (("images", images), ("labels", labels)):
        if "://" not in str(getattr(data, key)) and not path.exists():
            raise InputError(f"data.{key}: there is no {path}")
    if not images.is_dir() and labels.is_dir() and not _is_zarr(labels):
        raise InputError(f"data.images: {images} is a file; give a folder, as data.labels is one")
    if not images.is_dir() or _is_zarr(images):
        yield from _blocks(data)
        return
    if not labels.is_dir():
        raise InputError(f"data.labels: {labels} is a file; give a folder, as data.images is one")
    by_name = _by_name(labels)
    for name, path in _by_name(images).items():
        if name not in by_name:
            raise InputError(
                f"{path} has no labels: {labels} needs a file of that name, of any suffix"
            )
        yield Pair(name, str(path), str(by_name[name]), name, "")


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their names without suffix."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.stem in found:
            raise InputError(
                f"{found[path.stem]} and {path} have one name but for the suffix; leave one"
            )
        found[path.stem] = path
    return found


def _blocks(data: Data) -> Iterator[Pair]:
    source = open_source(data.images)
    shape = source.info.shape
    source.close()
    grid = Grid(shape, (BLOCK, BLOCK))
    for tile in (grid.tile(number) for number in range(len(grid))):
        y, x = tile.core.start
        name = f"{y}-{x}"
        yield Pair(name, data.images, data.labels, name, "", tile.core)


def _chosen(data: Data, known: set[str]) -> dict[str, tuple[str, str, float]]:
    """Return group, part and weight by name, as the table says."""
    if data.table is None:
        return {}
    try:
        with Path(data.table).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read data.table {data.table}: {error}") from error
    if not rows or "name" not in rows[0]:
        raise InputError(f"data.table {data.table} needs a first line with a column `name`")
    found = {}
    for row in rows:
        name, part = row["name"], row.get("part") or ""
        if name not in known:
            raise InputError(f"data.table names `{name}`, but {data.images} has no such file")
        if part and part not in PARTS:
            raise InputError(
                f"data.table: part of `{name}` is `{part}`; parts are {', '.join(PARTS)}"
            )
        found[name] = (row.get("group") or name, part, _weight(row, data))
    return found


def _weight(row: dict[str, str], data: Data) -> float:
    text = row.get("weight") or "1"
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise InputError(
            f"data.table {data.table}: weight of `{row['name']}` is `{text}`; weights are numbers"
            " above 0"
        )
    return weight


def _part(group: str, data: Data) -> str:
    """Draw the part of a group: from its name, so that new images move no old one."""
    digest = hashlib.sha256(f"{SPLIT_SEED}/{group}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    if draw < data.test:
        return "test"
    return "validation" if draw < data.test + data.validation else "train"


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zattrs", ".zarray"))
