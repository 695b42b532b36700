"""AlpacaEval with models of one's own: instructions answered, compared with a baseline's answers, length-controlled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from accord.data.rows import Row
from accord.errors import ConfigError
from accord.evals.constant_answers import most_repeated
from accord.evals.measured import Measured
from accord.evals.suites.base import Answers, Loaded, Report, one_turn
from accord.evals.suites.outcomes import mean_of
from accord.evals.suites.pairs import judged_by
from accord.evals.suites.rows import load, text, text_hash
from accord.judges.base import Judge
from accord.stats.length_glm import fitted_win_rate, is_extreme_change, length_feature
from accord.types import Message, Prompt


class AlpacaEval:
    """The suite: both orders are asked, where AlpacaEval draws one; a comparison is P(the model is better)."""

    name = "alpaca-eval"
    about = "instructions of one turn, compared with a baseline in both orders; win rate with length control"
    kind: Literal["answers"] = "answers"
    needs: Literal["comparison"] = "comparison"
    follow_up = one_turn

    def prompts(self, path: Path) -> Loaded[Prompt]:
        """Read instructions (`alpaca_eval.json`, or judged pairs); each text once."""
        seen: dict[str, Prompt] = {}

        def one(row: Row, where: str) -> Prompt:
            asked = text(row, "instruction")
            meta = {"dataset": str(row.get("dataset", "")), "where": where}
            made = Prompt(
                id=f"alpaca-eval-{text_hash(asked)}", messages=(Message(role="user", content=asked),), meta=meta
            )
            return seen.setdefault(asked, made)

        loaded = load(path, one, needs="instruction")
        return Loaded(tuple(seen.values()), loaded.bad, loaded.data_hash)

    def score(
        self,
        prompts: Sequence[Prompt],
        answers: Answers,
        *,
        judge: Judge | None = None,
        baseline: Answers | None = None,
    ) -> Report:
        """Return win rate, discrete and length-controlled win rate, and whether the answers are answers."""
        if judge is None or baseline is None:
            raise ConfigError("AlpacaEval needs a judge and a baseline", fix="give --judge and --baseline")
        ours, theirs = ([reply[0] for reply in who.replies] for who in (answers, baseline))
        said = judge.compare(list(zip(prompts, ours, theirs, strict=True)))
        read = [(i, c.p) for i, c in enumerate(said) if c.p is not None]
        against = f"{answers.name} against {baseline.name}"
        clusters = [prompts[i].id for i, _ in read]
        wins = [p for _, p in read]
        halves = [0.5 if p == 0.5 else float(p > 0.5) for p in wins]
        rows = [
            mean_of(f"win rate, {against}", wins, clusters),
            mean_of(f"discrete win rate, {against}", halves, clusters),
        ]
        notes: list[str] = []
        name = f"length-controlled win rate, {against}"
        try:
            lengths = length_feature([len(theirs[i]) for i, _ in read], [len(ours[i]) for i, _ in read])
            weights, found = fitted_win_rate(wins, lengths)
            if weights.model == 0.0:
                raise ValueError(f"with {len(read)} instructions the penalty shrinks the fit to exactly one half")
        except ValueError as error:
            rows.append(Measured(name, None, None, None, len(read), reason=str(error)))
        else:
            method = "GLM fitted here, no difficulty; influence function"
            rows.append(Measured(name, found.value, found.low, found.high, found.n, method=method))
            if is_extreme_change(100 * sum(wins) / len(wins), 100 * found.value):
                notes.append("Length control moves the win rate by more than 10 points and a quarter of the room.")
        rows = [judged_by(replace(row, judge=judge.name, prompt_hash=judge.prompt_hash), said) for row in rows]
        repeated = most_repeated(ours, [p.id for p in prompts], model=answers.name)
        rows.append(repeated.share)
        if repeated.flagged:
            notes.append(f"ALARM {answers.name}: {repeated.share.value:.0%} of its answers are one text.")
        return Report(f"AlpacaEval, {against}", tuple(rows), tuple(notes))
