"""Models in files: what inference has to know of them, read without their weights.

Three formats: our safetensors with a card (`segpipe.nets.weights`), ONNX with a card beside it
(`segpipe.nets.onnx_file`), and packages of bioimage.io (`segpipe.nets.bioimage`). None of them
holds a program: pickles and TorchScript archives are refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from segpipe.errors import InputError
from segpipe.explain import nearest
from segpipe.nets.card import DISTANCE, Grouping, Normalisation, PixelSize
from segpipe.nets.windows import Frame

Activation = Literal["softmax", "sigmoid", "none"]
SHIPPED = {
    "nuclei": "nuclei.safetensors",
    "nuclei-rgb": "nuclei-rgb.safetensors",
    "vessels": "vessels.onnx",
}
"""Models that come with the package, and their files in `models/`."""
OTHERS = (
    "give a file (.safetensors, .onnx, a bioimage.io rdf.yaml or .zip), train one (segpipe train),"
    f" or name one that comes with segpipe: {', '.join(SHIPPED)}"
)
"""What to do where there is no model of a name."""
UNITS = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
"""Micrometres."""
PROGRAMS = (".pt", ".pth", ".ckpt", ".torch", ".pkl", ".pickle")
"""Endings of files that can hold programs."""


@dataclass(frozen=True)
class ModelFile:
    """A model in a file: everything but its weights."""

    path: str
    """File of the weights: safetensors or ONNX."""
    format: Literal["safetensors", "onnx"]
    digest: str
    """SHA-256 of the weights."""
    name: str
    channels: tuple[str, ...]
    """Names of the image's channels."""
    classes: tuple[str, ...]
    """Names of the classes, background first."""
    frame: Frame
    """How windows of the image become windows of the output."""
    member: str | None = None
    """Name of the weights inside `path`, if that is an archive."""
    distance: bool = False
    """A last output tells how deep inside its object a pixel lies."""
    activation: Activation = "softmax"
    """What turns outputs into probabilities. `sigmoid`: background is what no class claims."""
    normalisation: Normalisation = field(default_factory=Normalisation)
    standardise: float | None = None
    """Mean 0 and deviation 1 (plus this) by the image itself, in place of `normalisation`."""
    pixel_size: PixelSize | None = None
    grouping: Grouping | None = None
    flops: float = 0.0
    """Operations per pixel of a window."""
    values: float = 0.0
    """Values in memory per pixel of a window, while it is computed."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the probabilities, the distance last."""
        return (*self.classes, DISTANCE) if self.distance else self.classes

    @property
    def identity(self) -> str:
        """SHA-256 of all that decides results: weights, and what is said of them beside them."""
        return hashlib.sha256(repr(replace(self, path="", member=None)).encode()).hexdigest()


def open_model(path: str | Path) -> ModelFile:
    """Read what a model is; `nuclei`, `nuclei-rgb`, `vessels` come along.

    Parameters
    ----------
    path
        Name of a model that comes with the package; or a file, ``.safetensors``, ``.onnx``, a
        bioimage.io description (``.yaml``) or package (``.zip``); or the folder of one.

    Raises
    ------
    InputError
        There is no such file, it is of another kind, damaged, or could hold a program.
    """
    place = located(path)
    card = place.with_suffix(".json")
    stats = [file.stat() for file in (place, card) if file.is_file()]
    return _opened(str(place), tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


def located(path: str | Path) -> Path:
    """Return the file that a name stands for."""
    if str(path) in SHIPPED:
        return Path(__file__).parent / "models" / SHIPPED[str(path)]
    place = Path(path)
    if place.suffix.lower() in PROGRAMS:
        raise InputError(
            f"{path}: files of this kind can hold programs (pickles, TorchScript) and are not"
            " read; export the model to ONNX, or save its weights as safetensors"
        )
    if place.is_dir():
        found = [place / name for name in ("rdf.yaml", "bioimageio.yaml")]
        found = [file for file in found if file.is_file()]
        if not found:
            raise InputError(f"the folder {path} holds no bioimage.io package (no rdf.yaml)")
        place = found[0]
    if not place.is_file():
        raise InputError(f"there is no model {path}; {nearest(path, list(SHIPPED), OTHERS, 0.6)}")
    return place.resolve()


@lru_cache(maxsize=8)
def _opened(path: str, _changed: tuple[tuple[int, int], ...]) -> ModelFile:
    suffix = Path(path).suffix.lower()
    if suffix == ".safetensors":
        return _safetensors(path)
    if suffix == ".onnx":
        from segpipe.nets.onnx_file import read_onnx

        return read_onnx(path)
    if suffix in (".yaml", ".yml", ".zip"):
        from segpipe.nets.bioimage import read_package

        return read_package(path)
    raise InputError(
        f"{path} is no model that segpipe reads; it reads .safetensors, .onnx and bioimage.io"
        " packages (rdf.yaml or .zip)"
    )


def _safetensors(path: str) -> ModelFile:
    from segpipe.nets.weights import load_card

    card = load_card(path)
    shape = card.architecture
    if shape.padding == "same":
        # computed without padding (`weights.load_unpadded`), as far as its cells look
        frame = Frame(shape.align, shape.reach, shape.reach, cut=shape.reach - shape.margin)
    else:
        # an unpadded network needs 4 less than a multiple of its step, see `unet.input_size`
        frame = Frame(shape.align, shape.margin, shape.margin + 4, cut=0)
    return ModelFile(
        path=path,
        format="safetensors",
        digest=file_digest(path),
        name=card.name,
        channels=tuple(channel.name for channel in card.channels),
        classes=card.classes,
        frame=frame,
        distance=card.distance,
        normalisation=card.normalisation,
        pixel_size=card.pixel_size,
        grouping=card.grouping,
        flops=unet_flops(shape.in_channels, shape.out_channels, shape.depth, shape.width),
        values=6.0 * shape.width,
    )


def unet_flops(inputs: int, outputs: int, depth: int, width: int) -> float:
    """Return the multiplications and additions of a U-Net per pixel of its input.

    >>> round(unet_flops(1, 2, 4, 64) / 1e6, 2)  # the paper's
    1.47
    """
    total = 18.0 * width * (inputs + width) + 2.0 * width * outputs
    for level in range(1, depth + 1):
        w, share = width * 2**level, 4.0**-level
        total += share * 18.0 * w * (w / 2 + w)  # down
        total += 4 * share * 18.0 * (w / 2) * (w + w / 2)  # up, at twice the resolution
        total += 4 * share * 2.0 * w * (w / 2)
    return total


def check_pixel_size(file: ModelFile, size: tuple[float, float] | None, unit: str | None) -> None:
    """Refuse an image whose pixels are much larger or smaller than those trained on."""
    own = file.pixel_size
    if own is None or size is None or unit not in UNITS or own.unit not in UNITS:
        return
    here, there = max(size) * UNITS[unit], own.value * UNITS[own.unit]
    if not 1 / own.tolerance <= here / there <= own.tolerance:
        raise InputError(
            f"the model {file.name} was trained on pixels of {own.value:g} {own.unit}, those of the"
            f" image have {max(size):g} {unit}: objects would be {there / here:.2g} times the size"
            f" it knows (up to {own.tolerance:g} times is allowed); resample the image, or correct"
            " its pixel size"
        )


def file_digest(path: str) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
