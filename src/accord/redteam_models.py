"""Models and judges that the commands of the red team name: directories, addresses, rules, reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from accord.errors import ConfigError

if TYPE_CHECKING:
    from accord.evals.answering import Answerer
    from accord.redteam.judging import HarmJudge

Models = dict[str, "Answerer"]
REWARD = "reward:"
"""Before the directory of a reward model that judges."""


def models_of(named: Mapping[str, tuple[str, str]], cache: Path) -> Models:
    """Prepare the models that are named; they are loaded when they are asked something.

    Args:
        named: role -> (directory or address, name at the address); an empty directory = no such model.
        cache: SQLite file of what they replied.

    Raises:
        ConfigError: an address without a name.
    """
    from accord.evals.answering import answerer_of

    return {role: answerer_of(spec, model=name, cache=cache) for role, (spec, name) in named.items() if spec}


def judge_of(
    names: Sequence[str],
    model: str,
    combine: Literal["majority", "cascade"],
    *,
    threshold: float,
    cost: bool,
    cache: Path,
) -> HarmJudge:
    """The judge that the options name.

    Args:
        names: refusal, lab, reward:DIRECTORY or an address; several are combined.
        model: name of the model at an address.
        combine: how.
        threshold: of a reward model.
        cost: whether its scale is one of costs.
        cache: SQLite file of what a model replied.

    Raises:
        ConfigError: a name means nothing, or an address has no model name.
    """
    from accord.redteam.judging import Cascade, Majority

    judges = [_one(name, model, threshold, cost, cache) for name in names]
    if len(judges) == 1:
        return judges[0]
    return Majority(judges) if combine == "majority" else Cascade(judges)


def _one(name: str, model: str, threshold: float, cost: bool, cache: Path) -> HarmJudge:
    from accord.redteam import judging

    if name == "refusal" or name == "lab":
        return judging.named(name)
    if name.startswith(REWARD):
        from accord.judges.reward import RewardJudge

        return judging.ThresholdJudge(RewardJudge(name.removeprefix(REWARD)), threshold, higher_is_harmful=cost)
    if name.startswith(("http://", "https://")):
        from accord.judges.client import ChatClient
        from accord.redteam.chat_judge import ChatJudge

        if not model:
            raise ConfigError("an address needs the name of the model there", where=name, fix="add --judge-model NAME")
        return ChatJudge(ChatClient(name, model, cache=cache))
    raise ConfigError(f"'{name}' is no judge", fix="use refusal, lab, reward:DIRECTORY or an address")
