"""What raw annotations say, as records for training: preferences, labelled replies, demonstrations, edited pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from accord.collect.content import HUMAN
from accord.collect.exporting.options import ExportOptions
from accord.collect.exporting.raw import RawAnnotation, current
from accord.collect.records import Verdict
from accord.collect.verdicts import Gold, is_right
from accord.data import prompt_text
from accord.types import Candidate, Demonstration, Message, Preference, Unpaired


@dataclass
class Derived:
    """Records, and what was left out for which reason."""

    records: list[Any] = field(default_factory=list[Any])
    left_out: dict[str, int] = field(default_factory=dict[str, int])

    def skip(self, reason: str, count: int = 1) -> None:
        """Count something left out."""
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count


def selected(annotations: Iterable[RawAnnotation], options: ExportOptions) -> Derived:
    """Return the answers that stand and that the options ask for, in the order they were given."""
    given = list(annotations)
    standing = current(given)
    found = Derived()
    found.skip("superseded by a later answer of the same person, or retracted", len(given) - len(standing))
    for a in standing:
        reason = _unwanted(a, options)
        if reason:
            found.skip(reason)
        else:
            found.records.append(a)
    return found


def _unwanted(a: RawAnnotation, options: ExportOptions) -> str:
    if a.is_gold and not options.gold:
        return "answers to hidden tests"
    if a.repeat_of and not options.repeats:
        return "swapped repeats"
    if options.purpose not in ("all", a.purpose):
        return f"tasks for {a.purpose}"
    if options.slice not in ("all", a.slice):
        return f"{a.slice} slice"
    return ""


def preference(a: RawAnnotation) -> Preference | None:
    """Return what an answer says about its replies; None when it compares nothing (rate, edit).

    Replies a partial ranking leaves out share the last group, behind all ranked ones; `meta.ranked` says how many were
    ranked.
    """
    v = a.verdict
    if v is None or a.kind not in ("pair", "rank"):
        return None
    told: dict[str, Any] = {"choice": v.position, "tie": v.tie, "both_bad": v.both_bad}
    meta = _meta(a, v)
    if v.ranking is not None:
        named = {index for group in v.ranking for index in group}
        rest = tuple(index for index in range(len(a.candidates)) if index not in named)
        told = {"ranking": (*v.ranking, rest) if rest else v.ranking}
        if rest:
            meta["ranked"] = len(named)
    return Preference(
        id=a.id,
        prompt=a.prompt,
        candidates=a.candidates,
        **told,
        strength=None if v.strength is None else float(v.strength),
        annotator=a.annotator,
        group=a.groups[0] if a.groups else "",
        source="human",
        order_shown=a.shown_order,
        seconds=a.dwell_ms / 1000,
        meta=meta,
    )


def _meta(a: RawAnnotation, v: Verdict) -> dict[str, Any]:
    optional = {
        "propensity": a.propensity,
        "guideline_version": a.guideline_version,
        "ratings": list(v.ratings) if v.ratings is not None else None,
        "flags": {str(index): list(names) for index, names in sorted(v.flags.items())} or None,
        "success": list(v.success) if v.success is not None else None,
        "rationale": v.rationale or None,
        "confidence": v.confidence,
        "groups": list(a.groups) if len(a.groups) > 1 else None,
        "gold": True if a.is_gold else None,
        "gold_right": is_right(v, Gold.model_validate(a.gold), len(a.candidates)) if a.gold is not None else None,
        "repeat_of": a.repeat_of,
        "tags": list(a.tags) or None,
    }
    told = {"task": a.task, "slice": a.slice, "policy": a.policy, "purpose": a.purpose}
    return {**told, **{name: value for name, value in optional.items() if value is not None}}


def preferences(annotations: Iterable[RawAnnotation]) -> list[Preference]:
    """Return the preferences among answers."""
    return [p for a in annotations if (p := preference(a)) is not None]


def unpaired(annotations: Iterable[RawAnnotation], options: ExportOptions) -> Derived:
    """Return labelled replies: up for ratings above the threshold or tasks done; ratings equal to it are left out.

    With an aggregate other than none, the ratings of one reply by several people are averaged first.
    """
    found = Derived()
    if options.combine.aggregate == "none":
        for a in annotations:
            for index, rating, done in _rated(a):
                label = _label(rating, done, options.threshold)
                if label is None:
                    found.skip(f"ratings equal to the threshold {options.threshold:g}")
                    continue
                found.records.append(_unpaired(a, index, label, rating, {"annotator": a.annotator}))
        return found
    groups: dict[tuple[str, str], list[tuple[RawAnnotation, int, float]]] = defaultdict(list)
    for a in annotations:
        for index, rating, done in _rated(a):
            value = rating if rating is not None else 7.0 if done else 1.0
            groups[prompt_text(a.prompt), a.candidates[index].text].append((a, index, value))
    for group in groups.values():
        mean = sum(value for _, _, value in group) / len(group)
        label = _label(mean, None, options.threshold)
        if label is None:
            found.skip(f"mean ratings equal to the threshold {options.threshold:g}")
            continue
        a, index, _ = group[0]
        found.records.append(_unpaired(a, index, label, mean, {"ratings": len(group)}))
    return found


def _rated(a: RawAnnotation) -> list[tuple[int, float | None, bool | None]]:
    """(candidate, rating, task done) of every reply that got one of the two."""
    if a.verdict is None:
        return []
    number = len(a.candidates)
    ratings = a.verdict.ratings or (None,) * number
    success = a.verdict.success or (None,) * number
    return [
        (index, None if rating is None else float(rating), done)
        for index, (rating, done) in enumerate(zip(ratings, success, strict=True))
        if rating is not None or done is not None
    ]


def _label(rating: float | None, done: bool | None, threshold: float) -> bool | None:
    if rating is None:
        return done
    return None if rating == threshold else rating > threshold


def _unpaired(a: RawAnnotation, index: int, label: bool, rating: float | None, extra: dict[str, Any]) -> Unpaired:
    candidate = a.candidates[index]
    optional = {"rating": rating, "model": candidate.model or None, "guideline_version": a.guideline_version}
    meta = {"task": a.task, **{name: value for name, value in optional.items() if value is not None}, **extra}
    return Unpaired(id=f"{a.id}/{index}", prompt=a.prompt, completion=candidate.text, label=label, meta=meta)


def demonstrations(annotations: Iterable[RawAnnotation]) -> list[Demonstration]:
    """Return edited replies as conversations to imitate."""
    found: list[Demonstration] = []
    for a in annotations:
        v = a.verdict
        if v is None or v.edit is None or v.edit_position is None:
            continue
        reply = Message(role="assistant", content=v.edit)
        original = a.candidates[v.edit_position]
        meta = {"task": a.task, "annotator": a.annotator, "edited": original.text != v.edit}
        if original.model:
            meta["model"] = original.model
        found.append(Demonstration(id=a.id, messages=(*a.prompt.messages, reply), meta=meta))
    return found


def edited_pairs(annotations: Iterable[RawAnnotation]) -> list[Preference]:
    """Return "the edited reply is better than its original" for every edit that changed something."""
    found: list[Preference] = []
    for a in annotations:
        v = a.verdict
        if v is None or v.edit is None or v.edit_position is None:
            continue
        original = a.candidates[v.edit_position]
        if original.text.strip() == v.edit.strip() or not original.text.strip():
            continue
        found.append(
            Preference(
                id=f"{a.id}/edit",
                prompt=a.prompt,
                candidates=(Candidate(text=v.edit, model=f"{HUMAN}{a.annotator}"), original),
                choice=0,
                annotator=a.annotator,
                group=a.groups[0] if a.groups else "",
                seconds=a.dwell_ms / 1000,
                meta={"task": a.task, "slice": a.slice, "policy": a.policy, "purpose": a.purpose, "edit": True},
            )
        )
    return found
