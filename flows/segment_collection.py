"""Segment many images as a Prefect flow: ``python flows/segment_collection.py [CONFIG] …``.

One Prefect task per step of the collection, never per image (images are Dask's tasks: Prefect
costs about 10 ms and 20 kB of its database each). What is done, the folders of the images alone
know: a flow run on a folder with the same collection goes on with it, and does what is new or
changed; so a nightly run of a growing folder does every image once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import flows  # noqa: F401  (what Prefect reads from the environment has to be set before)

# isort: split
import typer
from prefect import flow, get_run_logger

from flows.pages import PrefectProgress, link_dashboard, show_collection
from flows.script import run_flow, run_script
from flows.steps import RETRIED, do_step, refusing
from segpipe.cli import shared as cli
from segpipe.collection import session as collection
from segpipe.session import load_config

CONFIG = "configs/collection.yaml"


@flow(name="segment-collection", **RETRIED)
@refusing
def segment_collection(
    config: str = CONFIG,
    input: str | None = None,
    output: str | None = None,
    set: list[str] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    retry: bool = False,
) -> dict[str, str]:
    """Segment all images of a collection that are new, changed or missing.

    Parameters are the options of ``segpipe run``; `retry` tries images again that were set aside.
    Those do not fail the flow: they are in its table artifact, the report and the result.

    Returns
    -------
    result
        Where everything is, and the digest of all labels: what ``segpipe run`` prints.
    """
    chosen = load_config(config, set or (), input, output, cluster, workers)
    logger = get_run_logger()
    begun = collection.opened(chosen, resume=True, retry=retry, say=logger.info)
    with begun as (run, executor):
        if executor.dashboard:
            link_dashboard(executor.dashboard, logger)
        watch = PrefectProgress(len(run.items), logger, "images")
        for step in run.steps():
            do_step(step.name, partial(step.run, executor, watch))
        watch.complete()
    result = collection.summary(chosen.output, run.state)
    show_collection(chosen.output, result)
    return result


def main(
    config: Annotated[Path, typer.Argument(help="The YAML of the collection.")] = Path(CONFIG),
    input: cli.Input = None,
    output: cli.OutputPath = None,
    set: cli.Changes = None,
    cluster: cli.ClusterOption = None,
    workers: cli.Workers = None,
    retry: cli.Retry = False,
) -> None:
    """Segment many images as a Prefect flow; starts a Prefect server if none is set up."""
    arguments = (str(config), input, output, set, cluster, workers)
    chosen = load_config(arguments[0], set or (), input, output, cluster, workers)
    collection.check(chosen)  # what cannot work is said before a server is started
    result = run_flow(segment_collection, *arguments, retry)
    cli.show(result)
    if "set aside" in result:
        raise typer.Exit(cli.EXIT_ASIDE)


if __name__ == "__main__":
    run_script(main, "finished images")
