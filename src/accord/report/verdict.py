"""The first screen: what came out of the run in one sentence, and lights with the rule behind each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accord.report.formats import (
    Estimate,
    listed,
    number,
    percent,
    percent_interval,
    signed,
    signed_percent,
)
from accord.report.labels import LabelReport
from accord.report.names import MANY, model_name
from accord.report.outcome import TOTAL, Comparison, Outcome
from accord.report.paths import EvalPath
from accord.report.rewardmodel import RewardReport
from accord.report.runfiles import Run
from accord.report.training import Curves

_NAMED = 5
"""So many names a sentence, when there are many."""
_WORDS = {"good": "good", "caution": "look closer", "bad": "problem"}


@dataclass(frozen=True)
class Light:
    """One traffic light."""

    tone: str
    """`good`, `caution` or `bad`."""
    title: str
    told: str
    rule: str
    """When it is green, when it is red."""
    model: str = ""
    """Which model it is about, when it is one."""

    @property
    def word(self) -> str:
        """The tone in words, for those who do not see the colour."""
        return _WORDS[self.tone]


@dataclass(frozen=True)
class Verdict:
    """The head of the page."""

    headline: str
    sentences: tuple[str, ...]
    lights: tuple[Light, ...]


def judge_run(
    run: Run,
    labels: LabelReport | None,
    reward: RewardReport | None,
    curves: Iterable[Curves],
    paths: Iterable[EvalPath],
    outcome: Outcome | None,
) -> Verdict:
    """Say what the numbers of the other sections amount to."""
    pairs = [] if outcome is None else [(m, outcome.against_reference(m)) for m in outcome.trained]
    against = [c for _, c in pairs if c is not None]
    lights: list[Light] = []
    if outcome is not None:
        lights += _together([_win_light(c) for c in against], "Models against " + model_name(outcome.reference or ""))
        parts = [light for m in outcome.trained if (light := _parts_light(outcome, m)) is not None]
        lights += _together(parts, "Parts of utility")
        lights += [light for light in [_length_light(against)] if light is not None]
    gaps = [light for p in paths if (light := _gap_light(p)) is not None]
    lights += _together(gaps, "Gold beside proxy in training")
    found = [_reward_light(reward), _card_light(reward), _label_light(labels)]
    lights += [light for light in found if light is not None]
    broken = [c for c in curves if c.broken]
    if broken:
        told = listed([model_name(c.stage) for c in broken])
        lights.append(
            Light("bad", "Values that are not finite", f"logged by {told}", "red when any value is not finite")
        )
    return Verdict(_headline(run, against), tuple(_sentences(outcome, against)), tuple(lights))


def _together(lights: list[Light], title: str) -> list[Light]:
    """Put the lights of many models into one that counts them and names those that are worst off."""
    if len(lights) <= MANY:
        return lights
    names = {tone: [light.model for light in lights if light.tone == tone] for tone in _WORDS}
    said = [f"{len(names['good'])} of {len(lights)} good"]
    said += [f"{_WORDS[tone]}: {_some(names[tone])}" for tone in ("caution", "bad") if names[tone]]
    worst = names["bad"] or names["caution"]
    tone = "good" if not worst else "bad" if len(names["bad"]) > len(lights) / 2 else "caution"
    rule = f"each model: {lights[0].rule}; together green: all are, red: more than half are"
    return [Light(tone, title, "; ".join(said), rule)]


def _some(names: list[str]) -> str:
    """A few names, and how many more there are."""
    return listed(names) if len(names) <= _NAMED else f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _headline(run: Run, against: list[Comparison]) -> str:
    if not run.stages:
        return "No stage of this run has finished yet."
    if not against:
        names = [model_name(s.name) for s in run.stages]
        done = listed(names) if len(names) <= MANY else f"{len(names)} stages, the last one {names[-1]},"
        return f"Not compared yet: {done} finished."
    start = model_name(against[0].b)
    if len(against) > MANY:
        return _count(against, start)
    groups = {
        tone: [model_name(c.a) for c in against if c.tone == tone] for tone in ("good", "bad", "caution", "plain")
    }
    said: list[str] = []
    if groups["good"]:
        both = "both " if len(groups["good"]) == 2 == len(against) else ""
        said.append(f"{listed(groups['good'])} {both}beat{_s(groups['good'])} {start}")
    if groups["bad"]:
        said.append(f"{listed(groups['bad'])} lose{_s(groups['bad'])} to {start}")
    unclear = groups["caution"] + groups["plain"]
    if unclear:
        verb = "shows" if len(unclear) == 1 else "show"
        said.append(f"{listed(unclear)} {verb} no clear difference from {start}")
    return "; ".join(said) + "."


def _count(against: list[Comparison], start: str) -> str:
    """The headline of many models."""
    counts = {
        word: sum(c.tone in tones for c in against)
        for word, tones in (
            (("beats it", "beat it"), ("good",)),
            (("loses to it", "lose to it"), ("bad",)),
            (("shows no clear difference", "show no clear difference"), ("caution", "plain")),
        )
    }
    said = [f"{count} {one if count == 1 else many}" for (one, many), count in counts.items() if count]
    best = max(against, key=lambda c: c.rate.value)
    most = f"; the highest win rate is that of {model_name(best.a)}" if best.tone == "good" else ""
    return f"Of {len(against)} models compared with {start}, {listed(said)}{most}."


def _s(names: list[str]) -> str:
    return "s" if len(names) == 1 else ""


def _sentences(outcome: Outcome | None, against: list[Comparison]) -> list[str]:
    said: list[str] = []
    told = against
    if len(against) > MANY:
        ranked = sorted(against, key=lambda c: -c.rate.value)
        told = [*ranked[:2], ranked[-1]]
    for c in told:
        a, b = model_name(c.a), model_name(c.b)
        n = f" of {c.rate.n} comparisons" if c.rate.n else " of comparisons"
        interval = "" if c.rate.interval is None else f" (95\u00a0% interval {_range(c.rate)})"
        words = f"{a} is preferred to {b} in {percent(c.rate.value)}{n}{interval}"
        gain = None if outcome is None else outcome.gains.get(c.a, {}).get(TOTAL)
        if outcome is not None and gain is not None and c.a in outcome.utility and c.b in outcome.utility:
            before, after = number(outcome.utility[c.b].value), number(outcome.utility[c.a].value)
            words += (
                f"; its mean utility is {after} instead of {before}: {signed(gain.value)} on the same prompts"
                f" ({signed(gain.lower)} to {signed(gain.upper)})"
            )
        said.append(words + ".")
    return said


def _range(value: Estimate) -> str:
    return f"{percent(value.lower)} to {percent(value.upper)}"


def _win_light(c: Comparison) -> Light:
    told = f"preferred in {percent_interval(c.rate)} of comparisons"
    rule = "green: the whole interval is above 50 %; red: all below; amber: it holds 50 %"
    tone = "caution" if c.tone == "plain" else c.tone
    return Light(tone, f"{model_name(c.a)} against {model_name(c.b)}", told, rule, model_name(c.a))


def _parts_light(outcome: Outcome, model: str) -> Light | None:
    gains = {part: g for part, g in outcome.gains.get(model, {}).items() if part != TOTAL}
    if not gains:
        return None
    worse = [part for part, g in gains.items() if g.upper < 0]
    better = [part for part, g in gains.items() if g.lower > 0]
    rule = "red: a part fell and its interval is below 0; amber: no part rose for certain"
    title = f"{model_name(model)}: parts of utility"
    if worse:
        fell = listed([f"{part} ({signed(gains[part].value)})" for part in worse])
        return Light(
            "bad", title, f"worse than {model_name(outcome.reference or '')} in {fell}", rule, model_name(model)
        )
    tone = "good" if better else "caution"
    told = f"{len(better)} of {len(gains)} parts rose for certain, none fell"
    return Light(tone, title, told, rule, model_name(model))


def _length_light(against: list[Comparison]) -> Light | None:
    known = [(c, change) for c in against if (change := c.length_change) is not None]
    if not known:
        return None
    most = max(change for _, change in known)
    if len(known) > MANY:
        known.sort(key=lambda row: -row[1])
    told = _some([f"{model_name(c.a)} {signed_percent(change)}" for c, change in known])
    rule = "amber: answers more than 20 % longer, so that length may explain wins; red: more than 50 %"
    return Light("bad" if most > 0.5 else "caution" if most > 0.2 else "good", "Length of answers", told, rule)


def _gap_light(path: EvalPath) -> Light | None:
    found = path.overoptimised
    if found is None:
        return None
    rule = "while the proxy rose, red: gold ended below its start; amber: it lost over a quarter of its gain"
    return Light(found[0], f"{model_name(path.stage)}: gold beside proxy", found[1], rule, model_name(path.stage))


def _reward_light(reward: RewardReport | None) -> Light | None:
    if reward is None or (reward.gold is None and reward.accuracy is None):
        return None
    # Baselines are measured on the labels, so the labels are what the comparison is made on.
    mine = reward.accuracy or reward.gold
    assert mine is not None
    told = f"orders {percent_interval(mine)} of held-out pairs as labelled"
    if reward.gold is not None:
        told += f", {percent_interval(reward.gold)} as gold does"
    rule = "green: the interval is above the best baseline and above 50 %; red: the value is not"
    floor = 0.5
    if reward.best_baseline is not None:
        name, baseline = reward.best_baseline
        told += f"; best baseline {percent(baseline.value)} ({name.replace('_', ' ')})"
        floor = max(floor, baseline.value)
    tone = "good" if mine.lower > floor else "caution" if mine.value > floor else "bad"
    return Light(tone, "Reward model", told, rule)


def _card_light(reward: RewardReport | None) -> Light | None:
    card = None if reward is None else reward.card
    if reward is None or card is None:
        return None
    wrong = [row.name for row in card.seven if row.tone == card.tone]
    told = card.word if card.tone == "good" else f"{card.word}: {listed(wrong)}" if wrong else card.word
    rule = "green: all seven numbers of the card pass; red: one of them fails; amber: one is not known"
    return Light(card.tone, "Reward model's report card", told, rule)


def _label_light(labels: LabelReport | None) -> Light | None:
    if labels is None or labels.agreement_value is None:
        return None
    value = labels.agreement_value
    tone = "good" if value >= 0.65 else "caution" if value >= 0.55 else "bad"
    rule = "green: agreement of 65 % or more (63 to 77 % is usual for people); red: under 55 %"
    return Light(tone, "Labels", f"{labels.total} judgements; two annotators agree on {labels.agreement}", rule)
