"""What TIFF dialects say of an image: pixel size, channel names, coordinates, nodata."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from xml.etree import ElementTree

import tifffile

USER_DEFINED = 32767
"""GeoKey value: no EPSG code."""
PIXEL_IS_POINT = 2
GEOGRAPHIC_MODEL = 2
LINEAR_UNITS = {9001: "metre", 9002: "foot", 9003: "US survey foot"}
CENTIMETER = 3
"""ResolutionUnit. Inches (2) are ignored: dots per inch of a print, mostly a default of 72."""

UNITS = {
    **{"nm": "nanometer", "µm": "micrometer", "μm": "micrometer", "um": "micrometer"},
    **{"micron": "micrometer", "\\u00b5m": "micrometer", "mm": "millimeter", "cm": "centimeter"},
    **{"m": "meter", "pixel": None, "": None},
}
"""Unit signs in OME-XML and ImageJ -> the words OME-Zarr uses."""

Fields = dict[str, Any]
"""Fields of SourceInfo."""


def describe(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Return the fields of `SourceInfo` that the file's dialects tell; later ones win."""
    found: Fields = {}
    dialects: tuple[Callable[[tifffile.TiffFile, tifffile.TiffPage, int], Fields], ...]
    dialects = (_baseline, _imagej, _aperio, _ome, _gdal, _geo)
    for dialect in dialects:
        found |= {k: v for k, v in dialect(tif, page, channels).items() if v is not None}
    return found


def _baseline(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Pixel size from the resolution tags, when in centimetres."""
    if page.resolutionunit != CENTIMETER:
        return {}
    x, y = page.get_resolution("micrometer")
    return {"pixel_size": (1 / y, 1 / x), "pixel_unit": "micrometer"} if x > 0 and y > 0 else {}


def _imagej(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Pixel size and channel names of ImageJ."""
    metadata = tif.imagej_metadata
    if not metadata:
        return {}
    found: Fields = {}
    unit = UNITS.get(str(metadata.get("unit", "")), str(metadata.get("unit")))
    x, y = page.resolution
    if unit and x > 0 and y > 0:
        found = {"pixel_size": (1 / y, 1 / x), "pixel_unit": unit}
    labels = metadata.get("Labels")
    if isinstance(labels, list) and len(labels) == channels:
        found["channel_names"] = tuple(str(label) for label in labels)
    return found


def _aperio(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Pixel size of an Aperio slide (MPP = micrometers per pixel)."""
    if not tif.is_svs:
        return {}
    mpp = tifffile.tifffile.svs_description_metadata(tif.pages.first.description).get("MPP")
    if not isinstance(mpp, int | float) or mpp <= 0:
        return {}
    return {"pixel_size": (float(mpp), float(mpp)), "pixel_unit": "micrometer"}


def _ome(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Pixel size and channel names of the first image in OME-XML."""
    if not tif.is_ome or tif.ome_metadata is None:
        return {}
    pixels = ElementTree.fromstring(tif.ome_metadata).find("{*}Image/{*}Pixels")
    if pixels is None:
        return {}
    found: Fields = {}
    x, y = pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY")
    if x and y:
        unit = pixels.get("PhysicalSizeXUnit", "µm")
        found = {"pixel_size": (float(y), float(x)), "pixel_unit": UNITS.get(unit, unit)}
    names = [channel.get("Name") for channel in pixels.findall("{*}Channel")]
    if len(names) == channels and all(names):
        found["channel_names"] = tuple(names)
    return found


def _gdal(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Band names and nodata that GDAL keeps in tags of its own."""
    found: Fields = {}
    nodata = page.tags.valueof("GDAL_NODATA")
    if nodata is not None:
        with suppress(ValueError):  # words other than nan and inf mean nothing here
            found["nodata"] = float(str(nodata).strip(" \0"))
    metadata = page.tags.valueof("GDAL_METADATA")
    if metadata:
        items = ElementTree.fromstring(str(metadata).strip(" \0")).findall("Item")
        names = {i.get("sample"): i.text for i in items if i.get("role") == "description"}
        ordered = [names.get(str(i)) for i in range(channels)]
        if all(ordered):
            found["channel_names"] = tuple(ordered)
    return found


def _geo(tif: tifffile.TiffFile, page: tifffile.TiffPage, channels: int) -> Fields:
    """Coordinate system, transform and pixel size of GeoTIFF."""
    keys = page.geotiff_tags or {} if page.is_geotiff else {}
    transform = _transform(page, keys)
    if transform is None:
        return {}
    a, b, _, d, e, _ = transform
    return {
        "transform": transform,
        "crs": _crs(keys),
        "pixel_size": (math.hypot(b, e), math.hypot(a, d)),
        "pixel_unit": _unit(keys),
    }


def _transform(
    page: tifffile.TiffPage, keys: Mapping[str, Any]
) -> tuple[float, float, float, float, float, float] | None:
    """Return the transform from (column, row) of pixel corners to world coordinates."""
    matrix = page.tags.valueof("ModelTransformationTag")
    scale = page.tags.valueof("ModelPixelScaleTag")
    tie = page.tags.valueof("ModelTiepointTag")
    if matrix is not None and len(matrix) >= 8:
        a, b, c, d, e, f = (float(matrix[i]) for i in (0, 1, 3, 4, 5, 7))
    elif scale is not None and tie is not None and len(tie) >= 6:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - a * float(tie[0]), float(tie[4]) - e * float(tie[1])
    else:
        return None
    if int(keys.get("GTRasterTypeGeoKey", 1)) == PIXEL_IS_POINT:
        # The tie point is the centre of a pixel; everywhere here it is the upper left corner.
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return (a, b, c, d, e, f)


def _crs(keys: Mapping[str, Any]) -> str | None:
    """Return the EPSG code of the coordinate system."""
    for key in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey"):
        code = int(keys.get(key, 0) or 0)
        if code and code != USER_DEFINED:
            return f"EPSG:{code}"
        if code == USER_DEFINED:
            return None
    return None


def _unit(keys: Mapping[str, Any]) -> str | None:
    """Return the unit of world coordinates; metre unless the file says otherwise."""
    model = int(keys.get("GTModelTypeGeoKey", 0) or 0)
    if model == GEOGRAPHIC_MODEL:
        return "degree"
    if not model:
        return None
    return LINEAR_UNITS.get(int(keys.get("ProjLinearUnitsGeoKey", 9001) or 9001))
