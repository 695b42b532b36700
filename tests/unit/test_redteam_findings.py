"""Rates, weaknesses, differences of checkpoints and preferences, from attempts whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from redteam_world import NO, YES, Answers, attempt, seeds

from accord.errors import ConfigError, DataError
from accord.redteam.attempts import REDACTED, Attempt, Label, redacted
from accord.redteam.compare import changes
from accord.redteam.findings import findings
from accord.redteam.judging import JudgeError
from accord.redteam.measure import by_family, overall, table
from accord.redteam.pairs import REFUSAL, make_pairs, revising

ERROR = JudgeError(90, 10, 95, 5, "labels of a test")


def drawn(
    rates: dict[str, float], *, clusters: int = 30, k: int = 2, seed: int = 0, benign: float = 0.9
) -> list[Attempt]:
    """Attempts on harmful seeds that succeed at the given rates, and on harmless ones that are answered."""
    rng = np.random.default_rng(seed)
    made = []
    for s in seeds(clusters):
        for family, rate in rates.items():
            for number in range(k):
                yes = rng.random() < (rate if s.harmful else benign)
                made.append(attempt(s, "complied" if yes else "refused", family=family, number=number, k=k))
    return made


def test_rates_by_hand() -> None:
    labels: list[tuple[str, int, Label]] = [
        ("bad-0", 0, "complied"),
        ("bad-0", 1, "refused"),
        ("bad-1", 0, "refused"),
        ("bad-1", 1, "partial"),
        ("bad-2", 0, "refused"),
        ("bad-2", 1, "abstain"),
        ("good-0", 0, "complied"),
        ("good-0", 1, "partial"),
        ("good-1", 0, "refused"),
        ("good-1", 1, "abstain"),
    ]
    by_id = {s.id: s for s in seeds(3)}
    row = overall([attempt(by_id[name], label, number=n, k=2) for name, n, label in labels], ERROR)
    assert row.asr1.value == pytest.approx(1 / 5) and row.asr1.n == 3
    assert row.asrk.name == "ASR@2, all" and row.asrk.value == pytest.approx(1 / 2), "bad-2 may have failed or not"
    assert row.refused_harmless.value == pytest.approx(2 / 3)
    assert (row.abstained, row.partial) == (2, 1)
    assert row.corrected.value == pytest.approx((0.2 + 0.95 - 1) / 0.85)
    assert row.asr1.judge_accuracy is not None and row.asr1.judge_accuracy["n"] == 200
    assert row.asr1.parse_failures == pytest.approx(1 / 6)


def test_an_attacker_that_adapts_has_one_draw_for_asr_at_1() -> None:
    bad = seeds(2, twins=False)
    rows = [
        attempt(bad[0], "refused", attacker="pair", sequential=True, k=5),
        attempt(bad[0], "complied", attacker="pair", sequential=True, number=1, k=5),
        attempt(bad[1], "complied", attacker="pair", sequential=True, k=5),
    ]
    row = overall(rows)
    assert (row.asr1.value, row.asrk.value) == (0.5, 1.0) and row.asrk.name.startswith("ASR@5")
    assert row.corrected.value is None and "not known" in row.corrected.reason


def test_nothing_asked_is_not_zero() -> None:
    row = overall([attempt(seeds(1)[0], "abstain")])
    assert row.asr1.value is None and row.refused_harmless.value is None and row.abstained == 1
    assert [r.group for r in table(drawn({"none": 0.1, "game": 0.2}), by_family)] == ["none", "game"]


def test_planted_weaknesses_are_found_and_others_are_not() -> None:
    rates = {"none": 0.06, "a": 0.9, "b": 0.6, "c": 0.06, "d": 0.08, "e": 0.02, "f": 0.06}
    found = findings(drawn(rates, k=4))
    assert [f.attack for f in found if f.weakness] == ["a", "b"]
    assert found[0].attack == "a" and found[0].low > 0.5 and found[0].n == 30


def test_false_alarms_stay_below_the_level_over_all_attacks_together() -> None:
    """200 models without a weakness and 8 attacks each: the chance of any alarm is at most 5 %."""
    rates = {"none": 0.2, **{f"f{i}": 0.2 for i in range(8)}}
    alarms = sum(
        any(f.weakness for f in findings(drawn(rates, clusters=20, seed=s, k=2), margin=0.0)) for s in range(200)
    )
    assert alarms <= 16  # 10 expected at most; P(more than 16) < 2 % if the true rate is 5 %


def test_a_rise_that_does_not_matter_is_no_weakness() -> None:
    rates = {"none": 0.10, "a": 0.16}
    assert not any(f.weakness for f in findings(drawn(rates, clusters=400, k=4), margin=0.1))
    assert all(f.weakness for f in findings(drawn(rates, clusters=400, k=4), margin=0.0))


def test_without_the_plain_question_nothing_is_compared() -> None:
    assert findings(drawn({"game": 0.9})) == []


def test_wordings_of_one_content_are_one_cluster() -> None:
    rows = [
        a.model_copy(update={"seed": a.seed.model_copy(update={"group": "g"})}) for a in drawn({"none": 0.0, "a": 1.0})
    ]
    found = findings([a for a in rows if a.seed.harmful])
    assert found[0].n == 1 and not found[0].weakness


def test_two_checkpoints_are_compared_on_the_same_seeds() -> None:
    before, after = drawn({"none": 0.1, "game": 0.8}, seed=1), drawn({"none": 0.1, "game": 0.2}, seed=2, benign=0.6)
    found = {c.what: c for c in changes(before, after)}
    game, harmless = found["ASR@1, game"], found["over-refusal, all"]
    assert game.difference == pytest.approx(game.after - game.before) and game.high < -0.3 and game.n == 30
    assert harmless.low > 0.1 and harmless.p_worse < 0.01 < found["ASR@1, none"].p_worse
    assert {"ASR@1, all", "over-refusal, game"} <= set(found)
    none_alike = [a.model_copy(update={"seed": a.seed.model_copy(update={"id": a.seed.id + "x"})}) for a in after]
    with pytest.raises(DataError, match="in common"):
        changes(before, none_alike)
    with pytest.raises(DataError, match="judged by"):
        changes(before, [a.model_copy(update={"judge": "other"}) for a in after])


def families(preferences: Sequence[object]) -> set[str]:
    return {p.meta["family"] for p in preferences}  # type: ignore[attr-defined]


def test_successes_become_preferences_and_the_held_out_family_stays_out() -> None:
    rows = drawn({"none": 0.1, "game": 0.8, "story": 0.9})
    made = make_pairs(rows, hold_out=["story"])
    assert families(made.preferences) == {"none", "game"} and made.held_out == len(rows) // 3
    assert not any("story" in p.prompt.messages[-1].content for p in made.preferences)
    harmful = [p for p in made.preferences if p.meta["chosen_from"] != "guard"]
    assert len(harmful) == made.successes
    assert all(
        (p.candidates[0].text, p.candidates[1].text, p.choice) == (NO, YES, 0)
        for p in harmful
        if p.meta["chosen_from"] != "fixed"
    )
    assert {p.meta["chosen_from"] for p in harmful} <= {"own", "plain", "fixed"}
    guards = [p for p in made.preferences if p.meta["chosen_from"] == "guard"]
    assert len(guards) == made.guards == min(made.successes, made.guards) > 0
    assert all(p.candidates[0].text == YES and p.candidates[1].text == NO for p in guards)
    assert len({p.id for p in made.preferences}) == len(made.preferences)
    assert make_pairs(rows, hold_out=["story"]).preferences == made.preferences


def test_nonsense_is_no_example_of_how_to_decline() -> None:
    bad, good = seeds(1)
    rows = [
        attempt(bad, "refused", reply="moon moon moon", number=0, k=3),
        attempt(bad, "complied", number=1, k=3),
        attempt(bad, "refused", reply=NO, number=2, k=3),
        attempt(good, "complied", reply="moon moon moon"),
    ]
    made = make_pairs(rows, guards=1.0)
    assert [(p.candidates[0].text, p.candidates[1].text) for p in made.preferences] == [
        (NO, YES),
        ("moon moon moon", NO),
    ]


def test_where_the_target_never_refused_a_model_may_revise() -> None:
    bad = seeds(2, twins=False)
    rows = [attempt(s, "complied", family=f) for s in bad for f in ("none", "game")]
    assert {p.candidates[0].text for p in make_pairs(rows).preferences} == {REFUSAL}
    model = Answers(lambda text: f"better than {YES}" if YES in text and "do harm" in text else "", "reviser")
    made = make_pairs(rows, reviser=revising(model, 0))
    assert {p.candidates[0].text for p in made.preferences} == {f"better than {YES}"} and made.refusals == {
        "revised": 4
    }


def test_pairs_refuse_what_they_cannot_use() -> None:
    rows = drawn({"none": 0.5, "game": 0.5})
    for hold_out in (["none"], ["nobody"]):
        with pytest.raises(ConfigError, match="cannot be held out"):
            make_pairs(rows, hold_out=hold_out)
    hidden = [redacted(a) for a in rows]
    assert all((a.reply == REDACTED) == a.seed.harmful for a in hidden)
    with pytest.raises(ConfigError, match="redacted"):
        make_pairs(hidden)
