"""Unit tests as a reward: `reward_funcs: [accord.rewards.code:unit_tests]`.

The code of a policy in training is code that nobody has read, and a policy finds every way to a reward. It runs in the
sandbox, and its tests where it cannot reach them (`accord.sandbox.check`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from accord.sandbox import Limits, check, require
from accord.sandbox.replies import program, runnable

LIMITS = Limits(seconds=6.0, cpu_seconds=4.0)
"""Of one reply; the clock is more generous than the processor time, since training runs beside it."""


def unit_tests(
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    test: Sequence[str],
    entry_point: Sequence[str],
    **columns: Any,
) -> list[float | None]:
    """1 for a reply whose function passes its test, 0 for one whose function does not; None where the test is at fault.

    Args:
        prompts: not used.
        completions: replies, with the code in a fence or without one.
        test: of each prompt, from its `meta`: assertions, or a function `check(candidate)` as in HumanEval.
        entry_point: name of the function, from `meta`.
        columns: `code_prompt` from `meta`, where there is one: code up to the function's body, for replies that only
            continue it, and for what the test needs beside the function.

    Raises:
        SandboxError: this machine cannot shut code in safely; there is no switch for that while training.
    """
    del prompts
    require()
    before: Sequence[str] = columns.get("code_prompt") or [""] * len(completions)

    def score(row: tuple[str, str, str, str]) -> float | None:
        reply, tests, entry, prompt = row
        verdict = check(
            program(reply, prompt, entry),
            entry=entry,
            test=tests,
            setup=runnable(prompt) or "",
            call="check(candidate)" if "def check(" in tests else "",
            limits=LIMITS,
        )
        return None if verdict.status == "broken" else float(verdict.passed)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(score, zip(completions, test, entry_point, before, strict=True)))
