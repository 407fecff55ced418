"""A method that ends its process at images of a certain width, as a decoder does that crashes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from segpipe.methods import find
from segpipe.passes import ImageInfo, Output, Pass, Window


@dataclass(frozen=True)
class Deadly:
    """Another method, that some images kill."""

    method: str
    width: int = -1
    """Images so wide are deadly."""
    pause: float = 0.0
    """Seconds that each image waits."""

    name: ClassVar[str] = "deadly"
    exactness: ClassVar[str] = "exact"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return the passes of the other method, with an end."""
        passes = find(self.method)().passes(image)
        return tuple(replace(p, map=partial(_end, self, p.map)) for p in passes)


def _end(settings: Deadly, work: Any, window: Window, part: Any) -> Output:
    time.sleep(settings.pause)
    if window.grid.shape[1] == settings.width:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(window, part)
