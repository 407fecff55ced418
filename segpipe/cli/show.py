"""Commands that look at what there is: `segpipe methods | digest | verify | view`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from segpipe.cli.shared import EXIT_FAILED, Debug, RunPath, StageOption, app, err, out, say_stage


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="Explain this method.")] = None,
    debug: Debug = False,
) -> None:
    """List the methods, or explain one and its parameters."""
    from segpipe.methods import everything, find, parameters

    if name:
        method = find(name)
        out.print(f"{name} ({method.exactness}): {method.__doc__}\n", markup=False)
        table = Table("parameter", "default", "meaning", box=None, pad_edge=False)
        for field, _kind, default, meaning in parameters(method):
            table.add_row(field, escape(default), escape(" ".join(meaning.split())))
        out.print(table)
        return
    table = Table("method", "tiles", "what it does", box=None, pad_edge=False)
    for key, method in everything().items():
        table.add_row(key, method.exactness, (method.__doc__ or "").strip().splitlines()[0])
    out.print(table)


@app.command()
def digest(
    run: RunPath,
    stage: StageOption = None,
    debug: Debug = False,
) -> None:
    """Print the SHA-256 of a run's labels: equal labels, equal digest, whatever the tiles were."""
    from segpipe import session
    from segpipe.collection import session as collection

    if collection.is_collection_folder(run):
        print(collection.digest_of(run, stage))
        return
    say_stage(run, stage)
    print(session.digest_of(run, stage))


@app.command()
def verify(run: RunPath, debug: Debug = False) -> None:
    """Read a run's labels, image and records again and compare them with their checksums."""
    from segpipe.collection import session as collection
    from segpipe.session import verify_run

    several = collection.is_collection_folder(run)
    bad = collection.verify_collection(run) if several else verify_run(run)
    for line in bad:
        err.print(line, style="red", markup=False)
    if bad:
        remedy = "the folders of these images and resume" if several else "the folder and run again"
        err.print(f"segpipe: the result is damaged; delete {remedy}", style="red")
        sys.exit(EXIT_FAILED)
    out.print("all arrays, tables and digests are as they were written")


@app.command()
def view(
    run: RunPath,
    truth: Annotated[
        list[str] | None,
        typer.Option(
            help="Ground truth to lay over the image, hidden at first; as `segpipe score` takes it."
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port; 0 = any free one.")] = 0,
    bind: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    debug: Debug = False,
) -> None:
    """Look at image and labels in the browser (neuroglancer, offline, this machine only)."""
    from segpipe.view import serve

    serve(
        run, truth=truth or (), port=port, bind=bind, say=lambda text: out.print(text, markup=False)
    )
