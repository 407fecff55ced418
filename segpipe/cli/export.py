"""Commands that hand results on: `segpipe export`."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.cli.shared import Debug, RunPath, StageOption, app, err, out, say_stage


@app.command()
def export(
    run: RunPath,
    to: Annotated[
        str,
        typer.Option(
            help="File to write: .gpkg, .parquet or .geojson (polygons with all columns of the "
            "table, sorted by last row and then label), .tif (labels as COG), .csv (the table, "
            "sorted by label).",
            show_default=False,
        ),
    ],
    stage: StageOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    debug: Debug = False,
) -> None:
    """Write the segments as polygons, raster or table for QGIS, GDAL, geopandas and others."""
    from segpipe.export import export as write
    from segpipe.export.layer import has_place

    say_stage(run, stage)
    if to.lower().endswith(".geojson") and not has_place(run):
        err.print(
            "note: the image has no coordinate system, so coordinates are pixels, y down; programs "
            "take those of GeoJSON for longitude and latitude, so set none there, or use .gpkg",
            style="yellow",
        )
    for path in write(run, to, stage, force=force):
        out.print(path, markup=False)
