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
import threading
from collections.abc import Callable, Sequence
from typing import Any

import neuroglancer

from segpipe.errors import InputError
from segpipe.readers import SourceInfo
from segpipe.state import complete_state
from segpipe.store import IMAGE
from segpipe.store.folder import Folder
from segpipe.view.handout import hand_out
from segpipe.view.scene import compose, found_layers
from segpipe.view.truth import add_truth

LOOPBACK = "127.0.0.1"


def serve(
    run: str,
    *,
    truth: Sequence[str] = (),
    port: int = 0,
    bind: str = LOOPBACK,
    say: Callable[[str], None] = print,
) -> None:
    """Show a finished run in the browser until Ctrl-C.

    Parameters
    ----------
    run
        Folder of the run, or its URL.
    truth
        Files of ground truth (see `open_labels`) to put over the image, hidden at first.
    port
        Port to listen on; 0 = any free one.
    bind
        Address to listen on; anything but loopback lets other machines in.
    say
        Is told the address to open, and which layers are there besides those that are shown.

    Raises
    ------
    InputError
        There is no finished run in `run`, the truth does not fit, or the port cannot be had.
    """
    viewer = open_viewer(run, truth=truth, port=port, bind=bind)
    say(f"open  {viewer.get_viewer_url()}")
    if hidden := _hidden(viewer):
        say(f"hidden at first: {hidden}; the key of its number shows or hides a layer")
    if not _is_loopback(bind):
        say("whoever knows this address and reaches this machine can see the image")
    try:
        say("Ctrl-C ends it")
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        neuroglancer.stop()


def open_viewer(
    run: str, *, truth: Sequence[str] = (), port: int = 0, bind: str = LOOPBACK
) -> neuroglancer.Viewer:
    """Serve a finished run in the background; `get_viewer_url` of what is returned says where.

    The run is served as long as the process lives, or until ``neuroglancer.stop()``. One process
    has one server: `port` and `bind` count for the first run that is opened.
    """
    folder = Folder(run)
    state = complete_state(run, folder)
    neuroglancer.set_server_bind_address(bind, port)
    try:
        viewer = neuroglancer.Viewer()
    except OSError as error:
        raise InputError(
            f"cannot listen on {bind}, port {port}: {error.strerror}; choose another --port "
            f"(0 = any free one) or --bind"
        ) from error
    layers = found_layers(folder / IMAGE, state)
    url = hand_out(folder, state, layers)
    with viewer.txn() as scene:
        compose(scene, url, folder, state, layers)
        add_truth(scene, truth, _image(state))
    return viewer


def _hidden(viewer: neuroglancer.Viewer) -> str:
    """Name the layers that are not shown when the page opens."""
    layers = enumerate(viewer.state.layers, 1)
    return ", ".join(f"{number} {layer.name}" for number, layer in layers if not layer.visible)


def _image(state: dict[str, Any]) -> SourceInfo:
    """Return what is known of the image that was segmented."""
    source = state["source"]
    height, width = source["shape"][:2]
    place = {key: source[key] for key in ("crs", "transform") if source.get(key) is not None}
    return SourceInfo(
        shape=(height, width),
        channels=source["channels"],
        dtype=source["dtype"],
        access="tiles",
        native=(1, 1),
        source=source["source"],
        fingerprint="",
        **place,
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
