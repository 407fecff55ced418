"""What a model is, in words and numbers: everything that inference needs to know besides weights.

A card is JSON. It travels inside the file of weights, and nothing of it is code.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from segpipe.config import validated
from segpipe.errors import InputError

Kind = Literal["unet", "encoder-decoder"]
Upsampling = Literal["transposed", "bilinear", "nearest", "bed-of-nails", "unpooling"]
Share = Annotated[float, Field(ge=0, le=1)]
BACKGROUND, BORDER = "background", "border"
DISTANCE = "distance"
"""Name of the output that is no class: how deep inside its object a pixel lies."""


class Keys(BaseModel):
    """Keys with a meaning each; others are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Architecture(Keys):
    """Shape of a network; with it alone the network can be built."""

    kind: Kind = "unet"
    """`unet`, or `encoder-decoder`: the same without skips."""
    in_channels: int = Field(default=1, ge=1)
    """Channels of the image."""
    out_channels: int = Field(default=2, ge=1)
    """Outputs per pixel: one per class, and one for the distance where there is one."""
    depth: int = Field(default=4, ge=1, le=7)
    """How often the resolution is halved."""
    width: int = Field(default=64, ge=1)
    """Channels at full resolution; they double with every halving."""
    padding: Literal["valid", "same"] = "valid"
    """`valid`: convolutions are not padded, the output is smaller by the margin on every side;
    `same`: they are padded with zeros, and what lies nearer to the rim than the margin is not what
    a larger window would give."""
    upsampling: Upsampling = "transposed"
    """How the decoder doubles the resolution."""
    norm: Literal["none", "batch"] = "batch"
    """Normalisation after convolutions. Batch normalisation is frozen in inference; none over
    space is offered, because its result would depend on the window."""

    @property
    def margin(self) -> int:
        """Pixels that a `valid` network loses on every side."""
        return margin(self.depth, self.upsampling)

    @property
    def align(self) -> int:
        """Windows begin at multiples of it."""
        return 2**self.depth

    @property
    def reach(self) -> int:
        """Pixels around a block, of whole multiples of `align`, that can change its output.

        2 more than the margin, 3 with bilinear interpolation, because a block's corner is not the
        pixel of its pooling that reaches least far.
        """
        return self.margin + (3 if self.upsampling == "bilinear" else 2)

    @property
    def halo(self) -> int:
        """Pixels to read around such a block, so that these begin at a multiple of `align`, too."""
        return -(-self.reach // self.align) * self.align


class Channel(Keys):
    """One channel of the image."""

    name: str
    """What it shows, for example `DAPI`."""


class PixelSize(Keys):
    """Edge of a pixel of the images that the model was trained on."""

    value: float = Field(gt=0)
    """How long."""
    unit: str = "micrometer"
    """In what; a UDUNITS-2 name, as OME-Zarr has it."""
    tolerance: float = Field(default=2.0, ge=1)
    """Images whose pixels are more than so many times larger or smaller are refused."""


class Normalisation(Keys):
    """How values of the image become inputs of the network: (value - low) / (high - low).

    `low` and `high` never come from a tile: they stand here, or are order statistics of the whole
    image, which a histogram of integers gives exactly. See `segpipe.nets.normalise`.
    """

    method: Literal["range", "zscore", "percentiles"] = "percentiles"
    """`range`: `low` and `high` are values; `zscore`: `low` is a mean, `high` the mean plus one
    standard deviation, of the training images; `percentiles`: they are percentages, of the values
    of each channel of the whole image."""
    low: tuple[float, ...] = (1.0,)
    """One number, or one per channel."""
    high: tuple[float, ...] = (99.8,)
    """One number, or one per channel."""
    clip: tuple[float, float] | None = (-1.0, 4.0)
    """Inputs are kept within."""

    @model_validator(mode="after")
    def _in_order(self) -> Normalisation:
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError("low and high need the same number of values, one or one per channel")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.method == "percentiles" and not all(
            0 <= value <= 100 for value in (*self.low, *self.high)
        ):
            raise ValueError(f"percentages are 0 to 100, got {self.low} and {self.high}")
        return self


class Grouping(Keys):
    """How outputs become objects; see `segpipe.nets.grouping.group_instances`."""

    foreground: Share = 0.5
    """Pixels belong to an object from this probability of not being background."""
    marker: Share = 0.5
    """Objects are left out whose deepest pixel is less deep than this. The depth is the distance
    if the network gives it, else the probability of the interior."""
    dynamics: Share = 0.3
    """Two peaks of depth are two objects if both rise so much above the saddle between them."""
    border: Share = 0.5
    """Share of the probability of a border that is taken off the depth."""
    min_size: int = Field(default=1, ge=1)
    """Smaller objects (px) are left out."""


class Training(Keys):
    """Where the weights come from."""

    data: str = ""
    """Name, source and licence of the images."""
    images: dict[str, int] = Field(default_factory=dict)
    """Number of images of each part of the data."""
    split: str = ""
    """How images were assigned to parts."""
    seed: int = 0
    """Of weights, order and augmentation."""
    steps: int = 0
    """Steps of the optimiser up to these weights."""
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Scores by part of the data."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """The configuration of the training."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of the libraries."""
    notes: str = ""
    """What else is to be known of the training."""


class ModelCard(Keys):
    """All that is known of a model.

    Examples
    --------
    >>> stain = Channel(name="DAPI")
    >>> card = ModelCard(name="cells", classes=("background", "cell"), channels=(stain,))
    >>> card.margin, card.align, card.outputs
    (92, 16, ('background', 'cell'))
    >>> ModelCard.from_json(card.to_json()) == card
    True
    """

    version: Literal[1] = 1
    """Of this format."""
    name: str
    """Short name."""
    description: str = ""
    """What it finds, in which images, and where it fails."""
    licence: str = ""
    """Of the weights."""
    architecture: Architecture = Architecture()
    """Shape of the network."""
    classes: tuple[str, ...]
    """Names of the classes, `background` first."""
    distance: bool = False
    """A last output tells how deep inside its object a pixel lies: 0 at the rim to 1."""
    channels: tuple[Channel, ...]
    """Channels of the image, in order."""
    pixel_size: PixelSize | None = None
    """Of the training images; None: they were of many scales, or nobody knows."""
    normalisation: Normalisation = Normalisation()
    """How values become inputs."""
    grouping: Grouping | None = None
    """How outputs become objects; None: the model finds classes only."""
    training: Training = Training()
    """Where the weights come from."""

    @model_validator(mode="after")
    def _agrees(self) -> ModelCard:
        shape = self.architecture
        if len(self.outputs) != shape.out_channels:
            raise ValueError(
                f"{len(self.outputs)} outputs ({', '.join(self.outputs)}) need a network of as many"
                f" out_channels, got {shape.out_channels}"
            )
        if len(set(self.outputs)) < len(self.outputs):
            raise ValueError(f"two outputs have one name: {', '.join(self.outputs)}")
        if len(self.channels) != shape.in_channels:
            raise ValueError(
                f"{len(self.channels)} channels are described, the network has"
                f" {shape.in_channels} in_channels"
            )
        if len(self.normalisation.low) not in (1, shape.in_channels):
            raise ValueError(
                f"normalisation has {len(self.normalisation.low)} values; give one, or one for each"
                f" of the {shape.in_channels} channels"
            )
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return (*self.classes, DISTANCE) if self.distance else self.classes

    @property
    def margin(self) -> int:
        """Pixels that a `valid` network loses on every side."""
        return self.architecture.margin

    @property
    def align(self) -> int:
        """Windows begin at multiples of it."""
        return self.architecture.align

    def to_json(self, indent: int | None = None) -> str:
        """Return the card as JSON."""
        return self.model_dump_json(indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the model card") -> ModelCard:
        """Read a card.

        Raises
        ------
        InputError
            Not JSON, a key or value that is not allowed, or parts that do not fit together.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"{where} is no JSON: {error}") from error
        return validated(cls, values, where)


def margin(depth: int, upsampling: Upsampling = "transposed") -> int:
    """Return how many pixels a network without padding loses on every side.

    Two 3 x 3 convolutions at each of the depth + 1 levels on the way down and at each of `depth` on
    the way up take ``6 * 2**depth - 4`` pixels on each side; bilinear interpolation one more per
    level, in pixels of that level. `segpipe.nets.unet` builds networks that need just that.

    >>> [margin(depth) for depth in (2, 3, 4, 5)]
    [20, 44, 92, 188]
    """
    interpolation = 2**depth - 1 if upsampling == "bilinear" else 0
    return 6 * 2**depth - 4 + interpolation
