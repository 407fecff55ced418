"""What all flows share: a task per step, and bad input that fails at once.

Prefect tries a failed flow again, which is right for a cluster that went away and pointless for a
file that cannot be read: that would fail again, and hide its sentence between tracebacks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Failed

from segpipe.errors import InputError

Given = ParamSpec("Given")
RETRIED: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 60, "persist_result": False}
"""How often a flow is tried again: its folder knows what is done."""


def refusing(work: Callable[Given, Any]) -> Callable[Given, Any]:
    """Let a flow fail with the message of an `InputError`, without a retry or a traceback."""

    @wraps(work)
    def guarded(*args: Given.args, **kwargs: Given.kwargs) -> Any:
        try:
            return work(*args, **kwargs)
        except InputError as error:
            _retry_no_more()
            return _failed(error)

    return guarded


def _retry_no_more() -> None:
    """Tell the server, which decides on retries, to leave this flow run as it ends."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    policy = run.empirical_policy.model_copy(update={"retries": 0})
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, empirical_policy=policy)


def _failed(error: Exception) -> State[Any]:
    """Return a state that says no more than the error; whoever asks for its result gets that."""
    return Failed(message=str(error), data=error)


def do_step(name: str, work: Callable[[], None]) -> None:
    """Do one step of a run as a Prefect task.

    Raises
    ------
    InputError
        What was given turned out to be unusable; the task says so in one sentence.
    """
    refused = _step(name, work, return_state=True)
    if isinstance(error := refused.result(raise_on_failure=False), BaseException):
        raise error


@task(task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def _step(name: str, work: Callable[[], None]) -> Any:
    """Do one step; `work` hides its arguments from Prefect, which would look into them."""
    try:
        return work()
    except InputError as error:
        return _failed(error)
