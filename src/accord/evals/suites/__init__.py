"""Suites that read the original files: prompts for models, labelled pairs for judges and reward models.

`SUITES` is the list; `accord eval list` prints it.
"""

from __future__ import annotations

from accord.evals.suites.alpaca_suite import AlpacaEval
from accord.evals.suites.arena_hard import ArenaHard
from accord.evals.suites.autoj import AutoJ
from accord.evals.suites.base import Answers, AnswerSuite, GoldPair, Loaded, PairSuite, Report, Suite
from accord.evals.suites.gsm8k import Gsm8k
from accord.evals.suites.hhh import Hhh
from accord.evals.suites.llmbar import LlmBar
from accord.evals.suites.mt_bench import MtBench
from accord.evals.suites.xstest import XsTest

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (AlpacaEval(), ArenaHard(), AutoJ(), Gsm8k(), Hhh(), LlmBar(), MtBench(), XsTest())
}
"""By the name on the command line. RewardBench scores replies one by one and has a command of its own."""

__all__ = ["SUITES", "AnswerSuite", "Answers", "GoldPair", "Loaded", "PairSuite", "Report", "Suite"]
