"""Where to work: a raster of the same size, or polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segpipe.readers.base import MASK_DTYPES, Opening, ReadError, Source, SourceInfo, check_box
from segpipe.readers.open import absolute, open_as
from segpipe.readers.places import open_place
from segpipe.readers.polygons import Polygons, read_polygons
from segpipe.tiles import Box

POLYGON_FILES = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".gml", ".kml", ".parquet")


class MaskSource(Protocol):
    """Which pixels of an image to work on. Picklable."""

    @property
    def fingerprint(self) -> str:
        """Cheap identity: differs when the mask was changed."""

    def read(self, box: Box) -> np.ndarray:
        """Return (rows, columns) uint8: 1 = work here."""

    def close(self) -> None:
        """Close what is open."""


def open_mask(where: str | Path, info: SourceInfo) -> MaskSource:
    """Open a mask for the image described by `info`.

    Parameters
    ----------
    where
        A raster of the image's height and width in any format that `open_source` reads, of any real
        pixel type: nonzero (in any channel) and valid = work here. Or polygons: GeoJSON, and with
        pyogrio and shapely GeoPackage, GeoParquet, Shapefile, FlatGeobuf and what else GDAL reads.
    info
        The image. When it is georeferenced, polygons are in world coordinates of its CRS;
        otherwise in pixels (x right, y down, pixel (0, 0) covers 0 to 1).

    Raises
    ------
    ReadError
        When the size or the CRS is another than the image's, or nothing of the image is covered.
    """
    place = absolute(where)
    if Path(place.split("?")[0]).suffix.lower() in POLYGON_FILES:
        return PolygonMask(place, info)
    source = open_as(Opening(place, None, MASK_DTYPES, colours=False))
    if source.info.shape != info.shape:
        source.close()
        raise ReadError(
            f"mask {where} has {_size(source.info.shape)} pixels, the image {info.source} has "
            f"{_size(info.shape)}; give a mask of the image's size"
        )
    return RasterMask(source)


class RasterMask:
    """A mask stored as an image."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def fingerprint(self) -> str:
        """Identity of the raster."""
        return self._source.info.fingerprint

    def read(self, box: Box) -> np.ndarray:
        """Return 1 where any channel is nonzero and the pixel is valid."""
        pixels, valid = self._source.read(box)
        work = np.asarray(pixels.any(axis=-1)).view(np.uint8)
        return work if valid is None else work & valid

    def close(self) -> None:
        """Close the raster."""
        self._source.close()


class PolygonMask:
    """Polygons, drawn anew for every box; the same pixels whatever the boxes are."""

    def __init__(self, where: str, info: SourceInfo) -> None:
        self._where = where
        self._info = info
        self._polygons: Polygons = read_polygons(where, info)
        place = open_place(where)
        self.fingerprint = place.fingerprint
        place.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return PolygonMask, (self._where, self._info)

    def read(self, box: Box) -> np.ndarray:
        """Return 1 where the pixel's centre lies in a polygon."""
        check_box(box, self._info)
        return self._polygons.draw(box)

    def close(self) -> None:
        """Do nothing: the polygons are in memory."""


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"
