"""What the report shows of image and labels: an overview and a few places at full resolution.

Borders are drawn on a grid twice as fine as the pixels, so that a line runs between two segments
and hides neither. They are a layer of their own: the page can show the image without them.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

from segpipe.report.display import Display
from segpipe.report.places import Choice
from segpipe.tiles import Box

OVERVIEW = 1200
"""Longest edge of the overview (px)."""
VISIBLE = 10.0
"""Segments with fewer pixels across are not outlined: there would be little but outlines."""
DISCERNIBLE, THROUGH = 6.0, 140
"""The same in thumbnails, where one wants to see the pattern and not every segment; and how much
(of 255) borders cover there, where they are a good part of the picture."""
ACROSS = 20
"""Segments across a place, about; between the limits below."""
EDGES = (128, 512)
"""Smallest and largest edge of a place (px)."""
Colour = tuple[int, int, int]
COLOURS: tuple[Colour, ...] = (
    (255, 225, 0), (0, 235, 255), (0, 120, 50), (225, 0, 120), (0, 60, 230)
)  # fmt: skip
"""Borders get the one of these that the image has least of."""
CLOSE = 0.05
"""Share of the pixels that may be close to the colour of borders."""
MOST = 0.5
"""Share of pixels in no segment from which on they are background."""
MARK, RIM = 2, 2
"""Width of the line round a segment that a place is about, and of its rim (half pixels)."""
VEIL, DARK = (255, 255, 255), (0, 0, 0)
"""Colour of the stripes over pixels in no segment and of lines round segments; of their rims."""


@dataclass(frozen=True)
class Picture:
    """A part of the image and the borders of its segments, as data URIs."""

    image: str
    layer: str | None
    """Borders, and stripes where there are no segments; None when there is neither."""
    width: int
    height: int
    outlined: bool
    """Segments are large enough to be outlined."""
    striped: bool
    """Pixels that belong to no segment are striped. Of outlined objects on a background they are
    not: stripes would hide what was missed."""


@dataclass(frozen=True)
class Place:
    """A place at full resolution."""

    box: Box
    why: str
    picture: Picture
    rows: tuple[int, ...]
    """Rows at which a tile begins inside the box."""
    columns: tuple[int, ...]


def overview(
    display: Display, stage: str, across: float, edge: int = OVERVIEW
) -> tuple[Picture, Colour]:
    """Return the whole image, and the colour in which borders stand out from it.

    `across` is how many pixels wide a segment is on average.
    """
    image, labels = _whole(display, stage, edge)
    colour = _colour(image)
    seen = across * labels.shape[1] / display.shape[1]
    return _picture(image, labels, colour, outlined=seen >= VISIBLE), colour


def place_edge(display: Display, across: float) -> int:
    """Return the edge of places (px) in which segments can be told apart."""
    return int(np.clip(min(across * ACROSS, min(display.shape) // 3), *EDGES))


def places(
    display: Display, stage: str, chosen: Sequence[Choice], tile: tuple[int, int], colour: Colour
) -> list[Place]:
    """Return places at full resolution."""
    found = []
    for choice in chosen:
        box = choice.box
        rows, columns = (_seams(*span) for span in zip(box.start, box.stop, tile, strict=True))
        labels = display.labels(stage, 0, box)
        image = display.picture(0, box)
        picture = _picture(image, labels, colour, outlined=True, marked=choice.segment)
        found.append(Place(box, choice.why, picture, rows, columns))
    return found


def _seams(start: int, stop: int, tile: int) -> tuple[int, ...]:
    """Return where tiles begin between `start` and `stop`."""
    return tuple(range(start - start % tile + tile, stop, tile))


def overlay(display: Display, stage: str, across: float, edge: int) -> Image.Image:
    """Return the whole image with borders drawn into it, if segments are large enough."""
    image, labels = _whole(display, stage, edge)
    picture = Image.fromarray(image).convert("RGB")
    if across * labels.shape[1] / display.shape[1] >= VISIBLE:
        picture.paste(_colour(image), mask=Image.fromarray(border_mask(labels)))
    return picture


def thumbnail(display: Display, stage: str, across: float, edge: int) -> Image.Image:
    """Return a small picture, with borders that let the image through, if they can be seen."""
    image, labels = _whole(display, stage, edge)
    picture = Image.fromarray(image).convert("RGB")
    if across * labels.shape[1] / display.shape[1] >= DISCERNIBLE:
        mask = border_mask(labels) * np.uint8(THROUGH)
        picture.paste(_colour(image), mask=Image.fromarray(mask))
    return picture


def segment_width(display: Display, stage: str, segments: int | None) -> float:
    """Return how many pixels wide a segment is on average, as far as a coarse level tells."""
    labels = display.labels(stage, len(display.shapes) - 1)
    present = np.unique(labels[labels > 0])
    pixels = float((labels > 0).mean()) * display.shape[0] * display.shape[1]
    return math.sqrt(pixels / max(segments or len(present), 1))


def border_mask(labels: np.ndarray) -> np.ndarray:
    """Return True where the label differs from the one to the right or below.

    >>> border_mask(np.array([[1, 1, 2], [1, 1, 2]])).astype(int).tolist()
    [[0, 1, 0], [0, 1, 0]]
    """
    mask = np.zeros(labels.shape, bool)
    mask[:, :-1] = labels[:, :-1] != labels[:, 1:]
    mask[:-1] |= labels[:-1] != labels[1:]
    return mask


def _whole(display: Display, stage: str, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels of at most `edge` px, from a level of at most twice as many."""
    shapes = display.shapes
    level = next((i for i, shape in enumerate(shapes) if max(shape) <= 2 * edge), len(shapes) - 1)
    small = Image.fromarray(display.picture(level))
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    labels = display.labels(stage, level)
    rows, columns = (
        _nearest(n, full) for n, full in zip(small.size[::-1], labels.shape, strict=True)
    )
    return np.asarray(small), labels[rows[:, None], columns]


def _nearest(n: int, full: int) -> np.ndarray:
    """Return which of `full` pixels lie under the centres of `n` larger ones."""
    return ((np.arange(n) + 0.5) * full / n).astype(np.intp)


def _colour(image: np.ndarray) -> Colour:
    """Return the colour that is far from nearly all colours of the image."""
    pixels = image[::4, ::4].reshape(-1, 3 if image.ndim == 3 else 1).astype(np.float32)
    gaps = [np.quantile(np.linalg.norm(pixels - c, axis=1), CLOSE) for c in np.array(COLOURS)]
    return COLOURS[int(np.argmax(gaps))]


def _picture(
    image: np.ndarray,
    labels: np.ndarray,
    colour: Colour,
    *,
    outlined: bool,
    marked: int | None = None,
) -> Picture:
    rest = float((labels == 0).mean())
    striped = rest > 0 and not (outlined and rest > MOST)
    layer = None
    if outlined or striped:
        drawn = _layer(labels, colour, outlined=outlined, striped=striped, marked=marked)
        layer = data_uri(drawn, "PNG", bits=2 if marked is None else 4)
    shown = Image.fromarray(image)
    pixels = data_uri(shown, "JPEG", quality=88)
    return Picture(pixels, layer, shown.width, shown.height, outlined, striped)


def _layer(
    labels: np.ndarray, colour: Colour, *, outlined: bool, striped: bool, marked: int | None
) -> Image.Image:
    """Return a transparent picture of twice the size with borders, and stripes over label 0.

    Round the segment `marked` there is a line of its own, outside of it, with a dark rim.
    """
    fine = labels.repeat(2, axis=0).repeat(2, axis=1)
    y, x = np.ogrid[: fine.shape[0], : fine.shape[1]]
    layer = ((fine == 0) & ((x + y) % 16 < 3) & striped).astype(np.uint8) * 2
    if outlined:
        layer[border_mask(fine)] = 1
    if marked is not None:
        inside = (fine == marked).view(np.uint8)
        free = (fine != marked) & (layer != 1)
        for width, value in ((MARK + RIM, 4), (MARK, 3)):
            near = maximum_filter(inside, 2 * width + 1, mode="constant").astype(bool)
            layer[near & free] = value
    picture = Image.fromarray(layer)
    picture.putpalette([0, 0, 0, *colour, *VEIL, *VEIL, *DARK])
    picture.info["transparency"] = bytes([0, 255, 140, 255, 255])
    return picture


def data_uri(picture: Image.Image, kind: str, **options: int) -> str:
    """Return a picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    coded = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{coded}"
