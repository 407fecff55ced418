"""ONNX networks of others: a graph of known operations, and a card beside it that says the rest."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from segpipe.errors import InputError
from segpipe.nets.card import Grouping, Keys, Normalisation, PixelSize
from segpipe.nets.files import ModelFile
from segpipe.nets.windows import BLEND, Frame

if TYPE_CHECKING:
    import onnx


LARGEST = 4 << 30
"""Bytes of weights in an archive, at most."""


class OnnxCard(Keys):
    """What the card beside an ONNX file says: ``cells.json`` beside ``cells.onnx``.

    Examples
    --------
    >>> OnnxCard(channels=("DAPI",), classes=("background", "nucleus"), halo=32, align=8).activation
    'softmax'
    """

    channels: tuple[str, ...]
    """Channels of the image, in order."""
    classes: tuple[str, ...]
    """Names of the classes, `background` first."""
    distance: bool = False
    """A last output tells how deep inside its object a pixel lies: 0 at the rim to 1."""
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    """What turns outputs into probabilities. `sigmoid`: an output for each class but background;
    `none`: they are probabilities already."""
    halo: int = Field(ge=0)
    """Pixels at the rim of a window's output that are not to be used."""
    align: int = Field(default=16, ge=1)
    """Edges of windows are multiples of it: 2 for every time the network halves the resolution."""
    normalisation: Normalisation = Normalisation()
    """How values of the image become inputs."""
    pixel_size: PixelSize | None = None
    """Of the training images."""
    grouping: Grouping | None = None
    """How outputs become objects; without it the model finds classes only."""


def read_onnx(path: str) -> ModelFile:
    """Read an ONNX file and its card.

    Raises
    ------
    InputError
        One of them is missing or damaged, or they do not fit together.
    """
    card = _card(Path(path).with_suffix(".json"))
    content = read_weights(path)
    graph = checked(content, path)
    frame = framed(graph, path, card.halo, card.align)
    flops, values = effort(graph)
    outputs = len(card.classes) - (card.activation == "sigmoid") + card.distance
    fits(graph, path, len(card.channels), outputs)
    return ModelFile(
        path=path,
        format="onnx",
        digest=hashlib.sha256(content).hexdigest(),
        name=Path(path).stem,
        channels=card.channels,
        classes=card.classes,
        frame=frame,
        distance=card.distance,
        activation=card.activation,
        normalisation=card.normalisation,
        pixel_size=card.pixel_size,
        grouping=card.grouping,
        flops=flops,
        values=values,
    )


def read_weights(path: str, member: str | None = None) -> bytes:
    """Return the bytes of a file, or of a file in an archive.

    Raises
    ------
    InputError
        It is missing, damaged or too large.
    """
    try:
        if member is None:
            return Path(path).read_bytes()
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(member).file_size > LARGEST:
                raise InputError(f"{member} in {path} has more than {LARGEST >> 30} GB")
            return archive.read(member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        where = path if member is None else f"{member} in {path}"
        raise InputError(
            f"the weights {where} are missing or damaged; download or export the model again"
        ) from error


def checked(content: bytes, path: str) -> onnx.ModelProto:
    """Return the graph of an ONNX file; nothing outside of it is read.

    Raises
    ------
    InputError
        onnx is not installed, the file is damaged or keeps its weights elsewhere.
    """
    onnx = imported()
    try:
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, checker: each has its own
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} is no intact ONNX file: {first}; export it again") from error
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise InputError(
            f"{path} keeps weights in other files; save it as one file (onnx.save with"
            " save_as_external_data=False)"
        )
    if len(model.graph.input) != 1 or len(model.graph.output) != 1:
        raise InputError(f"{path} needs one input and one output (N, C, H, W), it has others")
    return model


def framed(model: onnx.ModelProto, path: str, halo: int, align: int) -> Frame:
    """Return how windows of the image become windows of the output.

    Nobody vouches for the halo, so windows are blended where they meet.
    """
    fixed = edges(model)
    halo = -(-halo // align) * align
    around = halo + -(-BLEND // align) * align
    if fixed is None or min(fixed) - 2 * around >= 2 * BLEND:
        return Frame(align, around, around, around, fixed, BLEND)
    if min(fixed) - 2 * halo < align:
        raise InputError(
            f"{path} takes windows of {fixed[0]} x {fixed[1]} pixels; of these a halo of {halo} on"
            " each side leaves nothing"
        )
    return Frame(align, halo, halo, halo, fixed)


def edges(model: onnx.ModelProto) -> tuple[int, int] | None:
    """Return the height and width that a network's input is bound to; None if it is free."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    rows, columns = shape[2].dim_value, shape[3].dim_value
    return (rows, columns) if rows and columns else None


def fits(model: onnx.ModelProto, path: str, channels: int, outputs: int) -> None:
    """Refuse a graph whose channels are not those of its card."""
    for what, value, wanted in (
        ("channels of the image", model.graph.input[0], channels),
        ("outputs", model.graph.output[0], outputs),
    ):
        dims = value.type.tensor_type.shape.dim
        found = dims[1].dim_value if len(dims) == 4 else 0
        if len(dims) != 4 or (found and found != wanted):
            given = "x".join(str(d.dim_value or d.dim_param or "?") for d in dims)
            raise InputError(
                f"the description of {path} names {wanted} {what}, the network has {given}"
                " (N x C x H x W)"
            )


def effort(model: onnx.ModelProto) -> tuple[float, float]:
    """Return operations and values in memory per pixel of a window, roughly."""
    onnx = imported()
    edge = edges(model) or (256, 256)
    model = onnx.ModelProto.FromString(model.SerializeToString())
    _bind(model, 1, edge)
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    flops, sizes = 0.0, [1]
    for node in model.graph.node:
        out = shapes.get(node.output[0], [])
        pixels = out[2] * out[3] if len(out) == 4 else 0
        sizes.append(pixels * (out[1] if len(out) == 4 else 0))
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in weights:
            kernel = weights[node.input[1]]
            share = 1 if node.op_type == "Conv" else kernel[2] * kernel[3]
            flops += 2.0 * pixels * kernel[0] * kernel[1] * kernel[2] * kernel[3] / share
    area = edge[0] * edge[1]
    return flops / area, 4.0 * max(sizes) / area


def bound(content: bytes, path: str, batch: int, window: tuple[int, int]) -> bytes:
    """Return a network for one shape of input."""
    model = checked(content, path)
    _bind(model, batch, window)
    return bytes(model.SerializeToString())


def _bind(model: onnx.ModelProto, batch: int, window: tuple[int, int]) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for axis, n in ((0, batch), (2, window[0]), (3, window[1])):
        dims[axis].dim_value = n
    out = model.graph.output[0].type.tensor_type.shape.dim
    for axis in (0, 2, 3):
        if axis < len(out):
            out[axis].Clear()
    del model.graph.value_info[:]


def imported() -> Any:
    """Return the library onnx, or say how to get it."""
    try:
        import onnx
        import onnx.checker
        import onnx.shape_inference
    except ImportError as error:
        raise InputError("ONNX needs `pip install 'segpipe[nets]'`") from error
    return onnx


def _card(path: Path) -> OnnxCard:
    try:
        return OnnxCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(
            f"an ONNX file says nothing of classes and channels; describe them in {path}: "
            '{"channels": ["DAPI"], "classes": ["background", "nucleus"], "halo": 32}'
        ) from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InputError(f"{path} cannot be used: {'; '.join(lines)}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
