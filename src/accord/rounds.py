"""Rounds: sections of the later rounds written from those of the first, so that they are stages like any other.

sample -> collect -> reward -> ppo -> sample_2 -> collect_2 -> reward_2 -> ppo_2 -> ...
          '---------------------------------------^ labels of the rounds before

Order, fingerprints, skipping what is done, continuing what was killed, waiting for people and lineage are the
pipeline's; nothing there knows of rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from accord.config import Rounds, Sections
from accord.errors import ConfigError
from accord.pipeline import Stage, input_fields, section_types, stage_of
from accord.yamlfile import Source

_START = "model_name_or_path"
"""Field of the model that training starts from."""


def sections_of(stages: Mapping[str, Stage]) -> Callable[[Source, Rounds | None], Sections]:
    """What `load_run_config` asks for the sections of a file: the rounds written out, then the type of each section."""

    def find(source: Source, rounds: Rounds | None) -> Sections:
        if rounds is not None:
            expand(source, rounds, stages)
        return section_types(source.data, stages)

    return find


def name_in(section: str, number: int) -> str:
    """Name of a section of round 1 in round `number`."""
    return section if number == 1 else f"{section}_{number}"


def expand(source: Source, rounds: Rounds, stages: Mapping[str, Stage]) -> None:
    """Write the sections of rounds 2, 3, ... into `source`, each key with the line of the key it was copied from.

    What a copy refers to is rewired: a section that is repeated becomes the one of the same round; the model that the
    policy starts from becomes the policy of the round before, in stages that draw replies and in `continued` ones.
    Evaluations outside the rounds get the models of all rounds beside that of the first.

    Args:
        source: the file with its overrides; changed in place.
        rounds: what to repeat.
        stages: every known stage by name.

    Raises:
        ConfigError: a section that is to be repeated is missing or is no stage, none of them makes a policy, or
            `labels` or `prompts` cannot be had with these sections.
    """
    plan = _Plan(source, rounds, stages, _policy(source, rounds, stages))
    order = [name for name in source.data if name in rounds.stages]
    if any(not isinstance(source.data[name] or {}, dict) for name in order):
        return  # said with its line when the section itself is validated
    written: dict[str, Any] = {}
    for number in range(2, rounds.count + 1):
        for section in order:
            written[name_in(section, number)] = plan.copy(section, number)
    for section in [name for name in source.data if name not in rounds.stages and name not in written]:
        plan.compare(section)
    data: dict[str, Any] = {}
    for name, value in source.data.items():
        if name not in written:
            data[name] = value
        if name == order[-1]:
            data |= written
    source.data.clear()
    source.data.update(data)


def _policy(source: Source, rounds: Rounds, stages: Mapping[str, Stage]) -> str:
    """The section whose policy the next round samples from; everything that is named is checked on the way."""
    makers: list[str] = []
    where = source.where(("rounds", "stages"))
    for name in rounds.stages:
        stage = stage_of(name, stages)
        if stage is None or name not in source.data:
            raise ConfigError(
                f"rounds repeat '{name}' and the config has no such section"
                if stage
                else f"rounds repeat '{name}', which is not a stage",
                where=where,
                fix=f"add '{name}:' or take it out of rounds.stages" if stage else f"use {', '.join(stages)}",
            )
        if stage.kind == "policy":
            makers.append(name)
        elif name == rounds.policy or name in rounds.continued:
            raise ConfigError(
                f"'{name}' makes no policy that a round could go on from",
                where=source.where(("rounds",)),
                fix=f"name one of {', '.join(makers)}" if makers else "name a stage that trains a policy",
            )
    if not makers:
        raise ConfigError(
            "none of the stages that are repeated trains a policy, so every round would be the same",
            where=where,
            fix="add ppo, dpo or another stage that trains a policy to rounds.stages",
        )
    return rounds.policy or makers[-1]


@dataclass(frozen=True)
class _Plan:
    source: Source
    rounds: Rounds
    stages: Mapping[str, Stage]
    policy: str

    def copy(self, section: str, number: int) -> dict[str, Any]:
        """The section of round `number`: that of round 1, rewired, under the keys the file gives for this round."""
        name = name_in(section, number)
        stage = self._stage(section)
        made = dict(self._raw(section))
        for field in input_fields(stage.config):
            value = self._value(section, field)
            rewired = self._rewire(section, field, value, number)
            if rewired != value:
                made[field] = rewired
        if self._draws(section) and name_in(self.policy, number - 1) not in map(_name, _flat(made)):
            raise ConfigError(
                f"{section} does not draw from the model that {self.policy} starts from, so every round would draw "
                "from the same one",
                where=self.source.where((section,)),
                fix=f"name {self._start(self.policy)} there, or rounds.policy",
            )
        if self.rounds.labels == "all" and "earlier" in stage.config.model_fields:
            made["earlier"] = name_in(section, number - 1)
        if made.get("labels") and "min_labels" in stage.config.model_fields and "labels" not in self._raw(name):
            raise ConfigError(
                f"{section}.labels is one file and every round needs its own",
                where=self.source.where((section, "labels")),
                fix=f"take it out (each round then has a file in the run directory), or give {name}.labels too",
            )
        if self.rounds.prompts == "next" and "skip_prompts" in stage.config.model_fields:
            made["skip_prompts"] = self._skip(section, number)
        for path, where in list(self.source.lines.items()):
            if path[:1] == (section,):
                self.source.lines.setdefault((name, *path[1:]), where)
        return made | self._raw(name)

    def compare(self, section: str) -> None:
        """Put the models of the later rounds into an evaluation that names those of the first."""
        stage = stage_of(section, self.stages)
        raw: Any = self.source.data[section]
        if stage is None or stage.kind != "results" or not isinstance(raw or {}, dict):
            return
        for field in input_fields(stage.config):
            value = self._value(section, field)
            if not isinstance(value, dict):
                continue
            found = cast(dict[str, Any], value)
            later = {
                name_in(key, number): _with_name(ref, name_in(_name(ref), number))
                for number in range(2, self.rounds.count + 1)
                for key, ref in found.items()
                if _name(ref) in self.rounds.stages
            }
            if later:
                # In the table they stand in the order in which they were made.
                where = self.source.where((section, field))
                self.source.data[section] = {**(raw or {}), field: {**found, **later, **found}}
                raw = self.source.data[section]
                self.source.lines.setdefault((section, field), where)

    def _rewire(self, section: str, field: str, value: Any, number: int) -> Any:
        if isinstance(value, dict):
            found: dict[str, Any] = {}
            for key, old in cast(dict[str, Any], value).items():
                new = self._rewire(section, field, old, number)
                # A name that was that of the old model would be a lie about the new one.
                found[new if key == old else key] = new
            return found
        if not isinstance(value, str):
            return value
        name = _name(value)
        if name in self.rounds.stages:
            return _with_name(value, name_in(name, number))
        if name != self._start(self.policy if self._draws(section) else section):
            return value
        if self._draws(section):
            return _with_name(value, name_in(self.policy, number - 1))
        if field == _START and section in self.rounds.continued:
            return _with_name(value, name_in(section, number - 1))
        return value

    def _draws(self, section: str) -> bool:
        return self._stage(section).kind == "samples"

    def _start(self, section: str) -> str | None:
        value = self._value(section, _START)
        return _name(value) if isinstance(value, str) else None

    def _skip(self, section: str, number: int) -> int:
        num, skip = self._value(section, "num_prompts"), self._value(section, "skip_prompts")
        if not isinstance(num, int) or not isinstance(skip, int) or num < 0:
            raise ConfigError(
                f"rounds.prompts is next, and {section}.num_prompts does not say how many a round takes",
                where=self.source.where((section, "num_prompts")),
                fix=f"set {section}.num_prompts",
            )
        return skip + (number - 1) * num

    def _stage(self, section: str) -> Stage:
        stage = stage_of(section, self.stages)
        assert stage is not None
        return stage

    def _raw(self, section: str) -> dict[str, Any]:
        value: Any = self.source.data.get(section)
        return cast(dict[str, Any], value) if isinstance(value, dict) else {}

    def _value(self, section: str, field: str) -> Any:
        """A key as the file has it, else its default."""
        known = self._stage(section).config.model_fields.get(field)
        default: Any = None if known is None or known.is_required() else known.get_default(call_default_factory=True)
        return self._raw(section).get(field, default)


def _flat(section: Mapping[str, Any]) -> list[Any]:
    """Values of a section, those of its mappings too."""
    return [v for x in section.values() for v in (cast(dict[str, Any], x).values() if isinstance(x, dict) else [x])]


def _name(reference: Any) -> str:
    return reference.partition(":")[0] if isinstance(reference, str) else ""


def _with_name(reference: str, name: str) -> str:
    """`split:train` under another name."""
    return name + "".join(reference.partition(":")[1:])
