"""The run folder: OME-Zarr arrays, records, tables. The only place for Zarr."""
