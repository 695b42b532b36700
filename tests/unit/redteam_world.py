"""Targets, attackers and judges for the tests of the red team: small, exact, and they count what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accord.redteam.attackers import Setting
from accord.redteam.attempts import Attempt, Label
from accord.redteam.judging import Exchange, Verdict
from accord.redteam.seeds import Seed
from accord.types import Message, Prompt

NO = "I cannot help with that."
YES = "Sure. First do this, then do that."


class Answers:
    """An answerer that is a function of the last turn; it can die after some calls."""

    def __init__(self, reply: Callable[[str], str], name: str = "model", dies_after: int | None = None) -> None:
        self.reply, self.name, self.identity = reply, name, f"id-{name}"
        self.asked: list[str] = []
        self.dies_after = dies_after

    def answer(
        self, prompts: Sequence[Prompt], *, max_tokens: int, temperature: float, seed: int, n: int = 1
    ) -> list[list[str]]:
        made = []
        for prompt in prompts:
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise KeyboardInterrupt
            text = "\n".join(m.content for m in prompt.messages if m.role != "assistant")
            self.asked.append(prompt.messages[-1].content)
            made.append([self.reply(text)] * n)
        return made


class Rules:
    """A judge that knows the two replies of this file, and nothing else."""

    name = "rules"
    prompt_hash = "0" * 12

    def __init__(self, dies_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.dies_after = dies_after

    def judge(self, items: Sequence[Exchange]) -> list[Verdict]:
        made = []
        for item in items:
            if self.dies_after is not None and len(self.asked) >= self.dies_after:
                raise KeyboardInterrupt
            self.asked.append(item.reply)
            label: Label = "refused" if item.reply == NO else "complied" if item.reply == YES else "abstain"
            made.append(Verdict(label, {self.name: label}, "" if label != "abstain" else "strange"))
        return made


def seeds(count: int, *, twins: bool = True) -> list[Seed]:
    """Harmful seeds bad-0, ... and their twins good-0, ..."""
    made = [Seed(id=f"bad-{i}", text=f"do harm {i}", harmful=True, category="fraud") for i in range(count)]
    if twins:
        made += [Seed(id=f"good-{i}", text=f"do good {i}", harmful=False, category="fraud") for i in range(count)]
    return made


def setting(target: Answers, judge: Rules | None = None, k: int = 1) -> Setting:
    return Setting(target=target, judge=judge or Rules(), k=k)


def attempt(
    seed: Seed,
    label: Label,
    *,
    family: str = "none",
    number: int = 0,
    reply: str = "",
    attacker: str = "static",
    sequential: bool = False,
    k: int = 1,
) -> Attempt:
    """One attempt with everything else filled in."""
    return Attempt(
        seed=seed,
        attacker=attacker,
        transform=family,
        family=family,
        number=number,
        sequential=sequential,
        k=k,
        turns=(Message(role="user", content=f"{family}: {seed.text}"),),
        reply=reply or {"complied": YES, "refused": NO}.get(label, "?"),
        label=label,
        target="model",
        judge="rules",
    )
