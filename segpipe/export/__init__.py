"""`segpipe export`: the segments of a finished run for GIS, statistics and other programs.

Five formats, told apart by the name of the file: polygons with all columns of the table (`.gpkg`,
`.parquet`, `.geojson`), labels as raster (`.tif`), the table alone (`.csv`). All are streamed from
the run folder in bounded memory, and appear under their name whole or not at all. Polygons are
written when their segment ends: their order is that of the last rows, and of labels among equals.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from segpipe.errors import DiskFull, InputError, RunError
from segpipe.export.layer import Layer, open_layer
from segpipe.store.space import amount, free_bytes, is_full

NO_ROOM = 1 << 20
"""Bytes on a disk that is as good as full: GDAL writes by blocks of up to so many."""


@dataclass(frozen=True)
class Format:
    """How a kind of file is written."""

    title: str
    writer: str
    """``module.function`` of this package."""
    needs: tuple[str, ...] = ()
    """Libraries of the extra `geo`."""


FORMATS = {
    ".gpkg": Format("GeoPackage", "vector.write_geopackage", ("pyogrio",)),
    ".parquet": Format("GeoParquet", "vector.write_geoparquet"),
    ".geojson": Format("GeoJSON", "vector.write_geojson", ("pyogrio",)),
    ".tif": Format("Cloud Optimized GeoTIFF", "raster.write_cog", ("rasterio",)),
    ".csv": Format("CSV", "rows.write_csv"),
}
"""File name ending -> format."""


def export(
    run: str,
    target: str | Path,
    stage: str | None = None,
    *,
    force: bool = False,
    say: Callable[[int], None] = lambda _done: None,
) -> list[Path]:
    """Write the segments of a finished run to a file.

    Parameters
    ----------
    run
        Folder of the run, or its URL.
    target
        Path of the file; its ending names the format, see `FORMATS`.
    stage
        Label image, when the run has several.
    force
        Replace a file that exists.
    say
        Is told how many segments (of a raster: pixels) are done.

    Returns
    -------
    The files that were written: `target`, and for a raster with more labels than a palette holds a
    second one with their colours.

    Raises
    ------
    InputError
        The ending is unknown, the file exists, a library is missing, there is no finished run.
    RunError
        The file cannot be written, or labels and table do not belong together.
    """
    if "://" in str(target):
        raise InputError(f"--to {target}: give a path on this machine")
    path = Path(target)
    form = _format(path)
    layer = open_layer(run, stage)
    names = [path]
    if form.writer == "raster.write_cog":
        from segpipe.export.raster import files

        names = files(layer, path)
    _check_target(names, force=force)
    _write(form, layer, names, say)
    return names


def _write(form: Format, layer: Layer, names: list[Path], say: Callable[[int], None]) -> None:
    """Write into a folder beside the target, then give the files their names."""
    module, _, function = form.writer.partition(".")
    writer = getattr(import_module(f"segpipe.export.{module}"), function)
    path = names[0]
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".segpipe-export-") as scratch:
            with _full_disk_said(Path(scratch), path):
                writer(layer, Path(scratch) / path.name, say)
            for name in names:
                os.replace(Path(scratch) / name.name, name)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _full_disk_said(scratch: Path, target: Path) -> Iterator[None]:
    """Turn what libraries raise when there is no room left into a `DiskFull`.

    GDAL keeps the reason to itself, so the room that is left is looked at before it is given back.
    """
    try:
        yield
    except (InputError, DiskFull):
        raise
    except Exception as error:
        free = free_bytes(scratch)
        if is_full(error) or (free is not None and free < NO_ROOM):
            written = sum(path.stat().st_size for path in scratch.iterdir())
            raise DiskFull(
                f"cannot write {target}: the disk is full, the file may need more than the "
                f"{amount((free or 0) + written)} there are for it; free some space, or export to "
                f"another folder"
            ) from error
        raise


def _format(path: Path) -> Format:
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        known = ", ".join(f"{ending} ({f.title})" for ending, f in FORMATS.items())
        raise InputError(f"--to {path}: `{path.suffix}` is no format I can write; use {known}")
    for library in form.needs:
        if importlib.util.find_spec(library) is None:
            raise InputError(
                f"{form.title} is written by {library}, which is not installed; "
                f"`pip install 'segpipe[geo]'`"
            )
    return form


def _check_target(names: list[Path], *, force: bool) -> None:
    folder = names[0].parent
    if not folder.is_dir():
        raise InputError(f"--to {names[0]}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise InputError(f"--to {names[0]}: you may not write to {folder}")
    for name in names:
        if name.is_dir():
            raise InputError(f"--to {name} is a folder; name a file")
        if name.exists() and not force:
            raise InputError(f"{name} exists; choose another name, or replace it with --force")
