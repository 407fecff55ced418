"""Networks: classes or objects by a U-Net, the same for every tiling.

What is computed together is a window of a fixed shape on a grid that the image alone decides
(`segpipe.nets.windows`); what follows is arithmetic on bytes. So labels do not depend on tiles,
workers or order, as long as one library computes the network in one precision on processors with
the same instructions; a run notes which, and refuses to mix them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from segpipe.errors import InputError
from segpipe.methods.instances import Rule, instance_passes
from segpipe.methods.instances_kernels import LEVELS
from segpipe.methods.unet_passes import (
    class_passes,
    network_pass,
    sees_luminance,
    statistics_pass,
)
from segpipe.methods.whole import segment
from segpipe.nets import statistics
from segpipe.nets.card import Grouping
from segpipe.nets.files import ModelFile, check_pixel_size, open_model
from segpipe.nets.grouping import object_planes, rule_of
from segpipe.passes import ImageInfo, Pass
from segpipe.regions.finish import Votes, label_pass


@dataclass(frozen=True)
class UNet:
    """Classes or objects by a network (U-Net and others) that was trained on images like this."""

    model: str = "nuclei"
    """`nuclei`, `nuclei-rgb` or `vessels` (come with segpipe), or a file: .safetensors (`segpipe
    train`), .onnx with a card beside it, a bioimage.io package (rdf.yaml, .zip). In a
    configuration, a relative path starts at the folder of the YAML."""
    output: Literal["auto", "classes", "instances"] = "auto"
    """classes: segments are the connected parts of each class, background is 0; instances: segments
    are objects; auto: objects if the model finds them."""
    channels: tuple[int, ...] | None = None
    """Channels of the image that the model sees, counted from 0; null: all of them. A model of one
    channel sees the luminance of RGB."""
    foreground: float | None = None
    """instances: pixels belong to an object from this probability of not being background, 0 to 1;
    null: what the model's card says."""
    marker: float | None = None
    """instances: objects are left out that are nowhere as deep as this, 0 to 1. The depth is the
    distance to the rim if the model gives it, else the probability of the interior; null: what the
    card says."""
    dynamics: float | None = None
    """instances: two peaks of depth are two objects if both rise so much above the saddle between
    them, 0 to 1; lower ones part more; null: what the card says."""
    min_size: int | None = None
    """Smaller objects, or connected parts of classes, are left out (pixels; the map of classes has
    them still); null: objects as the card says, no parts."""
    min_score: float = 0.0
    """instances: objects are left out whose pixels have less than this probability of their class,
    on average, 0 to 1."""
    probabilities: Literal["uint8", "float16", "none"] = "uint8"
    """How probabilities are kept beside the labels (`probability/…`): in 255ths, as shares of 1, or
    not at all."""
    window: int | None = None
    """Edge in pixels of what the network computes at once, margin included, 64 to 8192; null: 1728,
    or more if the margin is wide. It decides the last bits of probabilities."""
    backend: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto"
    """Library that computes the network; auto: the fastest one that is installed."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 is about twice as fast where the processor has it, with 3 digits; auto: the fastest."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if there is one."""
    batch: int | None = None
    """Windows computed together, 1 to 256; null: 1 on a CPU, on a GPU what its memory holds."""

    name: ClassVar[str] = "unet"
    exactness: ClassVar[Literal["exact", "certified", "measured"]] = "exact"
    partial: ClassVar[bool] = True
    """Pixels stay unlabelled: the background."""
    compiles: ClassVar[tuple[str, ...]] = ("segpipe.methods.instances",)
    """Modules with kernels that do not stand beside this one."""

    def __post_init__(self) -> None:
        for field, low, high, advice in (
            ("foreground", 0.0, 1.0, "0.5 is the middle"),
            ("marker", 0.0, 1.0, "0 keeps all objects"),
            ("dynamics", 0.0, 1.0, "lower ones part more"),
            ("min_score", 0.0, 1.0, "0 keeps all objects"),
            ("min_size", 1, 1 << 40, "1 keeps all objects"),
            ("window", 64, 8192, "512 to 1728 are common"),
            ("batch", 1, 256, "leave it out unless memory is short"),
        ):
            value = getattr(self, field)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{field} must be {low} to {high}, got {value}; {advice}")

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return what to do: statistics if needed, the network, regions, canonical labels."""
        file = open_model(self.model)
        self._check(file, image)
        layout = file.frame.layout(image.shape, self.window)
        levels = statistics.fixed_levels(file)
        before = () if levels else (statistics_pass(self, file, image),)
        network = network_pass(self, file, layout, levels, image)
        objects = self._finds_objects(file)
        # of objects, borders between them have no say
        classes = object_planes(file.classes) if objects else tuple(range(1, len(file.classes)))
        votes = Votes("fields", classes, classes)
        steps = instance_passes(self._rule(file)) if objects else class_passes(self.min_size or 1)
        return (*before, network, *steps, label_pass(image, votes=votes))

    def _finds_objects(self, file: ModelFile) -> bool:
        if self.output == "auto":
            return file.grouping is not None
        return self.output == "instances"

    def _rule(self, file: ModelFile) -> Rule:
        """Return how fields become objects: by the model's card, unless parameters say else."""
        names = ("foreground", "marker", "dynamics", "min_size")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        card = (file.grouping or Grouping()).model_copy(update=given)
        rule = rule_of(card, file.classes, file.distance)
        return replace(rule, min_score=round(LEVELS * self.min_score))

    def _check(self, file: ModelFile, image: ImageInfo) -> None:
        """Refuse what the model cannot do on this image."""
        if self.output == "instances" and file.grouping is None:
            raise InputError(
                f"the model {file.name} finds classes ({', '.join(file.classes)}), no objects;"
                " choose output: classes"
            )
        for channel in self.channels or ():
            if not 0 <= channel < image.channels:
                raise InputError(
                    f"channels must be 0 to {image.channels - 1}, got {channel}: the image has"
                    f" {image.channels}"
                )
        given, needed = len(self.channels or range(image.channels)), len(file.channels)
        if given != needed and not sees_luminance(self, file, image):
            names = f"{needed} channel{'s' if needed > 1 else ''} ({', '.join(file.channels)})"
            raise InputError(
                f"the model {file.name} needs {names}, got {given}; {_enough(needed, image)}"
            )
        check_pixel_size(file, image.pixel_size, image.pixel_unit)


def _enough(needed: int, image: ImageInfo) -> str:
    """Say how a model gets the number of channels that it needs."""
    if needed <= image.channels:
        return f"name {needed} of the image's {image.channels}: channels: {list(range(needed))}"
    return (
        f"give an image that has them; channels: {[0] * needed} repeats the first one of this"
        " image, for models that have learned from grey images shown in colour"
    )


def unet(
    image: np.ndarray,
    model: str = "nuclei",
    *,
    output: Literal["auto", "classes", "instances"] = "auto",
    mask: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Segment an image by a trained network.

    Parameters
    ----------
    image
        (H, W) or (H, W, C): integers of up to 16 bits or floats. Pixels with NaN or infinity count
        as masked.
    model, output
        See `UNet`.
    mask
        (H, W) bool, True where there are pixels to segment; None: everywhere.
    **options
        The other parameters of `UNet`.

    Returns
    -------
    labels
        (H, W) uint32: 1..N in raster order of each segment's first pixel; 0 where masked and where
        there is background.

    Raises
    ------
    ValueError
        If a parameter, the image or the mask is out of its range, or the model does not fit it.

    Notes
    -----
    *Tiling*: identical for every tiling, given one library, precision, batch and kind of processor:
    windows of the network lie on a grid of the whole image, their values become bytes, and the rest
    is integer arithmetic (`segpipe.methods.instances`). Models that come with a margin derived from
    their architecture give each pixel what a single window over the whole image would, to rounding;
    of others' models windows are blended, in integers, and may show where their halo is too small.
    Cost: that of the network, see ``tests/bench/bench_unet.py``; memory of a window, not the image.
    For probabilities: ``segpipe.nets.load_model(model).predict(image)``.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, U-Net: convolutional networks for biomedical image
    segmentation, MICCAI 2015, 10.1007/978-3-319-24574-4_28.
    """
    parameters = UNet(model, output, **options)
    return segment(parameters.passes, image, mask)
