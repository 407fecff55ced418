"""The run folder: OME-Zarr arrays, records, tables. The only place for Zarr."""

IMAGE = "image.ome.zarr"
"""Name of the finished OME-Zarr image in a run folder."""
