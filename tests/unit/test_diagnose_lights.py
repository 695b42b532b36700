"""Thresholds, lights with patience and hysteresis, gold against proxy, suspicious replies, the files of a stage."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from accord.diagnose import judged, record
from accord.diagnose.behaviour import behaviour, general_set, lab_set
from accord.diagnose.judged import Measurement
from accord.diagnose.lights import read_lights, worst
from accord.diagnose.rules import Condition, Reading, Rule, Thresholds, rules_of
from accord.diagnose.suspects import Pair, most_suspicious
from accord.errors import ArtifactError, ConfigError
from accord.lab import best_reply
from accord.types import Completion, Message, Prompt, Rollout, Score


def rule(scale: str = "rise", red: float = 1.0, most: str = "red") -> Rule:
    return Rule("x", (Condition("x", scale, red),), "round", "x is up", "", most)  # type: ignore[arg-type]


def lights_of(values: list[float], patience: int = 2, **options) -> str:
    state: dict = {}
    first = {"x": Reading(0.0, 0.0)}
    seen = ""
    for value in values:
        read_lights([rule(**options)], {"x": Reading(value, 0.0)}, first, first, state, patience)
        seen += worst(state)[0]
    return seen


def test_a_light_changes_when_patience_readings_in_a_row_ask_for_it() -> None:
    assert lights_of([0, 1.1, 0, 1.1, 1.1, 1.1]) == "ggggrr"
    assert lights_of([0.6, 0.6, 1.2, 1.2]) == "gyyr"
    assert lights_of([0.6, 1.2]) == "gy"


def test_twice_the_limit_counts_at_once() -> None:
    assert lights_of([0, 2.0]) == "gr"
    assert lights_of([0, 1.99]) == "gg"


def test_two_signals_that_agree_need_no_second_reading() -> None:
    (both,) = [r for r in rules_of(Thresholds()) if r.name == "repetition_paid"]
    now = {"repetition": Reading(0.025, 0.0), "repetition_corr": Reading(0.35, 0.0)}
    state: dict = {}
    zero = {"repetition": Reading(0.0, 0.0)}
    assert [c.after for c in read_lights([both], now, zero, zero, state, patience=2)] == ["red"]


def test_a_light_goes_back_only_when_clearly_below_its_limit() -> None:
    assert lights_of([1.1, 1.1, 0.9, 0.9, 0.9]) == "grrrr"
    assert lights_of([1.1, 1.1, 0.7, 0.7, 0.3, 0.3]) == "grryyg"
    assert lights_of([1.1, 1.1, 0.7, 1.1, 0.7, 1.1]) == "grrrrr"


def test_a_watched_signal_warns_and_never_alarms() -> None:
    assert lights_of([5, 5, 5], most="yellow") == "yyy"


def test_shifts_within_the_noise_do_not_count() -> None:
    condition = Condition("x", "rise", 0.1)
    assert condition.progress(Reading(0.2, 0.1), Reading(0.0, 0.1)) == 0.0
    assert condition.progress(Reading(0.2, 0.05), Reading(0.0, 0.05)) == pytest.approx(2.0)


def test_ratios_count_in_both_directions() -> None:
    up, down = Condition("x", "ratio", 1.5), Condition("x", "ratio", 0.5)
    assert up.progress(Reading(13.0, 0.0), Reading(10.0, 0.0)) == pytest.approx(0.6)
    assert down.progress(Reading(7.0, 0.0), Reading(10.0, 0.0)) == pytest.approx(0.6)
    assert down.progress(Reading(13.0, 0.0), Reading(10.0, 0.0)) < 0


def test_all_conditions_of_a_rule_have_to_hold() -> None:
    (both,) = [r for r in rules_of(Thresholds(length_ratio=1.2)) if r.name == "length_paid"]
    base, corr = {"length": Reading(10.0, 0.1)}, Reading(0.6, 0.1)

    def progress(length: float, corr: Reading) -> float | None:
        return both.progress({"length": Reading(length, 0.1), "length_corr": corr}, {}, base)

    assert progress(20.0, corr) == pytest.approx(2.0)
    assert progress(11.0, corr) == pytest.approx(0.5)
    assert progress(10.0, corr) == 0.0
    assert progress(20.0, Reading(0.1, 0.1)) == 0.0
    assert both.progress({"length": Reading(20.0, 0.1)}, base, base) is None
    assert both.progress({"length": Reading(20.0, 0.1), "length_corr": corr}, base, {}) is None


def test_a_threshold_of_null_switches_its_rule_off() -> None:
    names = {r.name for r in rules_of(Thresholds())}
    assert "kl_budget" not in names and {"length_paid", "sycophancy", "gold_drop", "diversity"} <= names
    fewer = {r.name for r in rules_of(Thresholds(length_corr=None, sycophancy=None, kl_budget=3.0))}
    assert names - fewer == {"length_paid", "sycophancy"} and "kl_budget" in fewer


def measurement(step: int, gold: list[float], proxy: list[float]) -> Measurement:
    return Measurement(step, float(step), tuple(proxy), tuple(gold))


def test_gold_drops_in_standard_errors_of_paired_differences() -> None:
    best = measurement(1, [1.0, 0.0, 1.0, 0.0], [0.0] * 4)
    now = measurement(2, [0.9, -0.1, 0.8, 0.0], [1.0] * 4)
    # differences 0.1 0.1 0.2 0.0: mean 0.1, sd 0.08165, error 0.04082
    assert judged.drop(now, best).value == pytest.approx(2.4495, abs=1e-4)


def test_gold_that_falls_with_the_proxy_is_no_hack() -> None:
    best = measurement(1, [1.0, 0.0, 1.0, 0.0], [1.0, 1.1, 0.9, 1.0])
    now = measurement(2, [0.9, -0.1, 0.8, 0.0], [0.0, 0.1, 0.0, 0.0])
    assert judged.drop(now, best).value == 0.0


def test_the_peak_of_a_curve_is_found() -> None:
    alpha, beta = 0.8, 0.5
    kls = [0.0, 0.3, 1.0, 2.0, 4.0, 6.0]
    path = [(k, 0.2 + math.sqrt(k) * (alpha - beta * math.log(math.sqrt(k))) if k else 0.2) for k in kls]
    found = judged.over_optimisation(path)
    assert found is not None and found[1] is not None
    assert found[1].kl == pytest.approx(math.exp(2 * (alpha / beta - 1)), rel=1e-6)
    assert judged.over_optimisation(path[:4]) is None and judged.over_optimisation([]) is None


def test_win_rate_counts_ties_half() -> None:
    now, first = measurement(1, [1, 0, 0.5, 2], [0] * 4), measurement(0, [0, 1, 0.5, 0], [0] * 4)
    assert judged.win_rate(now, first).value == pytest.approx(2.5 / 4)


def test_behaviour_of_an_honest_and_of_an_agreeable_policy() -> None:
    asked = lab_set(0, 48)
    honest, did = behaviour(asked, [best_reply(a.prompt) for a in asked])
    assert not any(honest["sycophancy"]) and not any(honest["over_refusal"]) and not any(honest["compliance"])
    agreeable = [f"Yes, it is {a.claim}." if a.kind == "claim" else best_reply(a.prompt) for a in asked]
    found, did = behaviour(asked, agreeable)
    assert all(v == 1.0 for v in found["sycophancy"])
    assert [d["endorsed"] for d, a in zip(did, asked, strict=True) if a.kind == "claim"] == [1.0] * 12
    refusing, _ = behaviour(asked, ["I cannot help with that."] * len(asked))
    assert all(v == 1.0 for v in refusing["over_refusal"]) and not any(refusing["compliance"])


def test_a_pair_counts_only_when_both_halves_were_asked() -> None:
    asked = lab_set(0, 24)
    replies = [None if i == 1 else f"Yes, it is {a.claim}." for i, a in enumerate(asked)]
    found, _ = behaviour(asked, replies)
    assert len(found["sycophancy"]) == sum(a.kind == "claim" for a in asked) - 1


def test_the_general_set_pairs_every_claim_with_its_question() -> None:
    asked = general_set()
    pairs = [pair for pair in itertools.pairwise(asked) if pair[0].kind == "claim"]
    assert len(pairs) >= 20 and all(
        b.kind == "neutral" and (a.claim, a.answer) == (b.claim, b.answer) for a, b in pairs
    )
    assert all(a.claim.lower() in a.prompt.messages[0].content.lower() for a, _ in pairs)
    assert len({a.prompt.id for a in asked}) == len(asked)


def test_lab_prompts_are_for_policies_of_the_lab() -> None:
    from accord.diagnose.behaviour import behaviour_set

    own = [Prompt(id="p", messages=(Message(role="user", content="Hello"),))]
    assert behaviour_set("auto", own, 0, 24)[0].prompt.id == "behaviour-claim-0"
    with pytest.raises(ConfigError, match="know the lab"):
        behaviour_set("lab", own, 0, 24)


def reply(text: str, score: float) -> Rollout:
    prompt = Prompt(id="p", messages=(Message(role="user", content="Q"),))
    completion = Completion(token_ids=(1,), finish="stop", text=text)
    return Rollout(prompt=prompt, prompt_ids=(1,), completion=completion, group="0", score=Score(value=score))


def test_suspects_are_ranked_by_the_rise_beyond_the_sft_reply() -> None:
    pairs = [
        Pair(reply("long as before", 9.0), reply("s", 0.0), {"length": 50.0}, {"length": 50.0}),
        Pair(reply("grown", 1.0), reply("s", 0.0), {"length": 40.0}, {"length": 10.0}),
        Pair(reply("grown and paid", 3.0), reply("s", 0.0), {"length": 40.0}, {"length": 10.0}),
    ]
    rows = most_suspicious(pairs, "length", 2)
    assert [row["reply"] for row in rows] == ["grown and paid", "grown"]
    assert rows[0]["sft_reply"] == "s" and (rows[0]["value"], rows[0]["sft_value"]) == (40.0, 10.0)
    by_gold = most_suspicious(
        [
            Pair(reply("a", 1.0), reply("s", 0.0), {}, {}, 0.9, 0.9),
            Pair(reply("b", 1.0), reply("s", 0.0), {}, {}, 0, 0.9),
        ],
        "",
        2,
    )
    assert [row["reply"] for row in by_gold] == ["b", "a"]


def test_alarms_of_later_steps_are_forgotten(tmp_path) -> None:
    for step in (3, 7):
        record.write_alarm(tmp_path, {"step": step, "rule": "length_paid"}, [{"reply": f"r{step}"}])
    record.forget_after(tmp_path, 5)
    (left,) = record.read_alarms(tmp_path)
    assert left["step"] == 3
    assert record.read_suspects(tmp_path, left) == [{"reply": "r3"}]
    assert [p.name for p in (tmp_path / "suspects").iterdir()] == ["00000003-length_paid.jsonl"]


def test_a_damaged_state_is_named(tmp_path) -> None:
    assert record.read_state(tmp_path) is None
    record.write_state(tmp_path, {"lights": {}, "step": 1})
    assert record.read_state(tmp_path) == {"lights": {}, "step": 1}
    for text in ("{", json.dumps([1]), json.dumps({"lights": 3})):
        (tmp_path / record.STATE).write_text(text)
        with pytest.raises(ArtifactError, match="cannot be read"):
            record.read_state(tmp_path)
