"""The evaluation as numbers: utility and its parts by model, win rates, paired gains over the starting model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.report.formats import Estimate, estimate, finite, from_interval, number, signed_percent
from accord.report.names import MANY, model_name
from accord.report.runfiles import Run, mapping, sequence
from accord.stats import bootstrap_mean

TOTAL = "utility"
_SHOWN = 6
"""Models in a figure that cannot show all."""


@dataclass(frozen=True)
class Comparison:
    """Model a against model b on the same prompts; ties count half."""

    a: str
    b: str
    rate: Estimate
    wins: int | None = None
    ties: int | None = None
    losses: int | None = None
    length_a: float | None = None
    length_b: float | None = None

    @property
    def tone(self) -> str:
        """Whether the interval leaves one half on one side."""
        if self.rate.interval is None:
            return "plain"
        return "good" if self.rate.lower > 0.5 else "bad" if self.rate.upper < 0.5 else "caution"

    @property
    def length_change(self) -> float | None:
        """How much longer the answers of a are, as a share of those of b."""
        return self.length_a / self.length_b - 1 if self.length_a is not None and self.length_b else None

    @property
    def length_note(self) -> str:
        """Mean lengths of the answers of b and of a."""
        if self.length_a is None or self.length_b is None:
            return ""
        change = self.length_change
        more = f" ({signed_percent(change)})" if change is not None else ""
        return f"length {number(self.length_b)} \u2192 {number(self.length_a)}{more}"


@dataclass(frozen=True)
class Outcome:
    """What the evaluation found."""

    judge: str
    models: tuple[str, ...]
    reference: str | None
    """The model that the trained ones started from."""
    utility: Mapping[str, Estimate]
    parts: Mapping[str, Mapping[str, Estimate]]
    lengths: Mapping[str, float | None]
    kls: Mapping[str, float | None]
    comparisons: tuple[Comparison, ...]
    extra: Mapping[str, Any]
    gains: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    """Model -> part -> paired difference from the reference on the same prompts."""

    earlier: frozenset[str] = frozenset()
    """Models that were not made from the reference, such as what it was itself made from."""

    @property
    def trained(self) -> tuple[str, ...]:
        """The models that were made from the reference, as far as is known."""
        return tuple(m for m in self.models if m != self.reference and m not in self.earlier)

    @property
    def many(self) -> bool:
        """Whether there are more models than one figure can tell apart."""
        return len(self.models) > MANY

    @property
    def ranked(self) -> tuple[str, ...]:
        """The models from best to worst: by win rate against the reference, else by utility; unknown ones last."""

        def worth(model: str) -> tuple[bool, float]:
            against = self.against_reference(model)
            value = against.rate.value if against is not None else 0.5 if model == self.reference else None
            if value is None and not self.comparisons:
                value = self.utility[model].value if model in self.utility else None
            return (value is not None, value or 0.0)

        return tuple(sorted(self.models, key=worth, reverse=True))

    @property
    def shown(self) -> tuple[str, ...]:
        """The models of a figure that cannot show all, in their order: the reference, the best ones and the worst."""
        if not self.many:
            return self.models
        others = [m for m in self.ranked if m != self.reference]
        kept = {self.reference, *others[: _SHOWN - 2], others[-1]}
        return tuple(m for m in self.models if m in kept)

    @property
    def names(self) -> dict[str, str]:
        """What the models are called on the page."""
        return {m: model_name(m) for m in self.models}

    def against_reference(self, model: str) -> Comparison | None:
        """Return the comparison of a model with the reference, seen from the model."""
        for c in self.comparisons:
            if (c.a, c.b) == (model, self.reference):
                return c
            if (c.b, c.a) == (model, self.reference):
                return _flipped(c)
        return None


def read_outcome(run: Run) -> Outcome | None:
    """Read `results.json` and the gold scores in `answers.jsonl`; None when nothing was evaluated."""
    raw = run.json("results.json")
    if raw is None:
        return None
    models = mapping(raw.get("models"))
    comparisons = tuple(c for c in map(_comparison, sequence(raw.get("win_rates"))) if c is not None)
    in_pairs = [m for c in comparisons for m in (c.a, c.b)]
    names = list(dict.fromkeys([*map(str, models), *in_pairs]))
    told = raw.get("baseline")
    reference = told if isinstance(told, str) and told in names else next((c.b for c in comparisons), None)
    start = run.models.get(reference or "")
    made = {m: run.made_from(stage) for m in names if (stage := run.models.get(m)) is not None}
    parts = {
        m: {str(p): e for p, v in mapping(mapping(models.get(m)).get("parts")).items() if (e := estimate(v))}
        for m in names
    }
    outcome = Outcome(
        judge=str(raw.get("judge") or ""),
        models=tuple(names),
        reference=reference,
        utility={m: e for m in names if (e := estimate(mapping(models.get(m)).get("utility")))},
        parts=parts,
        lengths={m: finite(mapping(models.get(m)).get("length")) for m in names},
        kls={m: finite(mapping(models.get(m)).get("kl")) for m in names},
        comparisons=comparisons,
        extra=mapping(raw.get("extra")),
        earlier=frozenset(m for m, prints in made.items() if start is not None and start.fingerprint not in prints),
    )
    gains = _paired_gains(list(run.rows("answers.jsonl")), outcome)
    return Outcome(**{**outcome.__dict__, "gains": gains})


def _comparison(raw: Any) -> Comparison | None:
    row = mapping(raw)
    rate = estimate({**row, "value": row.get("win_rate")})
    if rate is None:
        return None
    counts = {key: finite(row.get(key)) for key in ("wins", "ties", "losses")}
    return Comparison(
        str(row.get("a", "")), str(row.get("b", "")), rate,
        **{key: None if count is None else int(count) for key, count in counts.items()},
        length_a=finite(row.get("length_a")), length_b=finite(row.get("length_b")),
    )  # fmt: skip


def _flipped(c: Comparison) -> Comparison:
    low, high = c.rate.low, c.rate.high
    rate = Estimate(1 - c.rate.value, None if high is None else 1 - high, None if low is None else 1 - low, c.rate.n)
    return Comparison(c.b, c.a, rate, c.losses, c.ties, c.wins, c.length_b, c.length_a)


def _paired_gains(rows: Sequence[Mapping[str, Any]], outcome: Outcome) -> dict[str, dict[str, Estimate]]:
    """Mean differences from the reference on the same prompts, with bootstrap 95 % intervals."""
    differences: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        gold = mapping(row.get("gold"))
        start = _gold_values(gold.get(outcome.reference or ""))
        for model in outcome.models:
            if model == outcome.reference:
                continue
            for part, value in _gold_values(gold.get(model)).items():
                if part in start:
                    differences.setdefault(model, {}).setdefault(part, []).append(value - start[part])
    return {
        model: {part: from_interval(bootstrap_mean(values)) for part, values in by_part.items()}
        for model, by_part in differences.items()
    }


def _gold_values(raw: Any) -> dict[str, float]:
    gold = mapping(raw)
    values = {TOTAL: gold.get(TOTAL), **mapping(gold.get("parts"))}
    return {str(part): x for part, v in values.items() if (x := finite(v)) is not None}
