"""What the browser shows: layers, their scale, their colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import neuroglancer

from segpipe.report.display import Range, open_display
from segpipe.store import IMAGE
from segpipe.store.arrays import open_array
from segpipe.store.folder import Folder
from segpipe.store.ome import level_shapes

PANEL = (700, 1200)
"""Rows and columns of a usual browser window, to which the image is fitted at first."""
OPACITY = 0.25
"""Of the labels: segments can be told apart and the image shows through."""
PROBABILITY = """#uicontrol int channel slider(min=0, max={last}, default={first})
void main() {{
  float p = toNormalized(getDataValue(channel));
  emitRGBA(vec4(colormapJet(p), p));
}}
"""
"""Program that shows one channel of probabilities (bytes, or 0 to 1), clear where it is 0."""
BACKGROUND = "background"
"""Class that lies first where channels have no names."""
SI_PREFIXES = {
    "": 1.0, "kilo": 1e3, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12
}  # fmt: skip
METRES = {
    f"{prefix}{name}": factor
    for prefix, factor in SI_PREFIXES.items()
    for name in ("meter", "metre")
} | {"angstrom": 1e-10, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.34}
"""Units of length -> metres; the client knows the same ones, and refuses any other."""


@dataclass(frozen=True)
class Layers:
    """What lies in the image of a run besides its pixels."""

    labels: tuple[str, ...]
    """Label images: those of the run's stages first, then others that were put beside them."""
    measured: tuple[str, ...]
    """Label images that have a table of segments."""
    maps: tuple[str, ...]
    """Probabilities and filtered images, each an OME-Zarr image of its own: ``probability/NAME/``,
    ``filtered/NAME/``."""


def found_layers(image: Folder, state: Mapping[str, Any]) -> Layers:
    """Look up what there is: stages, other label images (``truth``, say), other images."""
    listed = (image.get_json("labels/zarr.json") or {}).get("attributes", {}).get("ome", {})
    stages = list(state["labels"])
    others = [name for name in listed.get("labels", ()) if name not in stages]
    groups = [
        f"{path.strip('/')}/"
        for kind in ("filtered", "probability")
        for path in sorted(image.objects().list_with_delimiter(kind)["common_prefixes"])
    ]
    return Layers((*stages, *others), tuple(stages), tuple(groups))


def compose(
    scene: neuroglancer.ViewerState,
    url: str,
    folder: Folder,
    state: Mapping[str, Any],
    layers: Layers,
) -> None:
    """Put image and labels on the scene, with the whole image in sight."""
    source = state["source"]
    height, width = source["shape"]
    (y, x), unit = _voxel(source)
    scene.title = f"{PurePosixPath(source['source']).name} · segpipe"
    scene.dimensions = _space(x=(x, unit), y=(y, unit))
    scene.position = [width / 2, height / 2]
    scene.cross_section_scale = max(height / PANEL[0], width / PANEL[1])
    scene.layout = "xy"
    scene.show_axis_lines = scene.show_default_annotations = False
    # ^ makes the channel an axis that the shader reads, all values of a pixel at once
    transform = neuroglancer.CoordinateSpaceTransform(
        output_dimensions=_space(**{"c^": (1.0, ""), "y": (y, unit), "x": (x, unit)})
    )
    pixels = neuroglancer.LayerDataSource(url=f"{url}|zarr3:", transform=transform)
    ranges = open_display(folder, state).ranges
    scene.layers["image"] = neuroglancer.ImageLayer(
        source=pixels, shader=_shader(ranges, source), opacity=1.0
    )
    for group in layers.maps:
        scene.layers.append(
            name=group.strip("/"),
            layer=neuroglancer.ImageLayer(
                source=neuroglancer.LayerDataSource(
                    url=f"{url}{group}|zarr3:", transform=transform
                ),
                shader=_map_shader(folder / IMAGE, group, ranges, source),
                opacity=0.6 if group.startswith("probability/") else 1.0,
            ),
            visible=False,
        )
    for i, name in enumerate(layers.labels):
        sources = [f"{url}labels/{name}/|zarr3:"]
        if name in layers.measured:
            sources.append(f"{url}properties/{name}/|neuroglancer-precomputed:")
        layer = neuroglancer.SegmentationLayer(source=sources, selected_alpha=OPACITY)
        if name in layers.measured:
            layer.segment_query = "|area"  # the list of segments begins with this column
        # label images on top of each other can only be looked at one by one
        scene.layers.append(name=name, layer=layer, visible=i == 0)


def _map_shader(
    image: Folder, group: str, ranges: tuple[Range, ...], source: Mapping[str, Any]
) -> str:
    """Return the program that shows probabilities, or a filtered image as the image is shown.

    One of other features is stretched between its extremes; of more than three, the first is seen.
    """
    if group.startswith("probability/"):
        last = open_array(image, f"{group}0").shape[0] - 1
        return PROBABILITY.format(last=last, first=_foreground(image, group, last))
    coarsest = open_array(image, f"{group}{len(level_shapes(source['shape'])) - 1}")
    kind = coarsest.shape[0], str(coarsest.dtype)
    if kind == (source["channels"], source["dtype"]):
        return _shader(ranges, source)
    seen = coarsest[: 3 if kind[0] == 3 else 1]
    found = tuple((float(plane.min()), float(plane.max())) for plane in seen)
    return _shader(found, {"rgb": False, "dtype": kind[1]})


def _foreground(image: Folder, group: str, last: int) -> int:
    """Return the first channel of probabilities that is not that of the background."""
    ome = (image.get_json(f"{group}zarr.json") or {}).get("attributes", {}).get("ome", {})
    named = [channel.get("label", "") for channel in ome.get("omero", {}).get("channels", ())]
    names = named or [BACKGROUND]
    return min(last, next((i for i, n in enumerate(names) if n != BACKGROUND), len(names)))


def _space(**axes: tuple[float, str]) -> neuroglancer.CoordinateSpace:
    """Return axes by name, each with the size of a pixel and its unit."""
    scales, units = zip(*axes.values(), strict=True)
    return neuroglancer.CoordinateSpace(names=list(axes), scales=scales, units=units)


def _voxel(source: Mapping[str, Any]) -> tuple[tuple[float, float], str]:
    """Return the (y, x) size of a pixel and its unit: metres, or none that the client knows."""
    y, x = source["pixel_size"] or (1.0, 1.0)
    factor = METRES.get(source["pixel_unit"] or "")
    return ((y, x), "") if factor is None else ((y * factor, x * factor), "m")


def _shader(ranges: tuple[Range, ...], source: Mapping[str, Any]) -> str:
    """Return the program that turns channels into a colour, with a contrast control for each."""
    if source["rgb"] and source["dtype"] == "uint8":
        values = ", ".join(f"toNormalized(getDataValue({i}))" for i in range(3))
        return f"void main() {{ emitRGB(vec3({values})); }}\n"
    number: Callable[[float], Any] = float if source["dtype"] == "float32" else round
    lines = [
        f"#uicontrol invlerp contrast{i}(range=[{number(low)}, {number(high)}], channel=[{i}])"
        for i, (low, high) in enumerate(ranges)
    ]
    values = ", ".join(f"contrast{i}()" for i in range(len(ranges)))
    emit = f"emitRGB(vec3({values}))" if len(ranges) == 3 else f"emitGrayscale({values})"
    return "\n".join([*lines, f"void main() {{ {emit}; }}", ""])
