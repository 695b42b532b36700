"""The one training loop: `fit` joins a source of batches and an objective, and knows nothing else.

An optimiser step is the same for every algorithm. The denominator of the loss is a property of the whole batch and is
known before any forward pass, so the batch may be cut into micro-batches by length and token budget, in any way, and
the gradient stays the same up to rounding (tests/property/test_update.py).
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from accord.batch import Batch, Forward, Mean, Terms
from accord.errors import TrainingError


class Objective(Protocol):
    """A loss that states its own denominator."""

    def denominator(self, batch: Batch) -> Tensor:
        """Number of units (tokens, rows, pairs) the summed loss of `batch` is divided by, a scalar tensor."""
        ...

    def __call__(self, out: Forward, batch: Batch) -> Terms:
        """Loss SUM of a micro-batch and metrics as (sum, count)."""
        ...


@runtime_checkable
class WholeBatch(Protocol):
    """An objective that must see the whole batch of an optimiser step, under the current weights, before it is cut.

    Statistics over a batch (KTO's KL, the ranks of AOT) would depend on the micro-batches otherwise.
    """

    def prepare(self, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Batch:
        """Return the rows to train on, with the statistics as data.

        Args:
            batch: the whole batch as the source made it.
            forward: the module on a micro-batch; called without gradients.
            token_budget: largest rows x length of a forward.
        """
        ...


class Source(Protocol):
    """An endless iterator of batches that can say where it is and go back there."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches, continuing from the restored position."""
        ...

    @property
    def at_boundary(self) -> bool:
        """True when a checkpoint taken now loses nothing (for on-policy sources: between rollouts)."""
        ...

    def report(self) -> dict[str, float]:
        """Metrics of the source itself that are new since the last call (rollout statistics, epoch, ...)."""
        ...

    def state(self) -> dict[str, Any]:
        """JSON-able position and controllers."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue exactly after the batch at which `state` was taken."""
        ...


@dataclass
class Learner:
    """The module being trained together with its optimiser."""

    module: nn.Module
    """Everything that is trained or saved in a checkpoint."""
    forward: Callable[[Batch], Forward]
    """`module` applied to a micro-batch, with temperature, entropy and so on already bound."""
    optimizer: torch.optim.Optimizer
    """Its parameter groups carry the base learning rate in `initial_lr`."""
    schedule: Callable[[int], float]
    """Multiplier of the learning rate at optimiser step 0, 1, ..."""
    token_budget: int = 8192
    """Largest rows x length of a micro-batch, padding included."""
    flat: bool = False
    """Whether the module pays for no padding (`accord.models.trunk.lays_flat`), which decides where batches are cut."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global L2 norm; 0 switches clipping off."""
    step: int = 0
    """Optimiser steps done."""
    carried: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Tensors beside the trained ones that belong to the state and are changed in place (a reference that moves)."""
    memory: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON-able things that hooks remember from step to step; part of the state, so a resumed run remembers them."""

    @property
    def device(self) -> torch.device:
        """Device of the first parameter."""
        return next(self.module.parameters()).device

    def trainable(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name, tied weights once."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-able values from which `restore` continues bit for bit.

        The tensors are the live ones: write or copy them before the next step.
        """
        names = {id(p): name for name, p in self.module.named_parameters()}
        tensors = {f"module.{name}": p.detach() for name, p in self.trainable().items()}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                for key, value in self.optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value).detach()
        tensors |= {f"carried.{name}": tensor.detach() for name, tensor in self.carried.items()}
        return tensors, {"step": self.step, "memory": self.memory}

    def restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        """Load what `state` returned.

        Raises:
            TrainingError: the tensors are not those of this module: a name, shape or type differs.
        """
        trainable = self.trainable()
        saved = {k.removeprefix("module."): v for k, v in tensors.items() if k.startswith("module.")}
        kept = {k.removeprefix("carried."): v for k, v in tensors.items() if k.startswith("carried.")}
        unfit = (set(saved) ^ set(trainable)) | (set(kept) ^ set(self.carried))
        for found, own in ((saved, trainable), (kept, self.carried)):
            for name in set(found) & set(own):
                if (found[name].shape, found[name].dtype) != (own[name].shape, own[name].dtype):
                    unfit.add(name)
        if unfit:
            raise TrainingError(
                f"the checkpoint does not fit the model: parameter '{min(unfit)}' and {len(unfit) - 1} more",
                fix="remove the stage's .partial directory to start it again",
            )
        state: dict[str, dict[str, Tensor]] = {name: {} for name in trainable}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                name, _, entry = key.removeprefix("optimizer.").rpartition(".")
                # Everything of a fused optimiser, its step counter included, lives where the parameter does.
                state[name][entry] = value.to(trainable[name].device, copy=True)
        with torch.no_grad():
            for name, parameter in trainable.items():
                parameter.copy_(saved[name])
                self.optimizer.state.pop(parameter, None)
                if state[name]:
                    self.optimizer.state[parameter] = state[name]
            for name, tensor in self.carried.items():
                tensor.copy_(kept[name])
        self.step = int(meta["step"])
        self.memory = dict(meta["memory"])


@dataclass(frozen=True)
class StepInfo:
    """What hooks see after every optimiser step."""

    step: int
    """Optimiser steps done, this one included."""
    total: int
    """Steps this run will do."""
    metrics: dict[str, float]
    """Means of the step; hooks may add to it for the hooks after them."""
    learner: Learner
    source: Source


Hook = Callable[[StepInfo], bool | None]
"""Called after each step; returning True ends training, and the hooks behind it are not called any more.

So a checkpoint hook behind a guard never stores a step at which training ended: a run that is killed after an early
stop and run again comes to the same stop instead of walking past it.
"""


def update(learner: Learner, batch: Batch, objective: Objective) -> dict[str, float]:
    """Do one optimiser step on `batch`, in micro-batches within the token budget.

    Args:
        learner: module, optimiser and limits; changed in place.
        batch: the whole batch of this optimiser step.
        objective: gives the denominator for `batch` and the loss sum of each micro-batch.

    Returns:
        Every metric of the objective as sum / count, and `loss`, `grad_norm`, `learning_rate`.

    Raises:
        TrainingError: nothing to train on in the batch, or a loss or gradient that is not finite.
    """
    batch = prepared(objective, batch.to(learner.device), learner.forward, learner.token_budget)
    total = objective.denominator(batch).to(learner.device)
    if not bool(total > 0):
        raise TrainingError(
            "a batch has nothing to train on: its loss denominator is 0",
            where=f"optimiser step {learner.step + 1}, {batch.num_rows} rows",
            fix="look for empty completions or prompts that fill the whole max_length",
        )
    scale = learner.schedule(learner.step)
    for group in learner.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * scale
    learner.optimizer.zero_grad(set_to_none=True)

    loss_sum = torch.zeros((), dtype=torch.float64, device=learner.device)
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for micro in batch.split(learner.token_budget, flat=learner.flat):
        on_device = micro.to(learner.device)
        terms = objective(learner.forward(on_device), on_device)
        (terms.loss / total).backward()
        loss_sum += terms.loss.detach().double()
        _accumulate(sums, terms.metrics)

    parameters = [p for p in learner.module.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(parameters, learner.max_grad_norm or float("inf"))
    metrics = {name: float(s / c) for name, (s, c) in sums.items() if float(c) > 0}
    metrics |= {
        "loss": float(loss_sum / total),
        "grad_norm": float(norm),
        "learning_rate": float(learner.optimizer.param_groups[0]["lr"]),
    }
    if not torch.isfinite(norm) or not torch.isfinite(loss_sum):
        raise TrainingError(
            f"the loss or its gradient is not finite (loss {metrics['loss']}, gradient norm {metrics['grad_norm']})",
            where=f"optimiser step {learner.step + 1}",
            fix="lower learning_rate, check max_grad_norm, and look at the data of this step",
        )
    learner.optimizer.step()
    learner.step += 1
    return metrics


@torch.no_grad()
def prepared(objective: Objective, batch: Batch, forward: Callable[[Batch], Forward], token_budget: int) -> Batch:
    """The batch as `objective` wants it before it is cut; most objectives take it as it is."""
    return objective.prepare(batch, forward, token_budget) if isinstance(objective, WholeBatch) else batch


def _accumulate(sums: dict[str, tuple[Tensor, Tensor]], metrics: dict[str, Mean]) -> None:
    for name, mean in metrics.items():
        new_sum = torch.as_tensor(mean.sum, dtype=torch.float64).detach()
        new_count = torch.as_tensor(mean.count, dtype=torch.float64).detach()
        old_sum, old_count = sums.get(name, (torch.zeros_like(new_sum), torch.zeros_like(new_count)))
        sums[name] = (old_sum + new_sum, old_count + new_count)


def fit(learner: Learner, source: Source, objective: Objective, *, steps: int, hooks: Sequence[Hook] = ()) -> None:
    """Train until `learner.step == steps` or a hook asks to stop.

    Args:
        learner: where to start; `learner.step` may be past 0 after a resume.
        source: where batches come from.
        objective: what is minimised.
        steps: optimiser steps of the whole run, resumed part included.
        hooks: called in order after every step, up to the first that asks to stop.

    Raises:
        TrainingError: see `update`.
    """
    if learner.step >= steps:
        return
    batches = iter(source)
    while learner.step < steps:
        metrics = update(learner, next(batches), objective)
        info = StepInfo(learner.step, steps, metrics | source.report(), learner, source)
        if any(hook(info) for hook in hooks):
            return
