"""Score label images in files against ground truth, tile by tile.

What is counted in a tile are integers that add up (`segpipe.quality`): the scores are the same for
any tile size. Held are a few tiles and the table of who shares pixels with whom; label images in
.npz and .mat files are held whole.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import segpipe
from segpipe import quality
from segpipe.errors import InputError
from segpipe.score.counts import count
from segpipe.score.options import Options
from segpipe.score.results import annotator_scores
from segpipe.score.sources import RunLabels, open_all

__all__ = ["Options", "score_files", "write_json"]

TILE = 2048
"""Edge of a tile (px); at the usual tolerance windows are 12 % larger for a 16384 px image."""


def score_files(
    labels: str,
    truths: Sequence[str],
    options: Options | None = None,
    *,
    stage: str | None = None,
    tile: int = TILE,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Score a segmentation against the ground truth of one or more annotators.

    Parameters
    ----------
    labels
        Run folder, or what `open_labels` reads.
    truths
        What `open_labels` reads; each may hold several annotators.
    options
        What to score, and how.
    stage
        Which label image of a run, when there are several.
    tile
        Edge of the tiles in pixels; it never changes the result.
    progress
        Is told how many of how many tiles are done.

    Returns
    -------
    dict
        What was compared, ``mean`` over the annotators of every score of `quality.METRICS`, and
        for each of ``annotators`` its scores and the counts behind them. JSON can hold it.

    Raises
    ------
    InputError
        Something cannot be read, sizes differ, or no pixel counts.
    """
    options = options or Options()
    with ExitStack() as stack:
        found, annotators = open_all(labels, truths, stage)
        for source in [found, *annotators]:
            stack.callback(source.close)
        if options.unlabelled is None:
            outside = isinstance(found, RunLabels) and found.outside
            options = dataclasses.replace(options, unlabelled="out" if outside else "region")
        radius = quality.tolerance(found.info.shape) if options.radius is None else options.radius
        counts = count(found, annotators, radius, options, tile, progress)
        known = found.classes() if options.classes and isinstance(found, RunLabels) else None
        pairs = zip(annotators, counts, strict=True)
        results = [annotator_scores(source.name, each, options, known) for source, each in pairs]
    return {
        "segpipe": segpipe.__version__,
        "labels": found.name,
        "shape": list(found.info.shape),
        "tolerance": radius,
        "options": dataclasses.asdict(options),
        "classes_of": ("segments" if known else "labels") if options.classes else None,
        "mean": {
            name: float(np.mean([one["scores"][name] for one in results]))
            for name in results[0]["scores"]
        },
        "annotators": results,
    }


def write_json(result: dict[str, Any], path: str) -> None:
    """Write the result to a file."""
    part = Path(f"{path}.part")
    try:
        part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another file") from error
