"""The quality report: what it recovers from pools with known faults, what it does not invent, and its two commands."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from quality_pool import Fault, pool_preferences
from typer.testing import CliRunner

from accord.cli import app
from accord.collect.quality.audit import POSITION, audit, with_alarms
from accord.collect.quality.conduct import conduct
from accord.collect.quality.features import FEATURES
from accord.collect.quality.judged import judged
from accord.collect.quality.load import select_slice
from accord.collect.quality.report import quality_report
from accord.collect.quality.text import as_html, as_text
from accord.stats.mixed_logit import mixed_logit, one_effect, partial_pooling
from accord.stats.multiple import benjamini_hochberg
from accord.stats.panel import Bootstrap
from accord.stats.power import Design, comparisons_needed, labels_for_agreement, minimum_detectable, power_of
from accord.types import Candidate, Message, Preference, Prompt

CLEAN = [Fault(skill=s) for s in (1.3, 1.2, 1.1, 1.0, 1.0, 0.9, 0.8, 0.7)]
FEW = Bootstrap(num=100)


def alarms(preferences):
    data = judged(preferences)
    return [f for f in with_alarms([*audit(data), *conduct(data)[1]]) if f.alarm]


def effect(preferences, what):
    return next(f for f in audit(judged(preferences)) if f.scope == "all" and f.what == what)


@pytest.mark.slow
def test_injected_biases_are_recovered_within_their_intervals():
    faults = [replace(f, position=0.5, length=0.6) for f in CLEAN]
    inside = {"position": 0, "length": 0}
    for seed in range(8):
        preferences = pool_preferences(seed, faults, prompts=350)
        for what, truth in (("position", 0.5), ("length", 0.6)):
            found = effect(preferences, what)
            inside[what] += found.low <= truth <= found.high
            assert found.value > 0.15
    assert all(n >= 7 for n in inside.values()), inside


def test_without_integrating_over_pairs_the_bias_would_be_too_small():
    preferences = pool_preferences(3, [replace(f, position=0.8) for f in CLEAN], prompts=800, spread=2.0)
    rows = [j for j in judged(preferences).judgements if j.upper is not None]
    y, x = np.array([float(j.upper) for j in rows]), np.ones((len(rows), 1))
    apart = mixed_logit(y, x, units=range(len(rows)), signs=np.ones(len(rows)), clusters=[j.prompt for j in rows])
    found = effect(preferences, POSITION)
    assert apart.spread == 0.0 and apart.value[0] < 0.65
    assert found.low < 0.8 < found.high


@pytest.mark.slow
def test_clean_annotators_raise_few_alarms():
    raised = sum(bool(alarms(pool_preferences(1000 + seed, CLEAN, prompts=120))) for seed in range(15))
    assert raised <= 3  # benchmarks/collect_quality.py does 200


def test_an_annotator_who_leans_or_hurries_is_named():
    faults = [*CLEAN[:6], Fault(skill=0.0, position=2.0), Fault(hasty=0.7)]
    wrong = 0
    for seed in range(1, 5):
        found = {(f.who, f.what) for f in alarms(pool_preferences(seed, faults))}
        assert ("ann-6", POSITION) in found
        assert ("ann-7", "faster than one can read") in found
        wrong += sum(who in {f"ann-{k}" for k in range(6)} for who, _ in found)
    assert wrong <= 1


def test_repeats_tell_noise_from_a_lean():
    faults = [Fault(skill=0.2), Fault(skill=0.2, position=2.0), *CLEAN[:3]]
    data = judged(pool_preferences(2, faults, prompts=250, repeats=0.5))
    people, findings = conduct(data)
    assert people["ann-0"].consistent == pytest.approx(0.5, abs=0.12)
    named = {f.who: f for f in findings if "swapped repeat" in f.what}
    assert named["ann-1"].value > 0.8 and named["ann-1"].p_value < 1e-4
    assert named["ann-0"].p_value > 0.01
    # A repeat is no second opinion.
    assert len(data.votes) == 750 and sum(j.repeat for j in data.judgements) > 300


def test_streaks_and_alternation_are_seen():
    preferences = pool_preferences(4, CLEAN[:3], prompts=100)

    def with_sides(sides):
        own = iter(sides)
        return [
            p.model_copy(update={"choice": p.order_shown[0 if next(own) else 1]}) if p.annotator == "ann-0" else p
            for p in preferences
        ]

    z = {}
    for name, sides in (("alternating", [k % 2 for k in range(100)]), ("blocks", [k // 20 % 2 for k in range(100)])):
        people, findings = conduct(judged(with_sides(sides)))
        found = next(f for f in findings if f.what == "pattern of sides" and f.who == "ann-0")
        assert found.p_value < 1e-6
        z[name] = found.value
    assert z["alternating"] > 0 > z["blocks"]
    assert people["ann-0"].longest_streak == 20


def test_probe_pairs_measure_sycophancy():
    preferences = [
        p.model_copy(update={"choice": 0 if k % 5 else 1, "meta": {"probe": {"kind": "sycophancy", "index": 0}}})
        for k, p in enumerate(pool_preferences(6, CLEAN[:2], prompts=60, labels=1))
    ]
    found = next(f for f in conduct(judged(preferences))[1] if "sycophancy" in f.what)
    assert found.value == pytest.approx(0.8) and found.p_value < 0.001


def test_names_of_the_replies_change_nothing_but_the_second_column():
    preferences = pool_preferences(7, CLEAN, prompts=80, ties=0.1)
    turned = [
        p.model_copy(
            update={
                "candidates": p.candidates[::-1],
                "choice": None if p.choice is None else 1 - p.choice,
                "order_shown": tuple(1 - k for k in p.order_shown),
            }
        )
        if int(p.prompt.id[1:]) % 3
        else p
        for p in preferences
    ]
    one, other = quality_report(preferences, how=FEW), quality_report(turned, how=FEW)
    assert one.agreement.raw == other.agreement.raw
    for a, b in zip(one.agreement.coefficients, other.agreement.coefficients, strict=True):
        assert a.symmetric.value == pytest.approx(b.symmetric.value, abs=1e-9)
    for a, b in zip(one.findings, other.findings, strict=True):
        assert (a.who, a.what) == (b.who, b.what)
        assert a.value == b.value or a.value == pytest.approx(b.value, abs=1e-3)


def test_a_report_without_overlap_order_or_time_says_what_is_missing():
    bare = [
        p.model_copy(update={"order_shown": None, "seconds": None, "annotator": ""})
        for p in pool_preferences(8, CLEAN, prompts=40, labels=1)
    ]
    report = quality_report(bare, how=FEW)
    assert report.agreement.raw.value is None and "two annotators" in report.agreement.raw.reason
    assert next(f for f in report.findings if f.what == POSITION).reason == "the order shown was not recorded"
    few = quality_report(pool_preferences(8, CLEAN, prompts=10, labels=2), how=FEW)
    assert next(f for f in few.findings if f.what == POSITION).reason.startswith(
        "the order shown is known for 20 of 20"
    )
    assert report.people == () and report.resolved is None
    told = json.loads(report.to_json())
    assert told["agreement"]["raw"]["value"] is None
    assert "two annotators" in as_text(report)


def ranking(i, who, order):
    return Preference(
        id=f"{i}-{who}",
        prompt=Prompt(id=f"p{i}", messages=(Message(role="user", content=f"q{i}"),)),
        candidates=tuple(Candidate(text=t) for t in "abc"),
        ranking=tuple((k,) for k in order),
        annotator=who,
        meta={"ratings": [7 - order.index(k) for k in range(3)]},
    )


def test_rankings_and_ratings_have_their_own_agreement():
    given = [ranking(i, who, order) for i in range(6) for who, order in (("x", (0, 1, 2)), ("y", (0, 2, 1)))]
    report = quality_report(given, how=FEW)
    assert report.rankings["tau_b"].value == pytest.approx(1 / 3)
    assert report.rankings["w"].value == pytest.approx(0.75)
    assert report.ratings["raw"].value == pytest.approx(1 / 3)
    text = as_text(report)
    assert "rankings:" in text and "ratings:" in text


def test_agreement_is_estimated_on_the_random_slice():
    preferences = [
        p.model_copy(update={"meta": {"slice": "random" if k % 2 else "active"}})
        for k, p in enumerate(pool_preferences(9, CLEAN, prompts=20))
    ]
    chosen, note = select_slice(preferences)
    assert len(chosen) == 30 and "random slice" in note
    assert "chosen by a policy" in select_slice(preferences, "all")[1]
    tests = [p.model_copy(update={"meta": {**p.meta, "gold": True}}) for p in preferences[:6]]
    assert select_slice([*tests, *preferences[6:]])[0] == chosen[3:], "hidden tests are no ordinary pairs"


def test_what_stood_first_is_known_whichever_reply_is_named_first():
    def said(names: str, shown: tuple[int, int], wanted: str, who: str) -> Preference:
        prompt = Prompt(id="p", messages=(Message(role="user", content="Q"),))
        replies = tuple(Candidate(text=name) for name in names)
        return Preference(
            id=who, prompt=prompt, candidates=replies, choice=names.index(wanted), annotator=who, order_shown=shown
        )

    given = [said("ab", (0, 1), "a", "u"), said("ab", (1, 0), "a", "v"), said("ba", (1, 0), "a", "w")]
    found = judged([*given, said("ba", (0, 1), "b", "x")]).judgements
    assert [j.texts[0] for j in found] == ["a", "b", "a", "b"]
    assert [j.turned for j in found] == [False, True, False, True]
    assert [j.upper for j in found] == [True, False, True, True]
    assert [j.verdict for j in found] == ["first", "first", "first", "second"]


def test_features_of_replies():
    marked = "# Title\n\n- one\n- two **bold**"
    assert FEATURES["markdown"](marked) > FEATURES["markdown"]("- one") > FEATURES["markdown"]("plain") == 0
    for name, yes, no in (
        ("hedging", "It may be so.", "It is so."),
        ("apology", "Sorry, no.", "No."),
        ("refusal", "I cannot help with that.", "Here it is."),
        ("agreement", "You're absolutely right, 2 + 2 = 5.", "No, it is 4."),
    ):
        assert (FEATURES[name](yes), FEATURES[name](no)) == (1.0, 0.0), name


def test_benjamini_hochberg_by_hand():
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).tolist() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert benjamini_hochberg([]).tolist() == []
    stats = pytest.importorskip("scipy.stats")
    p = np.random.default_rng(0).uniform(size=50) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-12)


def test_logistic_regression_without_repeats_is_that_of_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(1)
    x = np.stack([np.ones(400), random.normal(size=400)], axis=1)
    y = (random.random(400) < 1 / (1 + np.exp(-(0.3 + 0.8 * x[:, 1])))).astype(float)
    groups = np.repeat(np.arange(100), 4)
    found = mixed_logit(y, x, units=range(400), signs=np.ones(400), clusters=groups.tolist())
    theirs = api.Logit(y, x).fit(disp=0, cov_type="cluster", cov_kwds={"groups": groups})
    np.testing.assert_allclose(found.value, theirs.params, atol=0.01)
    np.testing.assert_allclose(found.error, theirs.bse, rtol=0.02)
    alone = one_effect(y, x[:, 1], 0.3 * x[:, 0], spread=0.0, clusters=range(400), prior_sd=100.0)
    assert alone.value == pytest.approx(float(theirs.params[1]), abs=0.05)


def test_pooling_moves_uncertain_estimates_most():
    drawn = partial_pooling(np.array([0.0, 0.1, -0.1, 2.0, 2.0]), np.array([0.1, 0.1, 0.1, 0.1, 1.5]))
    assert drawn.value[3] > 1.8 > drawn.value[4]
    same = partial_pooling(np.array([0.2, 0.2, 0.2]), np.array([0.3, 0.3, 0.3]))
    assert same.spread == 0.0 and same.value.tolist() == pytest.approx([0.2, 0.2, 0.2])


def test_sample_sizes_are_those_published():
    assert [comparisons_needed(p) for p in (0.51, 0.525, 0.55, 0.575, 0.6, 0.65)] == [19620, 3138, 783, 347, 194, 85]
    assert comparisons_needed(0.55, Design(labels_per_prompt=5, icc=0.3)) == 1722
    assert comparisons_needed(0.45) == 783
    assert minimum_detectable(783) == pytest.approx(0.55, abs=1e-4)
    assert power_of(0.55, 783) == pytest.approx(0.8, abs=1e-3)
    assert minimum_detectable(3) is None
    assert comparisons_needed(0.55, Design(ties=0.3)) < 783  # a tie is half a win for sure
    assert labels_for_agreement(0.7, 0.05) == 323
    random = np.random.default_rng(0)
    wins = random.binomial(783, 0.55, size=4000) / 783
    assert np.mean(np.abs(wins - 0.5) > 1.96 * np.sqrt(0.25 / 783)) == pytest.approx(0.8, abs=0.03)
    for wrong in ({"labels_per_prompt": 0.5}, {"icc": 2.0}, {"level": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            Design(**wrong)


def test_the_commands(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(p.model_dump_json() + "\n" for p in pool_preferences(10, CLEAN, prompts=40)))
    out, page = tmp_path / "report.json", tmp_path / "report.html"
    done = CliRunner().invoke(app, ["agree", str(path), "--json", str(out), "--html", str(page), "--num", "100"])
    assert done.exit_code == 0, done.output
    assert "both orientations" in done.output and "ann-3" in done.output
    told = json.loads(out.read_text())
    assert told["agreement"]["pairable"] == 40
    assert len(told["people"]) == 8
    assert "<script" not in page.read_text() and "Krippendorff" in page.read_text()
    sizes = CliRunner().invoke(app, ["power", "--win-rate", "0.55"])
    assert "783" in sizes.output
    assert CliRunner().invoke(app, ["power", "--win-rate", "0.5"]).exit_code != 0
    assert CliRunner().invoke(app, ["agree", str(tmp_path / "nothing.db")]).exit_code != 0


def test_names_in_the_page_are_text():
    preferences = [p.model_copy(update={"annotator": "<script>x</script>"}) for p in pool_preferences(11, CLEAN[:1])]
    assert "<script>" not in as_html(quality_report(preferences, how=FEW))


def test_a_database_is_read_like_a_file(tmp_path):
    from collect_world import label, pair, person, project

    from accord.collect.database import open_store
    from accord.collect.quality.load import load

    path = tmp_path / "labels.db"
    with open_store(path) as store:
        project(store, [pair(n, overlap=3) for n in range(12)])
        for who, text in (("ann", "a"), ("ben", "a"), ("cem", "b")):
            user = person(store, who)
            for _ in range(12):
                label(store, user, text)
    report = quality_report(load(str(path)).preferences, how=FEW)
    assert (report.judgements, report.agreement.pairable, len(report.people)) == (36, 12, 3)
    assert report.agreement.raw.value == pytest.approx(1 / 3)
    # One reply is preferred by all of a person's verdicts, on sides drawn at random.
    assert all(j.ordered for j in judged(load(str(path)).preferences).judgements)
    done = CliRunner().invoke(app, ["agree", str(path), "--num", "100"])
    assert done.exit_code == 0 and "12 pairs were judged by two or more" in done.output
