"""Training: `segpipe train`."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.cli.shared import (
    EXIT_INTERRUPTED,
    Changes,
    Debug,
    OutputPath,
    RecipePath,
    app,
    err,
    out,
    show,
)
from segpipe.cli.stop import stop


@app.command()
def train(
    config: RecipePath,
    output: OutputPath = None,
    set: Changes = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Train no further: score and write the best so far.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train a network from images and labels, or go on with it."""
    from segpipe.nets.training.launch import launch
    from segpipe.nets.training.train import said

    kept = "the last checkpoint is kept, the same command goes on"
    try:
        with stop.keeping(kept):
            result = launch(
                config,
                set or (),
                output,
                lambda row: out.print(said(row), markup=False),
                finish=finish,
            )
        if result:  # of several processes, the first one has it
            show(result)
    except KeyboardInterrupt:
        err.print(f"segpipe: interrupted; {kept}", markup=False)
        raise typer.Exit(EXIT_INTERRUPTED) from None
