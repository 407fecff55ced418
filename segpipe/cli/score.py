"""`segpipe score`: how good labels are, by ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.progress import Progress
from rich.table import Table

from segpipe.cli.shared import Debug, StageOption, app, err, out, say_stage

CLASSES = 30
"""Most classes shown in the terminal; the JSON has all."""


@app.command()
def score(
    labels: Annotated[
        str,
        typer.Argument(metavar="LABELS", help="A run, or a file of labels.", show_default=False),
    ],
    truth: Annotated[
        list[str],
        typer.Option(
            help="Ground truth: PNG, TIFF, npy, npz, mat (BSDS), OME-Zarr labels, GeoJSON, "
            "GeoPackage …; once per annotator, or one file of several.",
            show_default=False,
        ),
    ],
    classes: Annotated[
        bool,
        typer.Option(
            "--classes",
            help="Dice, Jaccard: of the segments' classes where the run's table has them, else "
            "labels are classes.",
        ),
    ] = False,
    instances: Annotated[
        bool, typer.Option("--instances", help="Labels are objects, 0 is background: PQ, AP.")
    ] = False,
    tolerance: Annotated[
        int | None,
        typer.Option(help="Pixels a border may be off; default 0.0025 of the diagonal."),
    ] = None,
    inside: Annotated[
        float, typer.Option(help="Share of a segment that makes it lie inside an object.")
    ] = 0.95,
    iou: Annotated[
        list[float] | None,
        typer.Option(help="IoU threshold of AP, repeatable; default 0.5, 0.55 … 0.95."),
    ] = None,
    ignore: Annotated[
        list[int] | None,
        typer.Option(help="Value of the truth that does not count (void), repeatable."),
    ] = None,
    ignore_label: Annotated[
        list[int] | None,
        typer.Option(help="Value of LABELS that does not count, repeatable."),
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            metavar="[out|region]",
            help="Pixels of no segment, label 0 of a run: left out of the scores of borders and "
            "regions, or a region like the others. Default: out of a masked image (nodata and "
            "transparency, too), unless the method knows a background. To classes and objects "
            "they are background.",
        ),
    ] = None,
    stage: StageOption = None,
    each: Annotated[
        bool, typer.Option("--each", help="Show every annotator instead of the meanings.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option(help="Write all scores and counts to this file.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Score labels against ground truth, at any size: borders, regions, classes, objects."""
    from segpipe.score import Options, score_files, write_json

    options = Options(
        radius=tolerance,
        share=inside,
        ignore=tuple(ignore or ()),
        ignore_labels=tuple(ignore_label or ()),
        unlabelled=cast("Any", unlabelled),  # checked there, as the rest is
        classes=classes,
        instances=instances,
        **({"thresholds": tuple(iou)} if iou else {}),
    )
    if not Path(labels).is_file():
        say_stage(labels, stage)
    with _progress() as told:
        result = score_files(labels, truth, options, stage=stage, progress=told)
    if json is not None:
        write_json(result, str(json))
    _show(result, each=each)
    if not (classes or instances):
        out.print("\n--classes adds Dice and Jaccard, --instances PQ and AP", style="dim")


@contextmanager
def _progress() -> Iterator[Any]:
    """Draw a bar on a terminal when there is more than a moment to wait."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task("score", total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _show(result: dict[str, Any], *, each: bool) -> None:
    """Print what was compared and the tables."""
    annotators = result["annotators"]
    height, width = result["shape"]
    out.print(f"{result['labels']}", markup=False)
    for number, one in enumerate(annotators, 1):
        left = {"in no segment, left out": one["unlabelled"], "ignored": one["ignored"]}
        ignored = "".join(f", {pixels:,} {why}" for why, pixels in left.items() if pixels)
        name = f"{number} " if len(annotators) > 1 else ""
        out.print(
            f"  truth {name}{one['truth']}: {one['regions']:,} regions, "
            f"{one['segments']:,} segments on {one['pixels']:,} pixels{ignored}",
            markup=False,
        )
    out.print(
        f"  {height} x {width} pixels; a border is found within {result['tolerance']} px, "
        f"a segment lies inside with {100 * result['options']['share']:g} % of it\n"
    )
    out.print(_scores(result, each=each))
    for rows in (_classes(result), _thresholds(result)):
        if rows is not None:
            out.print()
            out.print(rows)


def _scores(result: dict[str, Any], *, each: bool) -> Table:
    """Return the table of scores: mean and range, and what they mean or every annotator."""
    from segpipe.quality import METRICS

    several = len(result["annotators"]) > 1
    table = Table(box=None, pad_edge=False)
    table.add_column("score")
    table.add_column("best", justify="right")
    table.add_column("mean" if several else "value", justify="right")
    if several and each:
        for number in range(1, len(result["annotators"]) + 1):
            table.add_column(str(number), justify="right")
    elif several:
        table.add_column("lowest", justify="right")
        table.add_column("highest", justify="right")
    if not (several and each):
        table.add_column("meaning", style="dim")
    for name, mean in result["mean"].items():
        metric = METRICS[name]
        values = [one["scores"][name] for one in result["annotators"]]
        told = values if each else [min(values), max(values)]
        cells = [_number(value) for value in (told if several else [])]
        meaning = [] if several and each else [metric.meaning]
        best = "1" if metric.best == "high" else "0"
        table.add_row(metric.name, best, _number(mean), *cells, *meaning)
    return table


def _classes(result: dict[str, Any]) -> Table | None:
    """Return Dice and Jaccard of every class, means over the annotators that have it."""
    found: dict[int, list[dict[str, Any]]] = {}
    for one in result["annotators"]:
        for row in one.get("classes", ()):
            found.setdefault(row["class"], []).append(row)
    if not found:
        return None
    table = Table(box=None, pad_edge=False)
    columns = {"class": "class", "dice": "Dice", "jaccard": "Jaccard"}
    shares = {"pixels_labels": "share of labels", "pixels_truth": "share of truth"}
    for name in [*columns.values(), *shares.values()]:
        table.add_column(name, justify="right")
    counted = math.fsum(one["pixels"] for one in result["annotators"])
    for value, rows in sorted(found.items())[:CLASSES]:
        cells = [_number(_mean(row[name] for row in rows)) for name in ("dice", "jaccard")]
        sums = [math.fsum(row[name] for row in rows) / counted for name in shares]
        table.add_row(str(value), *cells, *(f"{share:.2%}" for share in sums))
    if len(found) > CLASSES:
        table.caption = f"{len(found) - CLASSES} more classes: see --json"
    return table


def _thresholds(result: dict[str, Any]) -> Table | None:
    """Return matches at each threshold of IoU, means over annotators."""
    found = [one["thresholds"] for one in result["annotators"] if "thresholds" in one]
    if not found:
        return None
    table = Table(box=None, pad_edge=False)
    scores = ("ap", "f1", "precision", "recall")
    counts = ("true_positives", "false_positives", "false_negatives")
    for name in ("IoU", "AP", "F1", "precision", "recall", "found", "wrong", "missed"):
        table.add_column(name, justify="right")
    for rows in zip(*found, strict=True):
        cells = [_number(_mean(row[name] for row in rows)) for name in scores]
        numbers = [f"{_mean(row[name] for row in rows):,.6g}" for name in counts]
        table.add_row(f"{rows[0]['iou']:g}", *cells, *numbers)
    return table


def _mean(values: Iterator[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
