"""Files to lazily read windows: `open_source` for images, `open_mask` for where to work.

Formats: PNG, JPEG, WebP, GIF, AVIF, BMP; TIFF, BigTIFF, OME-TIFF, Aperio SVS, GeoTIFF, COG;
OME-Zarr 0.4 and 0.5. Places: local paths, ``file://``, and whatever fsspec knows (``s3://``,
``https://``, ``memory://`` …), read by byte ranges. Credentials and endpoints come from the
environment, see `segpipe.readers.places`.
"""

from segpipe.readers.base import ReadError, Source, SourceInfo
from segpipe.readers.mask import MaskSource, open_mask
from segpipe.readers.open import open_source

__all__ = ["MaskSource", "ReadError", "Source", "SourceInfo", "open_mask", "open_source"]
