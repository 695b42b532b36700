"""The judge of a stage: what its config names, made ready, and measured on labels before it is believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accord import lab
from accord.data import read
from accord.errors import ConfigError, RewardError
from accord.evals.gold import GoldJudge
from accord.evals.judged import Judged
from accord.evals.judging import GOLD, PEOPLE, JudgeChoice
from accord.judges.agreement import Agreement, agreement, labelled_pairs, require_agreement
from accord.judges.base import Comparison, Judge
from accord.judges.client import Limits
from accord.judges.llm import Style
from accord.judges.people import Place
from accord.judges.reward import RewardJudge
from accord.judges.wire import is_address
from accord.models.pair import device
from accord.pipeline import LAB, Context
from accord.stages.configs.evaluation import Judging
from accord.stages.people import LABELS
from accord.types import Completion, Preference, Prompt

CACHE = "judge-cache.db"
"""Replies of judges, in the run directory: they outlive the configuration they were paid for under."""


class ScoringJudge:
    """Gold or a reward model, as a function of the answers to fixed prompts."""

    def __init__(self, judge: GoldJudge | RewardJudge, prompts: Sequence[Prompt], location: str) -> None:
        """Wrap it.

        Args:
            judge: rates single replies.
            prompts: what is answered.
            location: of the model, for messages.
        """
        self.judge = judge
        self._prompts, self._location = prompts, location

    def __call__(self, answers: Sequence[Completion]) -> list[Judged]:
        """Judge one answer a prompt.

        Raises:
            RewardError: an answer gets no finite score.
        """
        if isinstance(self.judge, GoldJudge):
            golds = [lab.score(p, c.text) for p, c in zip(self._prompts, answers, strict=True)]
            return [Judged(g.utility, g.parts, g.labels) for g in golds]
        found = self.judge.rate([(p, c.text) for p, c in zip(self._prompts, answers, strict=True)])
        errors = [r.error for r in found if r.value is None]
        if errors:
            raise RewardError(
                f"the judge gives {len(errors)} of {len(found)} answers no finite score: {errors[0]}",
                where=self._location,
                fix="train the reward model again, or name another judge",
            )
        return [Judged(r.value) for r in found if r.value is not None]

    def preference(self, a: Judged, b: Judged) -> Comparison:
        """What the judge would say of two answers to one prompt.

        Args:
            a: one.
            b: the other.
        """
        if isinstance(self.judge, RewardJudge):
            return Comparison(self.judge.preference(a.value, b.value))
        return Comparison(0.5 if a.value == b.value else float(a.value > b.value))


def judge_of(name: str, ctx: Context, prompts: Sequence[Prompt]) -> ScoringJudge:
    """Gold or a reward model; loaded first, so that a wrong one costs no generation.

    Args:
        name: what the config field `judge` says.
        ctx: the running stage, with the input `judge`.
        prompts: what is answered.

    Raises:
        ConfigError: the lab is asked about prompts that are not its own.
        ModelError: the reward model cannot be loaded.
    """
    if name.startswith(LAB):
        if not all(lab.is_lab(p) for p in prompts):
            raise ConfigError(f"{name} knows the truth about lab prompts only", fix="name a reward model as judge")
        return ScoringJudge(GoldJudge(), prompts, GOLD)
    location = ctx.inputs["judge"].location
    return ScoringJudge(RewardJudge(location, name=name, device=device()), prompts, location)


def scores(cfg: Judging) -> bool:
    """Whether the judge gives every answer a number of its own; others compare two."""
    return not (is_address(cfg.judge) or cfg.judge == PEOPLE)


def choice_of(cfg: Judging, ctx: Context) -> JudgeChoice:
    """A judge that compares, as `evals.judging.open_judge` wants it.

    Args:
        cfg: of the running stage.
        ctx: the running stage.
    """
    return JudgeChoice(
        cfg.judge,
        model=cfg.judge_model or "",
        key_variable=cfg.judge_key_variable,
        style=Style(cfg.judge_how, cfg.judge_template, cfg.judge_samples),
        limits=Limits(
            timeout_s=cfg.judge_timeout,
            concurrency=cfg.judge_concurrency,
            max_calls=None if cfg.judge_max_calls < 0 else cfg.judge_max_calls,
        ),
        place=Place(cfg.database or str(ctx.work.run_dir / LABELS), cfg.project or ctx.work.stage, cfg.labels_per_item),
    )


def measured_judge(cfg: Judging, ctx: Context, judge: Judge) -> Agreement | None:
    """How often the judge agrees with `judge_labels`; None without them.

    Args:
        cfg: of the running stage.
        ctx: the running stage, with the input `judge_labels`.
        judge: to be measured.

    Raises:
        ConfigError: it may be no better than a coin, and `weak_judge` is refuse.
        DataError: the labels cannot be read or prefer nothing.
    """
    if cfg.judge_labels is None:
        return None
    source = ctx.inputs["judge_labels"]
    dataset = read(source.location, Preference)
    for line in dataset.describe():
        ctx.say(f"  {line}")
    pairs = labelled_pairs(list(dataset.records))
    left = len(dataset.records) - len(pairs)
    found = agreement(judge, pairs, on=Path(source.ref).name)
    note = f", {left} rows prefer no single reply" if left else ""
    ctx.say(
        f"  judge {judge.name}: agrees with {found.on} in {found.value:.3f} of {found.n} pairs "
        f"[{found.low:.3f}, {found.high:.3f}]{note}"
    )
    if not found.better_than_chance and cfg.weak_judge == "warn":
        ctx.say("  WARNING: this judge may be no better than a coin; nothing it says should be believed")
    require_agreement(found, cfg.weak_judge)
    return found
