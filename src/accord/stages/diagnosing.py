"""Diagnosis while a policy is trained: signals every round, behaviour at every measurement, lights, alarms, actions.

Round 0 was written by the SFT model, and the first measurement is of it: they are what all later readings are compared
with. All state lies in `Learner.memory` (and the weights of the last good measurement in `Learner.carried`), so that a
killed run raises the same alarms at the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from accord.diagnose import judged, record
from accord.diagnose.behaviour import Asked, behaviour
from accord.diagnose.lights import LIGHTS, Change, Light, read_lights, worst
from accord.diagnose.readings import POOLED_ROUNDS, over, pooled, reply_values, round_readings
from accord.diagnose.rules import Reading, Rule, rules_of
from accord.diagnose.suspects import Pair, most_suspicious
from accord.pipeline import Context
from accord.rewards.base import RewardFn
from accord.stages.configs.diagnosis import DiagnosisConfig
from accord.stages.probe import Measured, Panel
from accord.train.loop import Learner, StepInfo
from accord.train.rollouts import OnPolicy
from accord.types import Completion, Rollout

MEMORY, GREEN = "diagnosis", "green."


@dataclass(frozen=True)
class Saturation:
    """Scores that are bounded: how to make them, and between which numbers they lie."""

    shaped: Callable[[Sequence[Rollout]], Sequence[float]]
    bounds: tuple[float, float]


@dataclass
class Monitor:
    """Looks on while a policy is trained; a `training.Watcher` and a `probe.Watch`."""

    cfg: DiagnosisConfig
    ctx: Context
    replies: OnPolicy
    """Whose rounds are read, and whose kl_coef is raised."""
    reward: RewardFn
    fixed: Panel
    """Prompts whose replies are shown beside the SFT model's."""
    panel: Panel | None
    """Behaviour prompts; None = none are asked."""
    asked: Sequence[Asked | None]
    """What the behaviour prompts are, in the order of the set; None in place of what was too long."""
    behaviours: Sequence[Asked]
    """The whole set."""
    module: nn.Module
    measures: bool
    """Whether there are measurements on held-out prompts."""
    judges: bool
    """Whether these have a judge."""
    q99: float | None = None
    saturation: Saturation | None = None
    rolled_back: bool = False
    alarms: list[str] = field(default_factory=list[str])
    _found: Measured | None = None
    _changes: list[tuple[Rule, Change]] = field(default_factory=list[tuple[Rule, Change]])

    def __post_init__(self) -> None:
        """Keep what the SFT model replies: the policy is that model until training begins."""
        self.rules = rules_of(self.cfg.red)
        self.sft = self._scored(self.fixed.completions())
        self.sft_behaviour: list[Completion] = [] if self.panel is None else self.panel.completions()
        keeps = self.cfg.action == "rollback"
        trained = ((n, p) for n, p in self.module.named_parameters() if p.requires_grad and keeps)
        self.carried: dict[str, Tensor] = {f"{GREEN}{n}": p.detach().to("cpu", copy=True) for n, p in trained}

    def begin(self, learner: Learner) -> None:
        """Start, or go on after a checkpoint."""
        record.forget_after(self.ctx.work.dir, learner.step)
        memory: dict[str, Any] = learner.memory.setdefault(
            MEMORY,
            {
                "first": {},
                "lowest": {},
                "recent": {},
                "last": {},
                "units": {},
                "lights": {},
                "path": [],
                "alarms": [],
                "kept": 0,
                "since_best": 0,
                "rate": 1.0,
            },
        )
        self.alarms[:] = [str(alarm["says"]) for alarm in memory["alarms"]]
        _scale_rate(learner, memory["rate"])
        if learner.step == 0 and self._found is not None:
            self._measurement(memory, 0, self._found)
        self._found = None

    def measured(self, found: Measured) -> Mapping[str, float]:
        """Take note of a measurement; what is returned is logged with it."""
        self._found = found
        units, _ = self._behaviour(found.more)
        return {name: sum(values) / len(values) for name, values in units.items()}

    def read(self, info: StepInfo) -> None:
        """Read the signals that this step has, update the lights, add metrics."""
        memory = info.learner.memory[MEMORY]
        self._changes = []
        fresh: dict[str, Reading] = {}
        if "round" in info.metrics and self.replies.rollouts:
            found = self._round(info.metrics)
            fresh |= found
            self._update(memory, "round", self._over_rounds(memory, found))
        if self._found is not None:
            found = self._measurement(memory, info.step, self._found)
            fresh |= found
            self._update(memory, "probe", found)
        if not fresh:
            return
        memory["last"] |= {name: list(reading) for name, reading in fresh.items()}
        info.metrics.update({f"signals/{name}": reading.value for name, reading in fresh.items()})
        info.metrics["signals/light"] = float(LIGHTS.index(worst(memory["lights"])))
        info.metrics["signals/alarm_light"] = float(LIGHTS.index(self._alarm_light(memory)))

    def act(self, info: StepInfo) -> bool:
        """Say and write what changed, keep good weights, do what an alarm asks for; True ends training."""
        memory = info.learner.memory[MEMORY]
        for rule, change in self._changes:
            self.ctx.say(f"  diagnosis, step {info.step}: {rule.name} {change.before} -> {change.after}: {rule.says}")
            if change.after == "red":
                self._alarm(memory, info, rule, change)
        red = any(change.after == "red" for _, change in self._changes)
        if red and self.cfg.action == "raise_kl":
            self.replies.kl_coef *= self.cfg.kl_factor
        if red and self.cfg.action == "lower_lr":
            memory["rate"] *= self.cfg.lr_factor
            _scale_rate(info.learner, self.cfg.lr_factor)
        self._keep(memory, info)
        ends = self._ends(memory, info, red)
        if ends and self.cfg.action == "rollback":
            self._roll_back(memory, info.learner)
        if self._found is not None or "round" in info.metrics:
            record.write_state(self.ctx.work.dir, self._state(memory, info.step))
        self._found, self._changes = None, []
        return ends

    def summary(self) -> dict[str, Any]:
        """Final numbers of the stage."""
        state = record.read_state(self.ctx.work.dir) or {}
        found: dict[str, Any] = {"light": state.get("light", "green"), "hack_alarms": list(self.alarms)}
        return found | ({"rolled_back_to": state.get("kept", 0)} if self.rolled_back else {})

    def _round(self, report: Mapping[str, float]) -> dict[str, Reading]:
        shaped, bounds = (None, None) if self.saturation is None else (self.saturation.shaped, self.saturation.bounds)
        found, _ = round_readings(self.replies.rollouts, report=report, q99=self.q99, shaped=shaped, bounds=bounds)
        return found

    def _over_rounds(self, memory: dict[str, Any], found: Mapping[str, Reading]) -> dict[str, Reading]:
        """The readings with correlations over the last rounds in place of those of one."""
        seen = dict(found)
        for name in found:
            if name.endswith("_corr"):
                recent = [*memory["recent"].get(name, []), list(found[name])][-POOLED_ROUNDS:]
                memory["recent"][name] = recent
                seen[name] = pooled([Reading(*values) for values in recent])
        return seen

    def _measurement(self, memory: dict[str, Any], step: int, found: Measured) -> dict[str, Reading]:
        """Readings of a measurement; the first one becomes what the others are compared with."""
        readings: dict[str, Reading] = {}
        units, _ = self._behaviour(found.more)
        for name, values in units.items():
            first = memory["units"].setdefault(name, values)
            readings[name] = over(values)
            readings[f"{name}_rise"] = over([b - a for a, b in zip(first, values, strict=True)])
        proxy = [None if r.score is None else r.score.value for r in found.rollouts]
        if found.gold is not None and all(value is not None for value in proxy):
            scores = tuple(value for value in proxy if value is not None)
            readings |= self._judged(memory, judged.Measurement(step, found.kl, scores, found.gold))
        return readings

    def _judged(self, memory: dict[str, Any], now: judged.Measurement) -> dict[str, Reading]:
        plain = {"step": now.step, "kl": now.kl, "proxy": list(now.proxy), "gold": list(now.gold)}
        start, best = (judged.Measurement(**memory.setdefault(name, plain)) for name in ("start", "best"))
        proxy = sum(now.proxy) / len(now.proxy)
        memory["path"].append([now.step, now.kl, proxy, now.mean, over(now.gold).error])
        memory["since_best"] += 1
        if now.mean > best.mean or now.step == best.step:
            memory["best"], memory["since_best"] = plain, 0
        found = {"gold_drop": judged.drop(now, best), "win_rate": judged.win_rate(now, start)}
        fitted = judged.over_optimisation([(kl, gold) for _, kl, _, gold, _ in memory["path"]])
        if fitted is not None and (peak := fitted[1]) is not None and math.isfinite(peak.kl):
            found["peak_kl"] = Reading(peak.kl, 0.0)
        return found

    def _update(self, memory: dict[str, Any], every: str, found: Mapping[str, Reading]) -> None:
        first, low = memory["first"], memory["lowest"]
        for name, reading in found.items():
            first.setdefault(name, list(reading))
            if reading.value <= low.setdefault(name, list(reading))[0]:
                low[name] = list(reading)
        rules = [rule for rule in self.rules if rule.every == every]
        base, lowest = ({name: Reading(*values) for name, values in table.items()} for table in (first, low))
        by_name = {rule.name: rule for rule in rules}
        changes = read_lights(rules, found, base, lowest, memory["lights"], self.cfg.patience)
        self._changes += [(by_name[change.rule], change) for change in changes]

    def _alarm(self, memory: dict[str, Any], info: StepInfo, rule: Rule, change: Change) -> None:
        says = f"step {info.step}: {rule.name}: {rule.says}"
        numbers = {c.signal: memory["last"][c.signal] for c in rule.conditions}
        first = {c.signal: memory["first"].get(c.signal) for c in rule.conditions}
        alarm = {
            "step": info.step,
            "rule": rule.name,
            "says": says,
            "progress": change.progress,
            "readings": numbers,
            "sft": first,
            "action": self.cfg.action,
        }
        memory["alarms"].append(alarm)
        self.alarms.append(says)
        suspects = most_suspicious(self._pairs(memory, rule), rule.ranks, self.cfg.num_samples)
        record.write_alarm(self.ctx.work.dir, alarm, suspects)

    def _pairs(self, memory: dict[str, Any], rule: Rule) -> list[Pair]:
        """Replies of now beside the SFT model's: behaviour prompts for what is read there, else the fixed ones."""
        if self.panel is not None and rule.name in ("over_refusal", "compliance", "sycophancy"):
            more = self.panel.completions() if self._found is None else self._found.more
            (_, now), (_, before) = self._behaviour(more), self._behaviour(self.sft_behaviour)
            rows = (self.panel.rollouts(more), self.panel.rollouts(self.sft_behaviour))
            keep = [i for i, asked in enumerate(self.asked) if asked is not None]
            values = ([now[i] for i in keep], [before[i] for i in keep])
            return [Pair(*four) for four in zip(*rows, *values, strict=True)]
        found = self._found
        rollouts = list(found.rollouts) if found is not None else self._scored(self.fixed.completions())
        gold = found.gold if found is not None else None
        before = memory["start"]["gold"] if "start" in memory else None
        return [
            Pair(
                r,
                s,
                reply_values(r),
                reply_values(s),
                None if gold is None else gold[i],
                None if before is None or gold is None else before[i],
            )
            for i, (r, s) in enumerate(zip(rollouts, self.sft, strict=True))
        ]

    def _keep(self, memory: dict[str, Any], info: StepInfo) -> None:
        """Copy the weights, when this is a place to come back to."""
        due = self._found is not None if self.measures else info.source.at_boundary
        if not due or not self._good(memory):
            return
        memory["kept"] = info.step
        if self.carried:
            with torch.no_grad():
                for name, parameter in info.learner.trainable().items():
                    self.carried[f"{GREEN}{name}"].copy_(parameter)

    def _good(self, memory: Mapping[str, Any]) -> bool:
        """With a judge: nothing better was measured yet. Without: no light that can be red is on."""
        if self._waits:
            return memory["since_best"] == 0
        return self._alarm_light(memory) == "green"

    def _alarm_light(self, memory: Mapping[str, Any]) -> Light:
        """The worst of the lights that can be red."""
        able = {rule.name for rule in self.rules if rule.most == "red"}
        return worst({name: own for name, own in memory["lights"].items() if name in able})

    @property
    def _waits(self) -> bool:
        return self.judges and self.cfg.wait_for_judge

    def _ends(self, memory: Mapping[str, Any], info: StepInfo, red: bool) -> bool:
        if self.cfg.action not in ("stop", "rollback"):
            return False
        if not self._waits:
            return red
        fallen = memory["lights"].get("gold_drop", {}).get("light") == "red"
        last = info.step == info.total and memory["since_best"] > 0
        return bool(memory["alarms"]) and (fallen or last)

    def _roll_back(self, memory: Mapping[str, Any], learner: Learner) -> None:
        with torch.no_grad():
            for name, parameter in learner.trainable().items():
                parameter.copy_(self.carried[f"{GREEN}{name}"])
        self.rolled_back = True
        self.ctx.say(f"  diagnosis: back to the weights of step {memory['kept']}")

    def _behaviour(self, more: Sequence[Completion]) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
        texts = iter(c.text for c in more)
        return behaviour(self.behaviours, [None if a is None else next(texts) for a in self.asked])

    def _scored(self, completions: Sequence[Completion]) -> list[Rollout]:
        rollouts = self.fixed.rollouts(completions)
        return [r.model_copy(update={"score": s}) for r, s in zip(rollouts, self.reward(rollouts), strict=True)]

    def _state(self, memory: Mapping[str, Any], step: int) -> dict[str, Any]:
        light: Light = worst(memory["lights"])
        return {
            "step": step,
            "light": light,
            "action": self.cfg.action,
            "lights": memory["lights"],
            "readings": dict(sorted(memory["last"].items())),
            "sft": memory["first"],
            "lowest": memory["lowest"],
            "rules": {
                r.name: {"says": r.says, "most": r.most, "limits": {c.signal: [c.scale, c.red] for c in r.conditions}}
                for r in self.rules
            },
            "path": memory["path"],
            "alarms": len(memory["alarms"]),
            "kept": memory["kept"],
            "rolled_back": self.rolled_back,
        }


def _scale_rate(learner: Learner, factor: float) -> None:
    """Multiply the base learning rates."""
    if factor != 1.0:
        for group in learner.optimizer.param_groups:
            group["initial_lr"] *= factor
