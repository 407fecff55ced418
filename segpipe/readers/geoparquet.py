"""Geometries of GeoParquet files, which the GDAL that comes with pyogrio does not read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.readers.base import ReadError
from segpipe.readers.places import open_place, said_plainly


def read_geometries(where: str) -> tuple[Any, str | None]:
    """Return well-known binary of every row (None: no geometry), and the CRS as ``EPSG:n``.

    Raises
    ------
    ReadError
        The file is no Parquet, has no geometries, or keeps them in another encoding.
    """
    place = open_place(where)
    try:
        with said_plainly(where), place.stream() as file:
            content = pa.BufferReader(file.read())
    finally:
        place.close()
    try:
        table = pq.ParquetFile(content)
        geo = json.loads((table.metadata.metadata or {})[b"geo"])
        name = geo["primary_column"]
        column = geo["columns"][name]
        encoding = column["encoding"]
        cells = table.read([name])[name].to_numpy() if encoding == "WKB" else None
    except (pa.ArrowException, ValueError, LookupError, TypeError) as err:
        raise ReadError(
            f"{where} is not GeoParquet ({type(err).__name__}: {err}); write it again, for example "
            "with geopandas, or give GeoPackage or GeoJSON"
        ) from err
    if cells is None:
        raise ReadError(f"{where} has geometries as {encoding}; write them as WKB, the default")
    return cells, _crs(column)


def _crs(column: Mapping[str, Any]) -> str | None:
    """Return the name of a column's CRS; the standard's own, if it says nothing.

    >>> _crs({"crs": {"id": {"authority": "EPSG", "code": 32632}}}), _crs({"crs": None}), _crs({})
    ('EPSG:32632', None, 'OGC:CRS84')
    """
    if "crs" not in column:
        return "OGC:CRS84"
    said = column["crs"]
    found = said.get("id") if isinstance(said, dict) else None
    return f"{found['authority']}:{found['code']}" if found else None
