"""What a run shows in Prefect: a log, a progress bar, and in the end tables and a picture."""

from __future__ import annotations

import base64
import socket
import time
from logging import Logger, LoggerAdapter
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from segpipe.run import Run
from segpipe.session import pages
from segpipe.store.folder import Folder

LOG_SECONDS, BAR_SECONDS = 10.0, 3.0
"""How often progress is logged and drawn: each costs the server about 20 ms."""
ASIDE_ROWS = 1000
"""Images set aside that are listed in Prefect's database; the table of images has all."""
PICTURE_EDGE = 900
"""Longest edge of the overlay (px); the picture lies in Prefect's database."""


class PrefectProgress:
    """A `Watch` that writes Prefect's log and moves a progress artifact.

    Parameters
    ----------
    total
        Tile tasks of all passes; what comes after them is a small rest.
    logger
        The log of the flow run.
    what
        What is counted.
    """

    def __init__(
        self, total: int, logger: Logger | LoggerAdapter[Any], what: str = "tiles of all passes"
    ) -> None:
        self._total, self._done, self._logger = total, 0, logger
        self._step: tuple[int, int] = (0, 0)
        self._logged = self._drawn = time.monotonic()
        self._bar = create_progress_artifact(0.0, key="progress", description=what)

    def begin(self, step: str, total: int) -> None:
        """Log that a step begins."""
        self._step = (0, total)
        self._logger.info("%s: %d tasks", step, total)

    def advance(self, step: str, done: int) -> None:
        """Log and draw, but not more often than is of use."""
        count, total = self._step
        self._step = (count + done, total)
        self._done += done
        now = time.monotonic()
        if count + done < total and now - self._logged >= LOG_SECONDS:  # else `end` says it
            self._logged = now
            self._logger.info("%s: %d of %d tasks", step, *self._step)
        if now - self._drawn >= BAR_SECONDS:
            self._drawn = now
            self._draw(min(99.0, 100 * self._done / self._total))

    def end(self, step: str) -> None:
        """Log that a step is finished."""
        self._logger.info("%s: %d of %d tasks", step, *self._step)

    def complete(self) -> None:
        """Fill the bar."""
        self._draw(100.0)

    def _draw(self, percent: float) -> None:
        update_progress_artifact(self._bar, progress=percent)  # type: ignore[arg-type]


def link_dashboard(address: str, logger: Logger | LoggerAdapter[Any]) -> None:
    """Link the Dask dashboard, and log where it is: there one sees every tile."""
    logger.info("dashboard %s", pages(address))
    text = "Dask dashboard (while the run is on)"
    create_link_artifact(address, link_text=text, key="dask-dashboard")


def show_summary(folder: str, result: dict[str, str]) -> None:
    """Leave where everything is; who reads it may be anywhere, so with whole paths and the machine.

    Paths, not links: a page from a server may not open files.
    """
    whole = folder if Folder(folder).local is None else str(Folder(folder).local)
    rows = [
        {"what": key, "value": value.replace(folder, whole, 1)} for key, value in result.items()
    ]
    place = "" if Folder(folder).local is None else f" on {socket.gethostname()}"
    create_table_artifact(rows, key="summary", description=f"# {whole}{place}")


def show_collection(folder: str, result: dict[str, str]) -> None:
    """Leave what a collection ended with, and a table of the images that were set aside."""
    from segpipe.collection.session import aside

    show_summary(folder, result)
    reasons = [{"image": name, "reason": why} for name, why in aside(folder, ASIDE_ROWS)]
    if reasons:
        create_table_artifact(reasons, key="set-aside", description="images without labels")


def show_result(run: Run, result: dict[str, str]) -> None:
    """Leave the tables and a picture of each label image."""
    from segpipe.report import overlay_png

    show_summary(str(run.folder), result)
    steps = [
        {
            "step": name,
            "tasks": step["tasks"],
            "reused": step["reused"],
            "seconds": round(step["wall"], 1),
            "peak MB per worker": step["peak_bytes"] // 10**6,
        }
        for name, step in run.state["steps"].items()
    ]
    create_table_artifact(steps, key="steps", description="what each step took")
    for stage in run.state["labels"]:
        picture = base64.b64encode(overlay_png(run.folder, stage, PICTURE_EDGE)).decode()
        key = f"overlay-{stage}".lower().replace("_", "-")
        create_image_artifact(f"data:image/png;base64,{picture}", key=key, description=stage)
