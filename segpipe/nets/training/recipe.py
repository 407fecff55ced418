"""The YAML of a training: every key, its meaning and its default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from segpipe import config
from segpipe.nets.card import BORDER, Keys, Normalisation, PixelSize, Share, Upsampling
from segpipe.nets.files import SHIPPED


class Data(Keys):
    """Images, labels, and which part each belongs to."""

    images: str
    """Folder of images (TIFF, PNG, …), or an OME-Zarr image. A relative path starts at the folder
    of this YAML."""
    labels: str
    """Folder of label images of the same names, or the OME-Zarr image of the labels."""
    kind: Literal["instances", "classes"] = "instances"
    """What the labels number: objects, or classes (0 is the first class)."""
    connected: bool = False
    """Of `instances`: the labels are masks, or number several objects alike; objects are the
    connected parts (4-neighbours) of each number but 0."""
    table: str | None = None
    """CSV that chooses images: a column `name` (of the file, without suffix), and if wanted
    `group` (images of a group, say of one slide, go to one part), `part` (train, validation, test)
    and `weight` (how often crops are taken from it, others 1)."""
    validation: Share = 0.1
    """Share of groups kept for choosing: when to stop, and thresholds."""
    test: Share = 0.1
    """Share of groups that nothing is chosen by; scored once, in the end."""
    values: tuple[int, ...] | None = None
    """Of `classes`: the numbers that stand for them in the labels, for example [0, 255], when these
    are not 0, 1, 2, …"""
    grey: bool = False
    """Take the mean of the channels of colour images."""
    colour: bool = False
    """Repeat the channel of grey images, so that they stand among images in red, green, blue."""
    ignore: int | None = None
    """Pixels with this label do not count."""


class Network(Keys):
    """Shape of the network."""

    kind: Literal["unet", "encoder-decoder"] = "unet"
    """`unet`, or `encoder-decoder`: the same without skips."""
    depth: int = Field(default=4, ge=1, le=7)
    """How often the resolution is halved."""
    width: int = Field(default=16, ge=1)
    """Channels at full resolution (the paper: 64)."""
    padding: Literal["valid", "same"] = "same"
    """`valid` as in the paper; `same` learns from whole crops, at a third of the cost."""
    upsampling: Upsampling = "transposed"
    """How the decoder doubles the resolution."""
    norm: Literal["none", "batch"] = "batch"
    """Normalisation after convolutions."""


class Targets(Keys):
    """What the network learns of labels."""

    classes: tuple[str, ...] = ("background", "interior", "border")
    """Names of the classes, background first. Of instances: `background`, `interior` and, if
    wanted, `border`. Without border and `distance` objects are parted by background alone, as
    cells by membranes."""
    distance: bool = False
    """Learn as well how deep inside its object a pixel lies (instances only)."""
    border: int = Field(default=2, ge=1, le=8)
    """Width of the border inside an object (px)."""


class Loss(Keys):
    """What is minimised: cross-entropy per pixel, weighted, and what else is wanted."""

    class_weights: tuple[float, ...] | Literal["balanced", "equal"] = "equal"
    """One number per class; `balanced`: by the inverse square root of their frequency."""
    border_weight: float = Field(default=0.0, ge=0)
    """w0 of the paper's weight map w0 exp(-(d1 + d2)^2 / (2 sigma^2)), d1 and d2 the distances of
    a background pixel to the two nearest objects (paper: 10). 0: no map."""
    border_sigma: float = Field(default=5.0, gt=0)
    """sigma of it (px)."""
    border_inside: bool = False
    """Objects have the map too, so that it counts where they touch without background between."""
    dice: float = Field(default=0.0, ge=0)
    """Weight of 1 - Dice, mean over classes but the first."""
    distance: float = Field(default=1.0, ge=0)
    """Weight of the mean error of the distance, of pixels weighted by the map."""


class Augmentation(Keys):
    """Random changes of crops, drawn anew every time."""

    flip: bool = True
    """Mirror along both axes."""
    rotation: float = Field(default=180.0, ge=0, le=180)
    """Largest angle (degrees)."""
    scale: tuple[float, float] = (0.75, 1.33)
    """Smallest and largest magnification."""
    elastic: float = Field(default=4.0, ge=0)
    """Largest displacement of the elastic deformation (px)."""
    gamma: float = Field(default=1.5, ge=1)
    """Contrast curve: exponents 1/gamma to gamma."""
    brightness: float = Field(default=0.2, ge=0)
    """Largest relative change of gain, and change of offset, of each channel."""
    noise: float = Field(default=0.05, ge=0)
    """Largest standard deviation of added noise (1 = the normalised range)."""
    blur: float = Field(default=1.0, ge=0)
    """Largest standard deviation of a Gaussian blur (px), of half of the crops."""


class Schedule(Keys):
    """How long, how fast, how exactly."""

    crop: int = Field(default=256, ge=16)
    """Edge of a crop (px), as the network's output has it."""
    batch: int = Field(default=8, ge=1)
    """Crops a step (of all processes together)."""
    steps: int = Field(default=20000, ge=1)
    """Most steps; the learning rate falls to zero by half a cosine towards the last."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Largest learning rate (AdamW)."""
    warmup: int = Field(default=200, ge=0)
    """Steps in which it rises to that."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled decay of weights."""
    ema: float = Field(default=0.998, ge=0, lt=1)
    """Weights are averaged over steps with this memory; the average is the model."""
    validate_every: int = Field(default=500, ge=1)
    """Steps between two looks at the validation part; a checkpoint is written at each."""
    patience: int = Field(default=20, ge=1)
    """Looks without a better score after which training stops."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of convolutions in training; `auto`: bfloat16 where the hardware has it (CUDA from Ampere,
    CPUs with AMX or AVX-512 BF16), else float16 on CUDA and float32 on CPUs."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """Threads of a process on the CPU; 0: one per core."""
    seed: int = Field(default=0, ge=0)
    """Of weights, order and augmentation; the split has its own, 0."""


class Recipe(Keys):
    """One training."""

    name: str
    """Short name of the model."""
    description: str = ""
    """What it finds, in which images, and where it fails."""
    licence: str = ""
    """Of the weights."""
    source: str = ""
    """Name, source and licence of the images."""
    output: str
    """Folder of the training (new, or that of the same training to resume). A relative path starts
    at the current directory."""
    data: Data
    channels: tuple[str, ...] = ("intensity",)
    """Names of the channels of the image."""
    initial: str | None = None
    """Model whose weights training begins with (fine-tuning): `nuclei` or `nuclei-rgb`, which come
    along, or a .safetensors file; its network and classes have to be these. With another number of
    channels, these share equally what it learnt of its own. null: random weights. A relative path
    starts at the folder of this YAML."""
    pixel_size: PixelSize | None = None
    """Of the images, if they have one scale."""
    normalisation: Normalisation = Normalisation()
    """How values become inputs."""
    network: Network = Network()
    targets: Targets = Targets()
    loss: Loss = Loss()
    augmentation: Augmentation = Augmentation()
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        instances, targets, loss = self.data.kind == "instances", self.targets, self.loss
        allowed = (("background", "interior"), ("background", "interior", BORDER))
        if instances and targets.classes not in allowed:
            raise ValueError(
                "with data.kind instances, targets.classes are [background, interior, border] or"
                f" [background, interior], got {list(targets.classes)}"
            )
        if not instances and self.data.connected:
            raise ValueError("data.connected needs data.kind instances: classes have no objects")
        if not instances and (targets.distance or loss.border_weight):
            raise ValueError(
                "targets.distance and loss.border_weight need data.kind instances: classes do not"
                " say which pixels are one object"
            )
        if not isinstance(loss.class_weights, str) and len(loss.class_weights) != len(
            targets.classes
        ):
            raise ValueError(
                f"loss.class_weights needs {len(targets.classes)} numbers, one for each of"
                f" {', '.join(targets.classes)}"
            )
        values = self.data.values
        if values is not None and (instances or len(set(values)) != len(targets.classes)):
            raise ValueError(
                "data.values needs data.kind classes, and a different number for each of the"
                f" {len(targets.classes)} targets.classes; got {list(values)}"
            )
        if not 0 <= self.data.validation + self.data.test < 1:
            raise ValueError("data.validation and data.test leave nothing to train on")
        return self


def load(path: str | Path, changes: Sequence[str] = (), output: str | None = None) -> Recipe:
    """Read the YAML of a training; `changes` are ``key.key=value`` that win over it.

    Relative paths start at the folder of the YAML, those of `changes` at the current directory.

    Raises
    ------
    InputError
        The file cannot be read, or a key or value is not allowed.
    """
    values = config.read(path)
    _settle(values, Path(path).parent)
    config.change(values, changes)
    _settle(values, Path.cwd())
    if output is not None:
        values["output"] = output
    return config.validated(Recipe, values, str(path))


def _settle(values: dict[str, Any], folder: Path) -> None:
    """Let relative paths of files start at `folder`, for good."""
    data: Any = values.get("data")
    for key in ("images", "labels", "table") if isinstance(data, dict) else ():
        if isinstance(data.get(key), str):
            data[key] = config.relative(data[key], folder)
    initial = values.get("initial")
    if isinstance(initial, str) and initial not in SHIPPED:
        values["initial"] = config.relative(initial, folder)
