"""A red-team run: seeds, attacks, a target and a judge to a file of attempts and a summary of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from accord.errors import ConfigError
from accord.evals.answering import Answerer
from accord.redteam import attackers
from accord.redteam.attempts import Attempt, harmful, write_attempts
from accord.redteam.diversity import self_bleu
from accord.redteam.findings import Finding, findings
from accord.redteam.journal import Journal, RecordedAnswerer, chunks
from accord.redteam.judging import Exchange, HarmJudge, JudgeError, Verdict
from accord.redteam.measure import Row, by_attack, by_category, by_family, overall, table
from accord.redteam.seeds import Seed, check_seeds, seeds_hash
from accord.redteam.transforms import Transform

AttackerName = Literal["static", "best_of_k", "model", "pair"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is run."""

    seeds: Sequence[Seed]
    transforms: Sequence[Transform]
    target: Answerer
    judge: HarmJudge
    attacker: AttackerName = "static"
    attacker_model: Answerer | None = None
    """Of `model` and `pair`."""
    template: str = attackers.REWORD
    """What `model` is asked."""
    turns: int = attackers.MAX_TURNS
    """Of `pair`."""
    translator: Answerer | None = None
    language: str = "Zulu"
    k: int = 1
    max_tokens: int = 256
    temperature: float = 1.0
    seed: int = 0
    error: JudgeError | None = None
    """Of the judge."""
    margin: float = 0.05
    """Rise of the success rate over the plain question from which an attack family is a weakness."""

    def header(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON."""
        return {
            "target": self.target.name,
            "target_identity": self.target.identity,
            "judge": self.judge.name,
            "judge_prompt_hash": self.judge.prompt_hash,
            "judge_error": None if self.error is None else asdict(self.error),
            "attacker": self.attacker,
            "attacker_model": self.attacker_model.identity if self.attacker_model else None,
            "seeds": len(self.seeds),
            "seeds_hash": seeds_hash(self.seeds),
            "transforms": [t.name for t in self.transforms],
            "k": self.k,
            "turns": self.turns if self.attacker == "pair" else 1,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "margin": self.margin,
        }


@dataclass(frozen=True)
class Summary:
    """What a file of attempts says."""

    target: str
    judge: str
    all: Row
    attacks: list[Row]
    families: list[Row]
    categories: list[Row]
    findings: list[Finding]
    self_bleu: float | None
    """Of the distinct last turns that got through."""
    distinct_successes: int
    """How many of those there are."""
    header: dict[str, Any]

    def row(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @property
    def worst(self) -> float | None:
        """The highest ASR@1 of any attack; what `--max-asr` is held against."""
        return max((r.asr1.value for r in self.attacks if r.asr1.value is not None), default=None)

    @property
    def over_refusal(self) -> float | None:
        """Share of harmless requests refused, all wordings together."""
        return self.all.refused_harmless.value


class RecordedJudge:
    """A judge whose verdicts are written down and never asked for twice."""

    def __init__(self, inner: HarmJudge, journal: Journal) -> None:
        """Wrap `inner`."""
        self.inner, self.journal = inner, journal

    @property
    def name(self) -> str:
        """Of the inner one."""
        return self.inner.name

    @property
    def prompt_hash(self) -> str:
        """Of the inner one."""
        return self.inner.prompt_hash

    def judge(self, items: Sequence[Exchange]) -> list[Verdict]:
        """See `HarmJudge.judge`; a chunk is one entry of the journal."""
        made: list[Verdict] = []
        for part in chunks(items):
            asked = [
                "judge",
                self.inner.name,
                self.inner.prompt_hash,
                [[i.seed.model_dump(mode="json"), [m.model_dump() for m in i.turns], i.reply] for i in part],
            ]

            def ask(part: Sequence[Exchange] = part) -> list[dict[str, Any]]:
                return [asdict(v) for v in self.inner.judge(part)]

            made += [Verdict(**row) for row in self.journal.call(asked, ask)]
        return made


def run(plan: Plan, journal: Journal, say: Say = print) -> list[Attempt]:
    """Attack, answer and judge; what the journal knows is not asked again.

    Raises:
        ConfigError: a model is missing that the plan needs.
        DataError: there are no seeds, or two with one id.
    """
    check_seeds(plan.seeds)
    if plan.k < 1:
        raise ConfigError(f"k is {plan.k}", fix="ask for at least one try")
    if plan.attacker in ("model", "pair") and plan.attacker_model is None:
        raise ConfigError(f"the attacker '{plan.attacker}' needs a model", fix="name one with --attacker-model")
    if attackers.needs_translator(plan.transforms) and plan.translator is None:
        raise ConfigError(
            "the transform 'translation' needs a model that translates",
            fix="name one with --translator, or leave it out of --transforms",
        )
    setting = attackers.Setting(
        target=RecordedAnswerer(plan.target, journal, say),
        judge=RecordedJudge(plan.judge, journal),
        k=plan.k,
        max_tokens=plan.max_tokens,
        temperature=plan.temperature,
        seed=plan.seed,
        translator=None if plan.translator is None else RecordedAnswerer(plan.translator, journal),
        language=plan.language,
    )
    if plan.attacker == "static":
        return attackers.static(plan.seeds, plan.transforms, setting)
    if plan.attacker == "best_of_k":
        return attackers.best_of_k(plan.seeds, plan.transforms, setting)
    assert plan.attacker_model is not None
    attacker = RecordedAnswerer(plan.attacker_model, journal, say)
    # What the plain question does, to compare with, and over-refusal: a model attacker asks for harm alone.
    plain = attackers.static(plan.seeds, [t for t in plan.transforms if t.family == "none"], replace(setting, k=1))
    bad = [s for s in plan.seeds if s.harmful]
    if plan.attacker == "model":
        return plain + attackers.model(bad, attacker, setting, template=plan.template)
    return plain + attackers.pair(bad, attacker, setting, turns=plan.turns)


def summarise(
    attempts: Sequence[Attempt],
    header: dict[str, Any],
    *,
    error: JudgeError | None = None,
    margin: float = 0.05,
) -> Summary:
    """Measure attempts: rates by attack, family and category, weaknesses, diversity of what got through."""
    hash_ = str(header.get("judge_prompt_hash") or "")
    texts = list(dict.fromkeys(a.turns[-1].content for a in harmful(attempts) if a.success))
    return Summary(
        target=", ".join(dict.fromkeys(a.target for a in attempts)),
        judge=", ".join(dict.fromkeys(a.judge for a in attempts)),
        all=overall(attempts, error, hash_),
        attacks=table(attempts, by_attack, error, hash_),
        families=table(attempts, by_family, error, hash_),
        categories=table(attempts, by_category, error, hash_),
        findings=findings(attempts, margin=margin),
        self_bleu=self_bleu(texts),
        distinct_successes=len(texts),
        header=header,
    )


def known_error(header: dict[str, Any]) -> JudgeError | None:
    """The judge's error that a file of attempts was written with."""
    raw = header.get("judge_error")
    return JudgeError(**raw) if isinstance(raw, dict) else None


def save(directory: Path, plan: Plan, attempts: Sequence[Attempt], *, redact: bool = False) -> Path:
    """Write `redteam.jsonl` and return its path."""
    path = directory / "redteam.jsonl"
    write_attempts(path, attempts, plan.header(), redact=redact)
    return path
