"""From a window of an image to probabilities of its core, window by window of the network."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numba import njit

from segpipe.errors import RunError
from segpipe.nets.backends import Choice, Fetch, Start, choose, loaded
from segpipe.nets.card import Normalisation
from segpipe.nets.files import ModelFile
from segpipe.nets.normalise import Levels
from segpipe.nets.windows import Layout, cells_of
from segpipe.tiles import Box

STEPS = 65535
"""Probabilities are blended as whole parts of one: so the order of windows cannot matter."""
AHEAD = 2
"""Batches in flight: while a GPU computes one, the next is made and the last is fetched."""
REMEMBERED = 12
"""Windows whose outputs are kept where tiles cut cells: more than a row of small tiles needs."""
Cell = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """What a tile sees of an image."""

    image: np.ndarray
    """(rows, columns, C) over `box`."""
    valid: np.ndarray | None
    """bool, where pixels count; None: everywhere."""
    box: Box
    shape: tuple[int, int]
    """Of the whole image."""


def outputs(
    seen: Seen, core: Box, file: ModelFile, layout: Layout, levels: Levels, choice: Choice,
    threads: int = 1,
) -> np.ndarray:  # fmt: skip
    """Compute the probabilities of a core.

    Parameters
    ----------
    seen
        The image around the core, as far as the windows of its cells look.
    core
        What is wanted, in global pixels.
    file, layout, levels, choice
        The model, its windows on this image, what becomes 0 and 1, and how it is computed.
    threads
        Of the library; they decide the last bits.

    Returns
    -------
    float32 (K, rows, columns): probabilities by ``file.outputs``; 0 where no pixel counts in a
    whole cell, which is not computed.

    Raises
    ------
    RunError
        The network gave a number that is none.
    """
    start = loaded(file, choice, layout.window, threads)
    places = {
        cell: (inside, part)
        for cell, inside, part in cells_of(layout, core, seen.shape)
        if _counts(seen, layout, cell)
    }
    found = np.zeros((len(file.outputs), *core.shape), np.float32)
    blended = layout.blend != (0, 0)
    sums = np.zeros(found.shape, np.int64) if blended else None
    weight = np.zeros(core.shape, np.int64) if blended else None
    weights = layout.weights() if blended else None
    batches = (
        (cells, np.stack([_window(seen, file, layout, levels, cell) for cell in cells]))
        for cells in _chunks(tuple(places), choice.batch)
    )
    if choice.batch == 1 and not _aligned(core, layout, seen.shape):
        start = _remembered(start)
    for cell, raw in _computed(start, batches, choice.batch):
        if not np.isfinite(raw).all():
            raise RunError(
                f"the network {file.name} gave numbers that are not finite at rows and columns"
                f" from {[c * s for c, s in zip(cell, layout.stride, strict=True)]};"
                " try precision: fp32, and check the model"
            )
        inside, part = places[cell]
        values = probabilities(layout.given(raw), file)[(slice(None), *part)]
        if sums is None or weight is None or weights is None:
            found[(slice(None), *inside)] = values
        else:
            share = weights[part]
            sums[(slice(None), *inside)] += np.rint(values * STEPS).astype(np.int64) * share
            weight[inside] += share
    if sums is not None and weight is not None:
        found = (sums / (np.maximum(weight, 1) * float(STEPS))).astype(np.float32)
    return found


def probabilities(raw: np.ndarray, file: ModelFile) -> np.ndarray:
    """Turn outputs (k, h, w) of a network into probabilities by ``file.outputs``, float32."""
    number = len(file.classes) - (file.activation == "sigmoid" or _alone(raw, file))
    classes, rest = raw[:number], raw[number:]
    if file.activation == "softmax":
        classes = np.exp(classes - classes.max(axis=0))
        classes /= classes.sum(axis=0)
        rest = _sigmoid(rest)
    elif file.activation == "sigmoid":
        classes, rest = _sigmoid(classes), _sigmoid(rest)
    found = np.clip(np.concatenate([classes, rest]), 0.0, 1.0, dtype=np.float32)
    if number < len(file.classes):
        found = np.concatenate([1.0 - found[:number].max(axis=0, keepdims=True), found])
    return found


def as_bytes(found: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (K, h, w) in 255ths, and the class of each pixel (ties: the first).

    >>> as_bytes(np.array([[[0.25]], [[0.75]]], np.float32), 2)
    (array([[[ 64]],
    <BLANKLINE>
           [[191]]], dtype=uint8), array([[1]], dtype=uint8))
    """
    fields = np.empty(found.shape, np.uint8)
    best = np.empty(found.shape[1:], np.uint8)
    _as_bytes(found, classes, fields, best)
    return fields, best


@njit(nogil=True, cache=True)
def _as_bytes(found, classes, fields, best):  # type: ignore[no-untyped-def]
    for y in range(found.shape[1]):
        for x in range(found.shape[2]):
            most, place = found[0, y, x], 0
            for k in range(found.shape[0]):
                value = found[k, y, x]
                fields[k, y, x] = np.uint8(value * np.float32(255) + np.float32(0.5))
                if k < classes and value > most:
                    most, place = value, k
            best[y, x] = place


def predict(file: ModelFile, image: np.ndarray, levels: Levels, threads: int) -> np.ndarray:
    """Return the probabilities (H, W, K) of a whole image (H, W, C), in full precision."""
    shape = (image.shape[0], image.shape[1])
    layout = file.frame.layout(shape)
    choice = choose(file, precision="fp32", window=layout.window)
    whole = Box((0, 0), shape)
    found = outputs(Seen(image, None, whole, shape), whole, file, layout, levels, choice, threads)
    return np.ascontiguousarray(np.moveaxis(found, 0, -1))


def _alone(raw: np.ndarray, file: ModelFile) -> bool:
    """Whether an output is the probability of the foreground, and background the rest."""
    return file.activation == "none" and len(raw) < len(file.outputs)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.float32(1) / (np.float32(1) + np.exp(-np.clip(x, -80, 80)))


def _counts(seen: Seen, layout: Layout, cell: Cell) -> bool:
    """Whether any pixel that a window gives an output for counts."""
    if seen.valid is None:
        return True
    box = layout.output(cell)
    start = tuple(max(0, a) for a in box.start)
    stop = tuple(min(n, b) for n, b in zip(seen.shape, box.stop, strict=True))
    return bool(seen.valid[Box(start, stop).within(seen.box)].any())


def _window(seen: Seen, file: ModelFile, layout: Layout, levels: Levels, cell: Cell) -> np.ndarray:
    """Return the normalised inputs (C, h, w) of a window; 0 where pixels do not count."""
    lines = layout.source(cell, seen.shape)
    rows, columns = (line - start for line, start in zip(lines, seen.box.start, strict=True))
    inside = rows[-1] - rows[0] == len(rows) - 1 and columns[-1] - columns[0] == len(columns) - 1
    place: Any = np.ix_(rows, columns)
    if inside:  # nothing reflected: a view will do
        place = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    pixels = seen.image[place]
    known = None if seen.valid is None else seen.valid[place]
    return inputs(pixels, known, levels, file.normalisation)


def inputs(
    pixels: np.ndarray, known: np.ndarray | None, levels: Levels, rule: Normalisation
) -> np.ndarray:
    """Return float32 (C, h, w) inputs: `segpipe.nets.normalise`, and 0 where nothing is known."""
    low, high = levels
    span = np.where(high > low, high - low, np.inf).astype(np.float32)
    found = np.empty((pixels.shape[2], *pixels.shape[:2]), np.float32)
    for c, plane in enumerate(found):
        np.subtract(pixels[:, :, c], low[c], out=plane, dtype=np.float32, casting="unsafe")
        plane /= span[c]
        if rule.clip is not None:
            np.clip(plane, *rule.clip, out=plane)
        if known is not None:
            plane[~known] = 0.0
    return found


def _computed(
    start: Start, batches: Iterable[tuple[tuple[Cell, ...], np.ndarray]], size: int
) -> Iterator[tuple[Cell, np.ndarray]]:
    """Yield the outputs of all cells; batches are filled up: their shape decides the last bits."""
    flying: deque[tuple[tuple[Cell, ...], Fetch]] = deque()
    for cells, batch in batches:
        missing = size - len(batch)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        flying.append((cells, start(batch)))
        if len(flying) >= AHEAD:
            yield from _landed(flying.popleft())
    while flying:
        yield from _landed(flying.popleft())


def _chunks(cells: tuple[Cell, ...], size: int) -> Iterator[tuple[Cell, ...]]:
    return (cells[i : i + size] for i in range(0, len(cells), size))


def _aligned(core: Box, layout: Layout, shape: tuple[int, int]) -> bool:
    """Whether a core is whole cells: then no other tile computes their windows."""
    return layout.blend == (0, 0) and core == core.snapped(layout.stride, shape)


@lru_cache(maxsize=2)
def _remembered(start: Start) -> Start:
    """Return `start` with a memory of the last windows.

    Tiles that cut cells compute a window once each; those done by one worker share it. What a
    network gives is a pure function of its input, whose digest is the key.
    """
    known: OrderedDict[bytes, np.ndarray] = OrderedDict()
    lock = Lock()

    def recall(batch: np.ndarray) -> Fetch:
        key = hashlib.blake2b(batch.data, digest_size=16).digest()
        with lock:
            found = known[key] if key in known else start(batch)()
            known[key] = found
            known.move_to_end(key)
            if len(known) > REMEMBERED:
                known.popitem(last=False)
        return lambda: found

    return recall


def _landed(flight: tuple[tuple[Cell, ...], Fetch]) -> Iterator[tuple[Cell, np.ndarray]]:
    cells, fetch = flight
    yield from zip(cells, fetch(), strict=False)
