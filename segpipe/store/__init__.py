"""The run folder: OME-Zarr arrays, records, tables. The only place for Zarr."""

IMAGE = "image.ome.zarr"
"""Name of the finished OME-Zarr image in a run folder."""


def table_name(title: str, stage: str, *, alone: bool) -> str:
    """Return the file of a table in the run folder; with several stages each has its own.

    >>> table_name("segments", "slic", alone=True)
    'segments.parquet'
    """
    return f"{title}.parquet" if alone else f"{title}-{stage}.parquet"


def column_name(title: str, stage: str, *, alone: bool) -> str:
    """Return the column of a stage's figure in the table of images; of several each has its own.

    >>> column_name("digest", "slic", alone=False)
    'digest-slic'
    """
    return title if alone else f"{title}-{stage}"
