"""Train a network as a Prefect flow: ``python flows/train_unet.py CONFIG [--output …]``.

It does what ``segpipe train`` does, in one Prefect task: a step of the optimiser is no business of
Prefect's, a look at the validation part is a line of its log. What is done, the folder of the
training knows: a retry, or the same flow the next night, goes on from the last checkpoint, and a
finished training is only scored again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import flows  # noqa: F401  (what Prefect reads from the environment has to be set before)

# isort: split
import typer
from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact

from flows.script import run_flow, run_script
from flows.steps import RETRIED, do_step, refusing
from segpipe.cli import shared as cli
from segpipe.nets.training import recipe
from segpipe.nets.training.launch import launch
from segpipe.nets.training.train import said

CONFIG = "configs/training/nuclei.yaml"


@flow(name="train-unet", **RETRIED)
@refusing
def train_unet(
    config: str = CONFIG, output: str | None = None, set: list[str] | None = None
) -> dict[str, str]:
    """Train a network, or go on with it; the parameters are the options of ``segpipe train``.

    Returns
    -------
    result
        Where model, card and report are, and the scores: what ``segpipe train`` prints.
    """
    result: dict[str, str] = {}
    do_step("train", lambda: result.update(_train(config, output, set or [])))
    rows = [{"what": key, "value": value} for key, value in result.items()]
    create_table_artifact(rows, key="training", description=f"# {config}")
    return result


def _train(config: str, output: str | None, changes: list[str]) -> dict[str, str]:
    """Train, and log what each look at the validation part says."""
    logger = get_run_logger()
    return launch(config, changes, output, lambda row: logger.info(said(row)))


def main(
    config: Annotated[Path, typer.Argument(help="The YAML of the training.")] = Path(CONFIG),
    output: cli.OutputPath = None,
    set: cli.Changes = None,
) -> None:
    """Train as a Prefect flow; starts a temporary Prefect server if none is set up."""
    recipe.load(config, set or (), output)  # what cannot work is said before a server is started
    cli.show(run_flow(train_unet, str(config), output, set))


if __name__ == "__main__":
    run_script(main, "finished steps up to the last checkpoint")
