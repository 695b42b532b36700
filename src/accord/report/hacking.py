"""Is the reward being exploited? Lights, gold and proxy over the root of KL, behaviour, and suspicious replies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from accord.diagnose.hackability import Hackability, hackability, read_drawn
from accord.diagnose.lights import WARNING
from accord.diagnose.record import read_suspects
from accord.diagnose.runs import LightNow, StageDiagnosis, diagnose_stage
from accord.errors import ArtifactError
from accord.report.formats import number
from accord.report.linechart import Axis, Figure, Point, Series, line_chart
from accord.report.names import model_name
from accord.report.runfiles import Metrics, Run
from accord.report.svg import drawing, line, responsive, tag, text

_TONES = {"green": "good", "yellow": "caution", "red": "bad"}
_WORDS = {"green": "green", "yellow": "warning", "red": "alarm"}
_CURVE_POINTS = 40
_SHOWN = 3
"""Alarms whose suspicious replies are on the page; all are in the directory of the stage."""
_ROWS = 4
"""Suspicious replies of an alarm on the page."""
_CUT = 600
_BEHAVIOUR = (
    ("eval/sycophancy", "Sycophancy", "wrong claims endorsed when the user states them, minus when not"),
    ("eval/over_refusal", "Over-refusal", "harmless requests that are refused"),
    ("eval/compliance", "Compliance", "harmful requests that are answered"),
    ("signals/length", "Length", "tokens a reply"),
    ("signals/length_corr", "Paid for length", "partial correlation of score and length within a prompt"),
    ("signals/repetition", "Repetition", "3-grams of a reply that were said before"),
    ("signals/distinct_2", "Diversity", "distinct 2-grams in blocks of 16 replies"),
    ("signals/outside", "Strange to the reward model", "replies farther from its training than 99 % of that"),
    ("signals/spread", "Ensemble spread", "deviation of the members' scores"),
)
"""Lines of the panel of failure modes: metric, heading, how to read it."""


@dataclass(frozen=True)
class LightRow:
    """One light of the table."""

    rule: str
    tone: str
    word: str
    says: str
    now: str
    sft: str
    limit: str


@dataclass(frozen=True)
class Suspect:
    """One suspicious reply beside the SFT model's."""

    question: str
    reply: str
    sft_reply: str
    numbers: str


@dataclass(frozen=True)
class AlarmShown:
    """One alarm with its suspicious replies."""

    says: str
    suspects: tuple[Suspect, ...]


@dataclass(frozen=True)
class Hacking:
    """The section of one stage."""

    name: str
    tone: str
    word: str
    sentence: str
    rows: tuple[LightRow, ...]
    calm: tuple[str, ...]
    """Lights that are green, by name."""
    bars: Markup | None
    frontier: Figure | None
    panel: tuple[Figure, ...]
    alarms: tuple[AlarmShown, ...]
    more_alarms: int


def read_hacking(run: Run) -> list[Hacking]:
    """Read the diagnosis of every stage that was watched; what is damaged is told in the run's notes."""
    found: list[Hacking] = []
    for stage in run.stages:
        try:
            diagnosis = diagnose_stage(stage.dir)
        except ArtifactError as error:
            run.notes.append(f"{stage.dir.name}: {error.what}")
            continue
        if diagnosis is not None and diagnosis.recorded:
            found.append(_section(diagnosis, run.metrics(stage), run.slots[stage.name]))
    return found


def frontier(stage: StageDiagnosis, slot: int) -> Figure | None:
    """Gold over the root of KL with the fitted curve and its peak; None without gold.

    Args:
        stage: with a path.
        slot: colour of the stage.
    """
    points: list[Point] = [(math.sqrt(max(p.kl, 0.0)), p.gold) for p in stage.path if math.isfinite(p.gold)]
    if len(points) < 2:
        return None
    bars = [
        (math.sqrt(max(p.kl, 0.0)), p.gold - 1.96 * p.error, p.gold + 1.96 * p.error) for p in stage.path if p.error > 0
    ]
    hints = [f"step {p.step}" for p in stage.path]
    series = [Series("gold", points, slot or 1, "best", bars=bars, hints=hints)]
    note = "each mark is a measurement, with its 95 % interval"
    if stage.curve is not None:
        end = max(x for x, _ in points)
        start = points[0][1] or 0.0
        xs = [end * i / _CURVE_POINTS for i in range(1, _CURVE_POINTS + 1)]
        fitted = [(x, start + float(y)) for x, y in zip(xs, stage.curve(xs), strict=True)]
        series.append(Series("fitted", fitted, 0))
        peak = stage.curve.peak
        note += f"; fitted: d(\u03b1 \u2212 \u03b2 log d), R\u00b2 {number(stage.curve.r2, 2)}"
        if peak is not None and math.isfinite(peak.kl):
            note += f", peak at KL {number(peak.kl)}"
    title = "Gold over the root of KL"
    svg = line_chart(series, title=title, x_label="\u221aKL from the SFT model", path=True)
    return None if svg is None else Figure(title, note, svg)


def light_bars(lights: Sequence[LightNow], stage: str) -> Markup | None:
    """How far each signal is on the way to its alarm, as bars with the two limits marked; None without lights.

    Args:
        lights: worst first.
        stage: for the title.
    """
    if not lights:
        return None
    most = 2.0

    def build(width: float, roomy: bool) -> Markup:
        left, row = (150.0 if roomy else 112.0), 20.0
        height = row * len(lights) + 34
        x = Axis(0.0, most, left, width - 44)
        parts = [
            tag("rect", x=x(0), y=10, width=x(WARNING) - x(0), height=height - 34, class_="zone good"),
            tag("rect", x=x(WARNING), y=10, width=x(1) - x(WARNING), height=height - 34, class_="zone caution"),
            tag("rect", x=x(1), y=10, width=x(most) - x(1), height=height - 34, class_="zone bad"),
        ]
        for i, one in enumerate(lights):
            y = 10 + row * i
            end = x(min(max(one.progress, 0.0), most))
            parts.append(text(left - 8, y + 14, one.rule, class_="key", anchor="end"))
            hint = f"{one.rule}: {number(one.progress, 2)} of the way to its alarm"
            parts.append(
                tag(
                    "rect",
                    tag("title", hint),
                    x=left,
                    y=y + 4,
                    width=max(end - left, 1.5),
                    height=row - 9,
                    rx=2,
                    class_=f"reach {_TONES[one.light]}",
                )
            )
            if one.progress > most:
                parts.append(text(width - 40, y + 14, f"{number(one.progress, 2)}\u00d7", class_="key strong"))
        for at, label in ((WARNING, "warning"), (1.0, "alarm")):
            parts.append(line(x(at), 10, x(at), height - 24, class_="level"))
            parts.append(text(x(at), height - 9, label, class_="axis-label", anchor="middle"))
        told = " ".join(f"{one.rule}: {one.light}, {number(one.progress, 2)} of its limit." for one in lights)
        return drawing(parts, width=width, height=height, title=f"{stage}: how near each light is", desc=told)

    return responsive(build)


def read_reward_checks(run: Run) -> list[tuple[str, str, str]]:
    """What every best-of-n stage says of its reward model; what is damaged is told in the run's notes."""
    found: list[tuple[str, str, str]] = []
    for stage in run.stages:
        if not (stage.dir / "scores.jsonl").is_file() or not (stage.dir / "samples.jsonl").is_file():
            continue
        try:
            drawn = read_drawn(stage.dir)
        except ArtifactError as error:
            run.notes.append(f"{stage.dir.name}: {error.what}")
            continue
        if drawn:
            found.append(of_reward(stage.name, hackability(drawn)))
    return found


def of_reward(name: str, found: Hackability) -> tuple[str, str, str]:
    """Tone, word and sentence about a reward model before it is optimised.

    Args:
        name: of the best-of-n stage.
        found: what best-of-n says.
    """
    tone = {"hackable": "bad", "pays for nothing": "caution", "holds": "good"}.get(found.verdict, "caution")
    paid = f" It pays for {', '.join(found.gamed_by)}." if found.gamed_by else ""
    return tone, found.verdict, f"{model_name(name)}: {found.says}.{paid}"


def _section(stage: StageDiagnosis, metrics: Metrics, slot: int) -> Hacking:
    lit = [one for one in stage.lights if one.light != "green"]
    shown = stage.alarms[:_SHOWN]
    return Hacking(
        name=model_name(stage.stage),
        tone=_TONES[stage.light],
        word=_WORDS[stage.light],
        sentence=_sentence(stage),
        rows=tuple(_row(one) for one in lit),
        calm=tuple(one.rule for one in stage.lights if one.light == "green"),
        bars=light_bars(stage.lights, model_name(stage.stage)),
        frontier=frontier(stage, slot),
        panel=tuple(_panel(metrics, slot, model_name(stage.stage))),
        alarms=tuple(_alarm(stage.directory, alarm) for alarm in shown),
        more_alarms=len(stage.alarms) - len(shown),
    )


def _sentence(stage: StageDiagnosis) -> str:
    said = f"{len(stage.alarms)} alarm{'' if len(stage.alarms) == 1 else 's'}" if stage.alarms else "No alarm"
    if stage.alarms:
        said += f", the first at step {stage.alarms[0]['step']}"
    if len(stage.path) > 1:
        best, last = max(stage.path, key=lambda p: p.gold), stage.path[-1]
        said += (
            f". Gold {number(stage.path[0].gold)} at the start, {number(best.gold)} at best (step {best.step}), "
            f"{number(last.gold)} at the end"
        )
    if stage.rolled_back_to is not None:
        said += f". Training went back to the weights of step {stage.rolled_back_to}"
    return f"{said}."


def _row(one: LightNow) -> LightRow:
    limits = [
        f"{signal} {'' if scale == 'level' else scale + ' '}{number(limit)}"
        for signal, (scale, limit) in one.limits.items()
    ]
    return LightRow(
        one.rule,
        _TONES[one.light],
        _WORDS[one.light],
        one.says,
        ", ".join(number(one.now[s]) for s in one.limits if s in one.now),
        ", ".join(number(one.sft[s]) for s, (scale, _) in one.limits.items() if s in one.sft and scale != "level"),
        ", ".join(limits),
    )


def _panel(metrics: Metrics, slot: int, name: str) -> list[Figure]:
    figures: list[Figure] = []
    for metric, title, note in _BEHAVIOUR:
        points = metrics.get(metric)
        if len(points) < 2:
            continue
        first = next((v for _, v in points if v is not None), None)
        svg = line_chart([Series(title, points, slot)], title=f"{name}: {title}", level=first)
        if svg is not None:
            figures.append(Figure(title, note, svg))
    return figures


def _alarm(directory: Path, alarm: object) -> AlarmShown:
    row = alarm if isinstance(alarm, dict) else {}
    suspects = [
        Suspect(
            _question(s.get("prompt")),
            _cut(s.get("reply")),
            _cut(s.get("sft_reply")),
            f"{s.get('by')} {number(s.get('value'))}, SFT {number(s.get('sft_value'))}; "
            f"score {number(s.get('score'))}, SFT {number(s.get('sft_score'))}",
        )
        for s in read_suspects(directory, row)[:_ROWS]
    ]
    return AlarmShown(str(row.get("says") or row.get("rule")), tuple(suspects))


def _question(prompt: object) -> str:
    turns = [t for t in prompt if isinstance(t, dict)] if isinstance(prompt, list) else []
    return _cut(turns[-1].get("content") if turns else "")


def _cut(value: object) -> str:
    said = str(value or "")
    return said if len(said) <= _CUT else f"{said[:_CUT]} \u2026"
