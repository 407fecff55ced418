"""Segment one image as a Prefect flow: ``python flows/segment_mosaic.py [CONFIG] [--input …]``.

One Prefect task per step of the run, never per tile (tiles are Dask's: a Prefect task costs about
10 ms and 20 kB of its database), and no Prefect caching: what is done, the run folder alone
knows. So a flow run on a folder with the same run, unfinished, goes on with it (a retry, ``prefect
flow-run retry``, the next night), and on a finished one it returns what that run gave.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import flows  # noqa: F401  (what Prefect reads from the environment has to be set before)

# isort: split
import typer
from prefect import flow, get_run_logger

from flows.pages import PrefectProgress, link_dashboard, show_result
from flows.script import run_flow, run_script
from flows.steps import RETRIED, do_step, refusing
from segpipe import session
from segpipe.cli import shared as cli
from segpipe.config import Config
from segpipe.run import Run
from segpipe.state import read_state
from segpipe.store.folder import Folder

CONFIG = "configs/superpixels.yaml"


@flow(name="segment-mosaic", **RETRIED)
@refusing
def segment_mosaic(
    config: str = CONFIG,
    input: str | None = None,
    output: str | None = None,
    set: list[str] | None = None,
    cluster: str | None = None,
    workers: int | None = None,
) -> dict[str, str]:
    """Segment an image, or go on with it; the parameters are the options of ``segpipe run``.

    Returns
    -------
    result
        Where everything is, and the digest of the labels: what ``segpipe run`` prints.
    """
    logger = get_run_logger()
    chosen = session.load_config(config, set or (), input, output, cluster, workers)
    if (done := finished(chosen)) is not None:
        logger.info("the run in %s is complete already", chosen.output)
        return done
    begun = session.opened(session.as_begun(chosen), resume=True, say=logger.info)
    with begun as (run, executor):
        if executor.dashboard:
            link_dashboard(executor.dashboard, logger)
        for line in session.notes(run.plan):
            logger.info(line)
        watch = PrefectProgress(sum(row.tiles for row in run.plan.rows()), logger)
        for step in run.steps():
            do_step(step.name, partial(step.run, executor, watch))
        watch.complete()
    result = session.summary(run, executor.dashboard)
    show_result(run, result)
    return result


def finished(config: Config) -> dict[str, str] | None:
    """Return what the finished run of this very configuration gave, if there is one."""
    stored = read_state(Folder(config.output))
    if stored is None or stored["state"] != "complete":
        return None
    plan = session.prepare(config)
    if stored["identity"] != plan.identity:
        return None  # claiming the folder will say what is wrong
    return session.summary(Run(plan, Folder(config.output), stored), None)


def main(
    config: Annotated[Path, typer.Argument(help="The YAML of the run.")] = Path(CONFIG),
    input: cli.Input = None,
    output: cli.OutputPath = None,
    set: cli.Changes = None,
    cluster: cli.ClusterOption = None,
    workers: cli.Workers = None,
) -> None:
    """Segment an image as a Prefect flow; starts a temporary Prefect server if none is set up."""
    arguments = (str(config), input, output, set, cluster, workers)
    chosen = session.load_config(arguments[0], set or (), input, output, cluster, workers)
    session.prepare(chosen, say=cli.say)  # what cannot work is said before a server is started
    cli.show(finished(chosen) or run_flow(segment_mosaic, *arguments))


if __name__ == "__main__":
    run_script(main, "finished tiles")
