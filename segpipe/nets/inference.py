"""From a window of an image to probabilities of its core, window by window of the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import batched

import numpy as np

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
        for cells in batched(places, choice.batch)
    )
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


def _window(
    seen: Seen, file: ModelFile, layout: Layout, levels: Levels, cell: Cell
) -> np.ndarray:
    """Return the normalised inputs (C, h, w) of a window; 0 where pixels do not count."""
    rows, columns = layout.source(cell, seen.shape)
    place = np.ix_(rows - seen.box.start[0], columns - seen.box.start[1])
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
    """Yield the outputs of all cells; batches are filled up, for their shape is part of the result."""
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


def _landed(flight: tuple[tuple[Cell, ...], Fetch]) -> Iterator[tuple[Cell, np.ndarray]]:
    cells, fetch = flight
    yield from zip(cells, fetch(), strict=False)
