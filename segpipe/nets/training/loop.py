"""The training loop: from a recipe to a model with its card."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segpipe.errors import RunError
from segpipe.nets import weights
from segpipe.nets.card import ModelCard
from segpipe.nets.files import located
from segpipe.nets.model import Model
from segpipe.nets.training import batches, evaluate
from segpipe.nets.training.batches import Batch, Batches, Sample
from segpipe.nets.training.interrupts import asked_to_stop
from segpipe.nets.training.loss import loss
from segpipe.nets.training.processes import Place, scaler
from segpipe.nets.training.recipe import Recipe, Schedule

Tell = Callable[[dict[str, Any]], None]
FIRST_STEPS = 10
"""Steps after which it is said how long training will take."""


@dataclass
class State:
    """All that changes in a training; what a checkpoint holds."""

    network: torch.nn.Module
    average: AveragedModel
    optimiser: torch.optim.Optimizer
    scaler: Any
    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    stale: int = 0
    """Looks at the validation part since the best one."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per look."""

    def to_dict(self) -> dict[str, Any]:
        """Return tensors, numbers and text only."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            **{key: getattr(self, key) for key in PLAIN},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go back to what `to_dict` gave."""
        for key in ("network", "average", "optimiser", "scaler"):
            getattr(self, key).load_state_dict(saved[key])
        for key in PLAIN:
            setattr(self, key, saved[key])


PLAIN = ("step", "best", "best_step", "stale", "history")


def start(recipe: Recipe, card: ModelCard, where: Place) -> State:
    """Return the state before the first step."""
    torch.manual_seed(recipe.schedule.seed)
    network = _begun(recipe, card).to(where.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rule = recipe.schedule
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=rule.learning_rate, weight_decay=rule.weight_decay
    )
    kept = get_ema_multi_avg_fn(rule.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=kept, use_buffers=True)
    return State(network, average, optimiser, scaler(where))


def _begun(recipe: Recipe, card: ModelCard) -> torch.nn.Module:
    """Return the network with random weights, or with those that the recipe names."""
    if recipe.initial is None:
        return weights.build(card.architecture)
    network = weights.load_spread(located(recipe.initial), card.architecture.in_channels)
    return network.train().requires_grad_(True)


def run(
    state: State,
    recipe: Recipe,
    card: ModelCard,
    samples: Mapping[str, Sequence[Sample]],
    where: Place,
    checkpoint: Callable[[State, bool], None],
    tell: Tell,
) -> None:
    """Train on from `state`, to the last step or until the score no longer rises.

    Parameters
    ----------
    state
        Changed in place.
    samples
        By part: `train` and `validation`.
    checkpoint
        Called with the state, and whether it is the best so far, at each look; also when
        interrupted.
    tell
        Called with a row of the history at each look, and once with the pace of the first steps.
    """
    rule = recipe.schedule
    source = Batches(
        samples["train"], recipe, card, process=(where.rank, where.processes), device=where.device
    )
    class_weights = batches.class_weights(samples["train"], recipe).to(where.device)
    network = where.wrapped(state.network)
    since, total, began = state.step, 0.0, time.monotonic()
    begun = since
    with asked_to_stop() as asked:
        for batch in _ahead(source, state.step, rule.steps, where):
            total += _step(state, network, batch, recipe, class_weights, where)
            looked = state.step % rule.validate_every == 0 or state.step == rule.steps
            if state.step == begun + FIRST_STEPS and not looked and where.first:
                tell(_pace(state.step, rule.steps, total / FIRST_STEPS, time.monotonic() - began))
            if looked and where.first:
                row = {"loss": total / (state.step - since), "seconds": time.monotonic() - began}
                _look(state, row, card, samples["validation"], where)
                checkpoint(state, state.best_step == state.step)
                tell(state.history[-1])
            if looked:
                if where.agreed(state.stale >= rule.patience):
                    return
                since, total, began = state.step, 0.0, time.monotonic()
            if asked:
                if where.first and not looked:
                    checkpoint(state, False)
                raise KeyboardInterrupt


def _pace(step: int, steps: int, loss: float, seconds: float) -> dict[str, Any]:
    """Return what the first steps tell: nothing of quality, but how long training will take."""
    left = (steps - step) * seconds / FIRST_STEPS
    return {"step": step, "loss": loss, "seconds": seconds, "minutes to go at most": left / 60}


def _step(
    state: State,
    network: torch.nn.Module,
    batch: Batch,
    recipe: Recipe,
    class_weights: torch.Tensor,
    where: Place,
) -> float:
    """Do one step of the optimiser; return the loss."""
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, recipe.schedule)
    network.train()
    with where.autocast():
        logits = network(batch.inputs)
    found = loss(logits, batch, recipe.loss, class_weights)
    value = float(found.detach())
    if not math.isfinite(value):
        raise RunError(
            f"the loss is {value} after {state.step} steps; lower schedule.learning_rate, or set"
            " schedule.precision to float32"
        )
    state.optimiser.zero_grad(set_to_none=True)
    state.scaler.scale(found).backward()
    state.scaler.step(state.optimiser)
    state.scaler.update()
    state.average.update_parameters(state.network)
    state.step += 1
    return value


def learning_rate(step: int, rule: Schedule) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine down to zero."""
    rise = min(1.0, (step + 1) / (rule.warmup + 1))
    return rule.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / rule.steps))


def _look(
    state: State, row: dict[str, Any], card: ModelCard, seen: Sequence[Sample], where: Place
) -> None:
    """Score the averaged network on the validation part; without one, the last is the best."""
    model = Model(state.average.module.eval(), card)
    with where.autocast():
        scores = evaluate.score(model, seen) if seen else {}
    first = next(iter(scores.values()), float(state.step))
    if first > state.best:
        state.best, state.best_step, state.stale = first, state.step, 0
    else:
        state.stale += 1
    state.history.append({"step": state.step, **row, **scores})


def _ahead(source: Batches, begin: int, end: int, where: Place) -> Iterator[Batch]:
    """Yield the batches of the steps; for a GPU the next is made while it computes."""
    if where.device.type != "cuda":
        yield from (source.batch(step) for step in range(begin, end))
        return
    # the current GPU is a thread's own: without it, memory would be pinned for the first one
    with ThreadPoolExecutor(1, "batches", torch.cuda.set_device, (where.device,)) as pool:
        coming = pool.submit(source.batch, begin)
        for step in range(begin, end):
            batch = coming.result()
            if step + 1 < end:
                coming = pool.submit(source.batch, step + 1)
            yield batch
