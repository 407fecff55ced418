"""Polygons as GeoPackage, GeoJSON and GeoParquet, written batch by batch.

GeoPackage and GeoJSON are written by GDAL (in pyogrio) from a stream of Arrow batches, GeoParquet
by pyarrow. Coordinates are those of the source's coordinate system, GeoJSON's are WGS 84 longitude
and latitude, as RFC 7946 demands. Without georeference all of them hold pixels: x = column, y = row
of pixel corners, downwards from the image's upper left corner, and name no coordinate system.

Text and reprojection make GeoJSON ten times as slow as the others: it is for the web and for small
images.
"""

from __future__ import annotations

import errno
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segpipe.errors import InputError, RunError
from segpipe.export.ahead import ahead
from segpipe.export.features import features, plain
from segpipe.export.layer import Layer
from segpipe.store.space import free_bytes

GEOMETRY = "geometry"
ROW_GROUP = 1 << 16
"""Most rows of a Parquet row group: readers can skip those outside of where they look."""
PARTS = 100
"""Parts of a pixel that GeoJSON's decimals tell apart, at least."""
PIXELS_SAID = "pixels, without a coordinate system: x = column, y = row, downwards"
"""Stands in GeoJSON files that are not in longitude and latitude."""
METRES_PER_DEGREE = 111_320
BOX = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])


def write_geopackage(layer: Layer, path: Path, say: Callable[[int], None]) -> None:
    """Write a GeoPackage with a spatial index; its layer is called as the stage is."""
    _write_gdal(layer, path, say, "GPKG", {"GEOMETRY_NAME": "geom"})


def write_geojson(layer: Layer, path: Path, say: Callable[[int], None]) -> None:
    """Write GeoJSON: RFC 7946 with a coordinate system, else plain pixels."""
    options: dict[str, str] = {"WRITE_NAME": "NO", "DESCRIPTION": PIXELS_SAID}
    if layer.crs is not None:
        options = {"RFC7946": "YES", "COORDINATE_PRECISION": str(_decimals(layer))}
    _write_gdal(layer, path, say, "GeoJSON", options)


def _write_gdal(
    layer: Layer, path: Path, say: Callable[[int], None], driver: str, options: dict[str, str]
) -> None:
    import pyogrio
    from pyogrio.errors import CRSError

    with layer.open_table() as table:
        schema = plain(table.schema_arrow.remove_metadata().empty_table()).schema
    schema = schema.append(pa.field(GEOMETRY, pa.binary()))
    failed: list[BaseException] = []
    given: list[int] = []
    room = free_bytes(path.parent)
    counted = _counted(_record_batches(layer, schema), say)
    batches = _weighed(_kept_error(ahead(counted), failed), given)
    try:
        with warnings.catch_warnings():
            # without georeference there are pixels, which is what we want
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            pyogrio.write_arrow(
                pa.RecordBatchReader.from_batches(schema, batches),
                str(path),
                layer=layer.stage,
                driver=driver,
                geometry_name=GEOMETRY,
                geometry_type="MultiPolygon",
                crs=layer.crs,
                layer_options=options,
            )
    except CRSError as error:
        raise InputError(f"GDAL does not know the coordinate system {layer.crs}") from error
    except (RuntimeError, OSError) as error:  # all of pyogrio's are RuntimeErrors
        if failed:  # GDAL says that the stream broke, not why
            raise failed[0] from None
        if room is not None and sum(given) > room:  # SQLite takes back what it wrote, and the why
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise RunError(f"cannot write the polygons: {error}") from error


def _record_batches(layer: Layer, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for found in features(layer):
        rows = plain(found.rows).append_column(GEOMETRY, found.wkb)
        yield from rows.cast(schema).combine_chunks().to_batches()


def _kept_error(batches: Iterator[Any], failed: list[BaseException]) -> Iterator[Any]:
    """Pass batches on, and keep the error that ends them."""
    try:
        yield from batches
    except BaseException as error:
        failed.append(error)
        raise


def _weighed(batches: Iterator[pa.RecordBatch], given: list[int]) -> Iterator[pa.RecordBatch]:
    """Pass batches on, and note the bytes of each."""
    for batch in batches:
        given.append(batch.nbytes)
        yield batch


def _counted(batches: Iterator[Any], say: Callable[[int], None]) -> Iterator[Any]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        say(done)


def _decimals(layer: Layer) -> int:
    """Decimals of degrees that tell hundredths of a pixel apart, at least the usual seven."""
    a, b, _, d, e, _ = layer.transform
    pixel = math.sqrt(abs(a * e - b * d))
    if not _geographic(layer):
        pixel /= METRES_PER_DEGREE
    return min(15, max(7, math.ceil(-math.log10(pixel / PARTS))))


def _geographic(layer: Layer) -> bool:
    return layer.pixel_unit == "degree"


def write_geoparquet(layer: Layer, path: Path, say: Callable[[int], None]) -> None:
    """Write GeoParquet 1.1: WKB, a column of boxes for readers to skip by, PROJJSON."""
    crs = projjson(layer.crs) if layer.crs is not None else None
    with layer.open_table() as table:
        schema = table.schema_arrow.remove_metadata()
    schema = schema.append(pa.field("bbox", BOX)).append(pa.field(GEOMETRY, pa.binary()))
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    names = [field.name for field in schema if field.name != GEOMETRY]
    options: dict[str, Any] = {"use_dictionary": names, "write_statistics": names}
    with pq.ParquetWriter(path, schema, compression="zstd", **options) as writer:
        for found in ahead(_counted(features(layer), say)):
            extent[:2] = np.minimum(extent[:2], found.bounds[:, :2].min(axis=0))
            extent[2:] = np.maximum(extent[2:], found.bounds[:, 2:].max(axis=0))
            boxes = pa.StructArray.from_arrays(
                [pa.array(column) for column in found.bounds.T], fields=list(BOX)
            )
            rows = found.rows.append_column("bbox", boxes).append_column(GEOMETRY, found.wkb)
            writer.write_table(rows.cast(schema), row_group_size=ROW_GROUP)
        writer.add_key_value_metadata({"geo": json.dumps(_geo(crs, extent))})


def _geo(crs: dict[str, Any] | None, extent: np.ndarray) -> dict[str, Any]:
    """Return the file's metadata; see https://geoparquet.org/releases/v1.1.0."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["MultiPolygon"],
        "crs": crs,  # null says: unknown; leaving it out would say: longitude, latitude
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {name: ["bbox", name] for name in BOX.names}},
    }
    if np.isfinite(extent).all():
        column["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def projjson(crs: str) -> dict[str, Any]:
    """Return a coordinate system as PROJJSON."""
    try:
        from rasterio.crs import CRS
        from rasterio.errors import CRSError
    except ImportError as error:
        raise InputError(
            "GeoParquet needs rasterio to describe the coordinate system; "
            "`pip install 'segpipe[geo]'`"
        ) from error
    try:
        return dict(CRS.from_user_input(crs).to_dict(projjson=True))
    except CRSError as error:
        raise InputError(f"PROJ does not know the coordinate system {crs}: {error}") from error
