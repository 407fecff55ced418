"""What the local server hands out: the bytes of one image, and what the client wants to know."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import neuroglancer.server
import tornado.web
from neuroglancer.random_token import make_random_token

from segpipe.store import IMAGE, table_name
from segpipe.store.folder import Folder
from segpipe.view.properties import segment_properties
from segpipe.view.scene import METRES, Layers

Known = bytes | Callable[[], bytes]
"""An answer, or how to make it when it is asked for."""


def hand_out(folder: Folder, state: Mapping[str, Any], layers: Layers) -> str:
    """Let the server hand out the OME-Zarr image of a run; return its address."""
    image, known = folder / IMAGE, dict[str, Known]()
    for group in ["", *(f"labels/{n}/" for n in layers.labels), *layers.maps]:
        name = f"{group.rstrip('/')}/zarr.json".lstrip("/")
        known[name] = _client_metadata(image.get_json(name))
    for stage in layers.measured:
        table = table_name("segments", stage, alone=len(state["labels"]) == 1)
        # made once, when the browser asks: a large table takes a second
        known[f"properties/{stage}/info"] = cache(
            partial(segment_properties, folder, table, bool(state["source"]["rgb"]))
        )
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

    def initialize(self, store: Any, known: Mapping[str, Known]) -> None:
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
            answer = self.known[name]
            self.finish(answer() if callable(answer) else answer)
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
