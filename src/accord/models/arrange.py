"""Where the four models of RLHF live: one base with an adapter for each, or frozen models that wait in host memory.

`share_base` holds ONE set of base weights. The policy, the critic and the reward model are named LoRA adapters on it,
and the reference is the base with the adapters off, so that four models cost one and a few per cent.

`Parked` holds frozen models (a reference, a reward model) in host memory and lets them visit the device for the phase
that needs them.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn

from accord.batch import Batch, Forward
from accord.errors import ModelError
from accord.models.adapters import Adapter, base_digest, find_adapter, put_adapter, read_adapter
from accord.models.lora import activate, adapter_on, unwrap
from accord.models.policy import ActorCritic, CausalModel, ValueModel
from accord.models.trunk import last_state

POLICY, CRITIC, REWARD = "policy", "critic", "reward"


class AdapterScore(nn.Module):
    """A reward model that is an adapter and a head: the raw score of each row, read at its last real token."""

    def __init__(self, hf: PeftModel, head: nn.Linear, *, adapter: str = REWARD) -> None:
        """Wrap the shared base.

        Args:
            hf: with an adapter of that name.
            head: maps a hidden state to a score.
            adapter: name of the adapter.
        """
        super().__init__()
        self.hf = hf
        self.head = head
        self.adapter = adapter

    def forward(self, batch: Batch) -> Forward:
        """Return `score_B` in at least float32; the response mask is not read."""
        with adapter_on(self.hf, self.adapter):
            state_BD = last_state(unwrap(self.hf).base_model, batch)
        out_B = self.head(state_BD.to(self.head.weight.dtype)).squeeze(-1)
        return Forward(score_B=out_B.to(torch.promote_types(out_B.dtype, torch.float32)))


@dataclass(frozen=True)
class SharedBase:
    """Policy, critic and reward model over one base; the reference is `lora.adapters_off(policy)`."""

    policy: CausalModel
    """Trained: its adapter."""
    critic: ValueModel
    """Trained: its adapter and its head. It starts as the reward model (Ouyang et al. 2022, appendix C)."""
    reward: AdapterScore
    """Frozen; raw scores."""
    mean: float
    """Of the raw score on reference samples; `LearnedReward` subtracts it."""
    std: float
    """Of the raw score on reference samples; `LearnedReward` divides by it."""

    @property
    def module(self) -> ActorCritic:
        """What is trained and checkpointed: policy and critic. The base is in it once, and frozen."""
        return ActorCritic(self.policy, self.critic)


def share_base(policy: CausalModel, reward_location: str) -> SharedBase:
    """Put the reward model's adapter, and a critic's that starts as its copy, beside the policy's.

    Args:
        policy: made with LoRA; its adapter becomes the one the sampling engine uses.
        reward_location: directory of a reward model trained with LoRA from the same base.

    Raises:
        ModelError: the policy has no adapter, the reward model is not an adapter, or their bases differ.
    """
    hf = policy.hf
    if not isinstance(hf, PeftModel):
        raise ModelError("a shared base needs LoRA", fix="set use_peft: true, or arrangement: separate")
    directory = find_adapter(reward_location)
    if directory is None:
        raise ModelError(
            "the reward model is not a LoRA adapter, so it cannot share the policy's base",
            where=reward_location,
            fix="train it with use_peft: true, or set arrangement: separate",
        )
    adapter = read_adapter(directory)
    if adapter.head is None:
        raise ModelError("the adapter has no score head: it is not a reward model", where=str(directory))
    if adapter.base != base_digest(hf):
        raise ModelError(
            "the reward model's adapter was trained on another base than the policy's (or in another dtype)",
            where=str(directory),
            fix="train the reward model from the policy's model_name_or_path with the same dtype, "
            "or set arrangement: separate",
        )
    for name in (REWARD, CRITIC):
        put_adapter(hf, name, adapter)
    for key, parameter in hf.named_parameters():
        parameter.requires_grad_(parameter.requires_grad or f".{CRITIC}." in key)
    activate(hf, POLICY)
    policy.adapter = POLICY
    critic = ValueModel(hf, _critic_head(hf, adapter), adapter=CRITIC)
    head = _linear(hf, adapter.head, bias=False).requires_grad_(False)
    return SharedBase(policy, critic, AdapterScore(hf, head), adapter.mean, adapter.std)


def own_parameters(module: nn.Module, adapter: str) -> list[str]:
    """Names of the trained parameters of one adapter and of its head, as `module` calls them.

    With a shared base they hide under the policy's prefix, so a learning rate "of the critic" needs the names.
    """
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (f".{adapter}." in name or name.startswith(f"{adapter}."))
    ]


class Parked:
    """Frozen modules in host memory, and the one door to the device.

    The host copy stays while they visit: nothing is copied back. On a machine whose device is the processor nothing
    moves at all.
    """

    def __init__(
        self,
        *modules: nn.Module,
        device: torch.device,
        to: Callable[[Tensor, torch.device], Tensor] = lambda tensor, device: tensor.to(device, non_blocking=True),
    ) -> None:
        """Park the modules.

        Args:
            modules: frozen, and on the processor already or moved there now.
            device: where they work.
            to: copies a tensor to the device.

        Raises:
            ValueError: a parameter takes gradients, or belongs to something that is trained.
        """
        self.device = device
        self._to = to
        self._inside = 0
        self._host: list[tuple[Tensor, Tensor]] = []
        seen: set[int] = set()
        for tensor in (t for module in modules for t in (*module.parameters(), *module.buffers())):
            if tensor.requires_grad:
                raise ValueError("only frozen modules can be parked: a parameter takes gradients")
            if id(tensor) not in seen:
                seen.add(id(tensor))
                tensor.data = tensor.data.to("cpu")
                self._host.append((tensor, tensor.data))

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Run the block with the modules on the device; a visit within a visit moves nothing."""
        away = self.device.type != "cpu" and not self._inside
        self._inside += 1
        try:
            if away:
                for tensor, host in self._host:
                    tensor.data = self._to(host, self.device)
            yield
        finally:
            self._inside -= 1
            if away:
                for tensor, host in self._host:
                    tensor.data = host


def _critic_head(hf: PeftModel, adapter: Adapter) -> nn.Linear:
    """The score head with the normalisation in it, so that the first values are on the scale of the rewards."""
    assert adapter.head is not None
    head = _linear(hf, adapter.head / adapter.std, bias=True)
    with torch.no_grad():
        head.bias.fill_(-adapter.mean / adapter.std)
    return head


def _linear(hf: PeftModel, weight: Tensor, *, bias: bool) -> nn.Linear:
    inner = unwrap(hf)
    head = nn.Linear(weight.shape[1], 1, bias=bias, device=inner.device, dtype=weight.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head
