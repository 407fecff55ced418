"""A method whose tiles take their time and fail when told to; its labels are those of the method it hinders."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from segpipe.methods import find
from segpipe.passes import ImageInfo, Output, Pass, Window


@dataclass(frozen=True)
class Hindered:
    """Another method, slow enough to be killed in the middle."""

    method: str
    pause: float = 0.0
    """Seconds that each tile of each pass waits."""
    fail_tile: int = -1
    """Tile whose first pass fails …"""
    failures: int = 0
    """… so many times."""
    notes: str = ""
    """Folder in which the failures are counted, over all processes."""

    name: ClassVar[str] = "hindered"
    exactness: ClassVar[str] = "exact"

    def passes(self, image: ImageInfo) -> tuple[Pass, ...]:
        """Return the passes of the other method, hindered."""
        passes = find(self.method)().passes(image)
        return tuple(replace(p, map=partial(_hinder, self, p.map)) for p in passes)


def _hinder(settings: Hindered, work: Any, window: Window, part: Any) -> Output:
    time.sleep(settings.pause)
    if window.grid.core(settings.fail_tile).start == window.tile.core.start:
        notes = Path(settings.notes)
        tries = len(list(notes.iterdir()))
        if tries < settings.failures:
            (notes / str(tries)).touch()
            raise ValueError("this tile was told to fail")
    return work(window, part)
