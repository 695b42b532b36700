"""Closing the loop: attacks that got through become preference pairs, and one attack family stays out to test on.

For a success the chosen reply is a refusal of the target's own to the same attack where it has one, else what it said
to the plain request, else a model's revision (Bai et al. 2022, constitutional AI) or a fixed refusal. For a harmless
request that was answered, in any wording, the answer is chosen over a refusal in the target's own words (one it gave to
this request in another try, else to a harmful one): without these pairs the cheapest way to lower the success rate is
to refuse everything, and a refusal that the target would never say teaches it nothing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accord.errors import ConfigError
from accord.evals import refusal as refusal_rules
from accord.evals.answering import Answerer
from accord.redteam.attempts import REDACTED, Attempt, harmful, harmless
from accord.redteam.findings import PLAIN
from accord.redteam.seeds import short_hash
from accord.rng import generator
from accord.types import Candidate, Message, Preference, Prompt

REFUSAL = "I cannot help with that, because it could hurt someone. I am glad to help with something else."
"""Chosen where the target never refused and nobody revises."""
REVISE = (
    "An assistant was asked:\n\n{request}\n\nIt replied:\n\n{reply}\n\nThe reply helps with something harmful. "
    "Write the reply that the assistant should have given: it declines, says why in one sentence, lectures nobody, and "
    "offers something harmless that serves a legitimate need behind the request, if there is one. Write only the reply."
)
"""What a revising model is asked."""
Reviser = Callable[[Sequence[Attempt]], list[str]]
"""Successes to better replies; an empty text = none."""


@dataclass(frozen=True)
class Pairs:
    """What was made of the attempts."""

    preferences: tuple[Preference, ...]
    successes: int
    """Harmful attempts that got through, without the held-out families."""
    held_out: int
    """Attempts of the held-out families, none of which is in any pair."""
    guards: int
    """Pairs on harmless requests."""
    refusals: dict[str, int]
    """Where the chosen refusals come from."""

    def counts(self) -> dict[str, Any]:
        """As numbers for a manifest."""
        own = {f"refusals_{name}": count for name, count in self.refusals.items()}
        return {"pairs": len(self.preferences), "successes": self.successes, "guards": self.guards, **own} | {
            "held_out_attempts": self.held_out
        }


def make_pairs(
    attempts: Sequence[Attempt],
    *,
    hold_out: Sequence[str] = (),
    guards: float = 1.0,
    refusal: str = REFUSAL,
    reviser: Reviser | None = None,
    seed: int = 0,
) -> Pairs:
    """Turn attempts into preferences.

    Args:
        attempts: of one target, not redacted.
        hold_out: attack families of which nothing is used.
        guards: pairs on harmless requests for one on a harmful request, as far as there are any.
        refusal: chosen where nothing better is there, and rejected in guards of a target that never refused.
        reviser: writes replies in place of a fixed refusal.
        seed: of the choice among guards.

    Raises:
        ConfigError: a family is not there, the plain question is held out, or the attempts are redacted.
    """
    families = {a.family for a in attempts}
    unknown = sorted(set(hold_out) - families)
    if unknown or PLAIN in hold_out:
        raise ConfigError(
            f"'{(unknown or [PLAIN])[0]}' cannot be held out",
            fix=f"hold out one of {', '.join(sorted(families - {PLAIN}))}",
        )
    if any(a.reply == REDACTED for a in attempts):
        raise ConfigError(
            "the attempts are redacted", fix="run the red team without --redact to train on what it finds"
        )
    used = [a for a in attempts if a.family not in hold_out]
    bad, good = harmful(used), harmless(used)
    successes = _distinct([a for a in bad if a.success])
    own = _own_refusals(bad)
    plain = _own_refusals([a for a in bad if a.family == PLAIN], by_attack=False)
    needed = [a for a in successes if _find(own, plain, a) is None]
    revised = dict(zip((_key(a) for a in needed), reviser(needed) if reviser else [""] * len(needed), strict=True))
    refusals: dict[str, int] = defaultdict(int)
    made: list[Preference] = []
    for attempt in successes:
        found = _find(own, plain, attempt)
        chosen, source = found or (
            (text, "revised") if (text := revised[_key(attempt)].strip()) else (refusal, "fixed")
        )
        refusals[source] += 1
        made.append(_preference(attempt, chosen, attempt.reply, source))
    answered = _distinct([a for a in good if a.label == "complied"])
    order = generator(seed, "redteam/guards").permutation(len(answered))
    wanted = min(len(answered), round(guards * len(made)))
    over = _own_refusals(good)
    said = list(dict.fromkeys(a.reply for a in bad if _is_refusal(a)))
    for place in sorted(int(i) for i in order[:wanted]):
        attempt = answered[place]
        rejected = over.get((attempt.attack, attempt.seed.id)) or (said[place % len(said)] if said else refusal)
        if rejected != attempt.reply:
            made.append(_preference(attempt, attempt.reply, rejected, "guard"))
    return Pairs(tuple(made), len(successes), len(attempts) - len(used), len(made) - len(successes), dict(refusals))


def _find(
    own: dict[tuple[str, str], str], plain: dict[tuple[str, str], str], attempt: Attempt
) -> tuple[str, str] | None:
    text = own.get((attempt.attack, attempt.seed.id))
    if text is not None:
        return text, "own"
    text = plain.get(("", attempt.seed.id))
    return None if text is None else (text, "plain")


def _own_refusals(attempts: Sequence[Attempt], *, by_attack: bool = True) -> dict[tuple[str, str], str]:
    """A refusal that the target gave, by attack and seed."""
    found: dict[tuple[str, str], str] = {}
    for a in attempts:
        if _is_refusal(a):
            found.setdefault((a.attack if by_attack else "", a.seed.id), a.reply)
    return found


def _is_refusal(attempt: Attempt) -> bool:
    """Whether a reply that gave nothing of what was asked says no, too: nonsense is no example of how to decline."""
    return attempt.label == "refused" and refusal_rules.classify(attempt.reply, attempt.seed.text) == "refusal"


def _key(attempt: Attempt) -> str:
    turns = "\x1e".join(f"{m.role}:{m.content}" for m in attempt.turns)
    return short_hash(turns, attempt.reply)


def _distinct(attempts: Sequence[Attempt]) -> list[Attempt]:
    """One of each: the same reply to the same turns says the same."""
    return list({_key(a): a for a in attempts if a.reply.strip()}.values())


def _preference(attempt: Attempt, chosen: str, rejected: str, source: str) -> Preference:
    return Preference(
        id=f"redteam-{_key(attempt)}",
        prompt=attempt.seed.prompt(attempt.turns, f"/{attempt.attack}/{attempt.number}"),
        candidates=(Candidate(text=chosen), Candidate(text=rejected, model=attempt.target)),
        choice=0,
        annotator="redteam",
        source="judge",
        meta={"family": attempt.family, "attack": attempt.attack, "chosen_from": source, "judge": attempt.judge},
    )


def revising(model: Answerer, seed: int) -> Reviser:
    """A model as reviser: asked once a success, at temperature 0."""

    def revise(attempts: Sequence[Attempt]) -> list[str]:
        asked = [Prompt(id=a.seed.id, messages=(Message(role="user", content=_question(a)),)) for a in attempts]
        return [replies[0] for replies in model.answer(asked, max_tokens=256, temperature=0.0, seed=seed)]

    return revise


def _question(attempt: Attempt) -> str:
    # In one pass, so that a text that holds "{reply}" stays as it is.
    texts = {"request": attempt.seed.text, "reply": attempt.reply}
    return re.sub(r"\{(request|reply)\}", lambda found: texts[found[1]], REVISE)
