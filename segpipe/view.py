"""`segpipe view`: image and labels of a finished run in the browser, with neuroglancer.

The browser itself asks for the chunks that it shows, at the pyramid level it needs, and decodes
them. So this process hands out bytes and nothing else, and a gigapixel image opens as fast as a
small one. Everything comes from one local server, the client included (it is part of the
neuroglancer wheel): no other host is ever asked. Addresses hold a random token, so nobody else on
this machine can guess them. Through an SSH tunnel, forward the same port:
``ssh -L 9000:127.0.0.1:9000 host``.
"""

from __future__ import annotations

import ipaddress
import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import neuroglancer
import neuroglancer.server
import tornado.web
from neuroglancer.random_token import make_random_token

from segpipe.errors import InputError
from segpipe.report.display import Range, open_display
from segpipe.store import IMAGE
from segpipe.store.folder import Folder

LOOPBACK = "127.0.0.1"
PANEL = (700, 1200)
"""Rows and columns of a usual browser window, to which the image is fitted at first."""
OPACITY = 0.25
"""Of the labels: segments can be told apart and the image shows through."""
SI_PREFIXES = {
    "": 1.0, "kilo": 1e3, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6, "nano": 1e-9, "pico": 1e-12
}  # fmt: skip
METRES = {
    f"{prefix}{name}": factor
    for prefix, factor in SI_PREFIXES.items()
    for name in ("meter", "metre")
} | {"angstrom": 1e-10, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.34}
"""Units of length -> metres; the client knows the same ones, and refuses any other."""


def serve(
    run: str, *, port: int = 0, bind: str = LOOPBACK, say: Callable[[str], None] = print
) -> None:
    """Show a finished run in the browser until Ctrl-C.

    Parameters
    ----------
    run
        Folder of the run, or its URL.
    port
        Port to listen on; 0 = any free one.
    bind
        Address to listen on; anything but loopback lets other machines in.
    say
        Is told the address to open.

    Raises
    ------
    InputError
        There is no finished run in `run`, or the port cannot be had.
    """
    viewer = open_viewer(run, port=port, bind=bind)
    say(f"open  {viewer.get_viewer_url()}")
    if not _is_loopback(bind):
        say("whoever knows this address and reaches this machine can see the image")
    say("Ctrl-C ends it")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        neuroglancer.stop()


def open_viewer(run: str, *, port: int = 0, bind: str = LOOPBACK) -> neuroglancer.Viewer:
    """Serve a finished run in the background; `get_viewer_url` of what is returned says where.

    The run is served as long as the process lives, or until ``neuroglancer.stop()``. One process
    has one server: `port` and `bind` count for the first run that is opened.
    """
    folder = Folder(run)
    state = _finished(folder)
    neuroglancer.set_server_bind_address(bind, port)
    try:
        viewer = neuroglancer.Viewer()
    except OSError as error:
        raise InputError(
            f"cannot listen on {bind}, port {port}: {error.strerror}; choose another --port "
            f"(0 = any free one) or --bind"
        ) from error
    url = _hand_out(folder / IMAGE, list(state["labels"]))
    with viewer.txn() as scene:
        _compose(scene, url, folder, state)
    return viewer


def _finished(folder: Folder) -> dict[str, Any]:
    state = folder.get_json("run.json")
    if state is None:
        raise InputError(f"there is no run in {folder} (no run.json)")
    if state["state"] != "complete":
        raise InputError(
            f"the run in {folder} is not complete; go on with `segpipe resume {folder}`"
        )
    return dict(state)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _hand_out(image: Folder, stages: list[str]) -> str:
    """Let the server hand out an OME-Zarr image; return its address."""
    groups = ["zarr.json", *(f"labels/{stage}/zarr.json" for stage in stages)]
    known = {name: _client_metadata(image.get_json(name)) for name in groups}
    server, token = neuroglancer.server.global_server, make_random_token()
    options = {"store": image.objects(), "known": known}
    icon = {"store": None, "known": {"favicon.ico": b""}}  # browsers ask for it, and log a miss
    rules = [(rf"/data/{token}/(.+)", _Chunks, options), (r"/(favicon\.ico)", _Chunks, icon)]
    server.app.add_handlers(".*", rules)
    return f"{server.server_url}/data/{token}/"


def _client_metadata(group: dict[str, Any]) -> bytes:
    """Return a group's metadata without units that the client would refuse."""
    for image in group["attributes"]["ome"]["multiscales"]:
        for axis in image["axes"]:
            unit = axis.pop("unit", None)
            if unit in METRES:
                axis["unit"] = unit.replace("metre", "meter")
    return json.dumps(group).encode()


class _Chunks(tornado.web.RequestHandler):
    """Objects of one folder, whole or a range of bytes (a chunk inside a shard)."""

    def initialize(self, store: Any, known: Mapping[str, bytes]) -> None:
        self.store, self.known = store, known

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("X-Content-Type-Options", "nosniff")

    def compute_etag(self) -> None:
        """Return no ETag: hashing every chunk would be the dearest part of handing it out."""

    async def head(self, name: str) -> None:
        """Tell the size of object `name`."""
        try:
            size = (await self.store.head_async(name))["size"]
        except (FileNotFoundError, ValueError) as error:
            raise tornado.web.HTTPError(404) from error
        self.set_header("Content-Length", str(size))
        self.finish()

    async def get(self, name: str) -> None:
        """Send object `name`."""
        if name in self.known:
            self.finish(self.known[name])
            return
        wanted = _byte_range(self.request.headers.get("Range", ""))
        try:
            found = await self.store.get_async(name, options={"range": wanted} if wanted else {})
        except (FileNotFoundError, ValueError) as error:  # ValueError: a path that leads outside
            raise tornado.web.HTTPError(404) from error
        if wanted:
            self.set_status(206)
            start, stop = found.range
            self.set_header("Content-Range", f"bytes {start}-{stop - 1}/{found.meta['size']}")
        self.finish(bytes(await found.bytes_async()))


def _byte_range(header: str) -> tuple[int, int] | dict[str, int] | None:
    """Return a Range header as the object store wants it.

    >>> _byte_range("bytes=2-5"), _byte_range("bytes=7-"), _byte_range("bytes=-4")
    ((2, 6), {'offset': 7}, {'suffix': 4})
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return {"suffix": int(last)}
    return (int(first), int(last) + 1) if last else {"offset": int(first)}


def _compose(
    scene: neuroglancer.ViewerState, url: str, folder: Folder, state: Mapping[str, Any]
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
    for i, stage in enumerate(state["labels"]):
        layer = neuroglancer.SegmentationLayer(
            source=f"{url}labels/{stage}/|zarr3:", selected_alpha=OPACITY
        )
        # label images on top of each other can only be looked at one by one
        scene.layers.append(name=stage, layer=layer, visible=i == 0)


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
