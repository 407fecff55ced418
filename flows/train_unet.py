"""Train a network as a Prefect flow: ``python flows/train_unet.py CONFIG [--output …]``.

It does what ``segpipe train`` does, in one Prefect task: a step of the optimiser is no business of
Prefect's, a look at the validation part is a line of its log. What is done, the folder of the
training knows: a retry, or the same flow the next night, goes on from the last checkpoint, and a
finished training is only scored again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import flows  # noqa: F401  (what Prefect reads from the environment has to be set before)

# isort: split
import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import prefect_server
from segpipe.cli import shared as cli
from segpipe.errors import InputError, SegpipeError
from segpipe.nets.training import recipe
from segpipe.nets.training.launch import launch

CONFIG = "configs/training/nuclei.yaml"


@flow(name="train-unet", retries=2, retry_delay_seconds=60, persist_result=False)
def train_unet(
    config: str = CONFIG, output: str | None = None, set: list[str] | None = None
) -> dict[str, str]:
    """Train a network, or go on with it; the parameters are the options of ``segpipe train``.

    Returns
    -------
    result
        Where model, card and report are, and the scores: what ``segpipe train`` prints.
    """
    result = train(config, output, set or [])
    rows = [{"what": key, "value": value} for key, value in result.items()]
    create_table_artifact(rows, key="training", description=f"# {config}")
    return result


@task(cache_policy=NO_CACHE, persist_result=False)
def train(config: str, output: str | None, changes: list[str]) -> dict[str, str]:
    """Train, and log what each look at the validation part says."""
    logger = get_run_logger()

    def tell(row: dict[str, Any]) -> None:
        values = [f"{name} {value:.4g}" for name, value in row.items() if name != "step"]
        logger.info("step %d: %s", row["step"], ", ".join(values))

    return launch(config, changes, output, tell)


def main(
    config: Annotated[Path, typer.Argument(help="The YAML of the training.")] = Path(CONFIG),
    output: cli.OutputPath = None,
    set: cli.Changes = None,
) -> None:
    """Train as a Prefect flow; starts a temporary Prefect server if none is set up."""
    recipe.load(config, set or (), output)  # what cannot work is said before a server is started
    address = prefect_server()
    cli.out.print(f"prefect  {address}", markup=False)
    with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
        # somebody is watching: no waiting for a second try
        result = train_unet.with_options(retries=0)(str(config), output, set)
    cli.show(result)


if __name__ == "__main__":
    try:
        typer.run(main)
    except SegpipeError as error:
        cli.err.print(f"segpipe: {error}", style="red", markup=False)
        sys.exit(cli.EXIT_INPUT if isinstance(error, InputError) else cli.EXIT_FAILED)
