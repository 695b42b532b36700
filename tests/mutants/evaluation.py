"""Faults in evaluation: verdicts read wrongly, rows lost, orders mixed up, the wrong denominator."""

from __future__ import annotations

from mutants.mutant import mutants

_ALPACA = "unit/test_suites_alpaca.py"
_PAIRS = "unit/test_suites_pairs.py"
_ARENA = "unit/test_suites_arena.py"
_MT = "unit/test_suites_mt_bench.py"

EVALUATION = [
    *mutants(
        "stats/length_glm.py",
        "unit/test_length_glm.py",
        [
            ("model minus baseline", "    delta = a - b\n", "    delta = b - a\n"),
            ("deviation of a population", "delta.std(ddof=1)", "delta.std(ddof=0)"),
            ("a quarter of the room or 10 points", "high = max(raw + (100", "high = min(raw + (100"),
            ("the fit's own uncertainty is left out", "influence = p - p.mean() + ", "influence = p - p.mean() + 0 * "),
            ("no L1 penalty", "_soft(w[j] - slope / bend, 1 / bend)", "_soft(w[j] - slope / bend, 0.0)"),
        ],
    ),
    *mutants(
        "evals/suites/alpaca_eval.py",
        _ALPACA,
        [
            ("an old draw is a loss", "        return 1.5\n", "        return 1.0\n"),
            ("draws count nothing", "(wins + draws / 2)", "wins"),
            ("difficulty by row always", "i if by_row or row.index is None else row.index", "i"),
        ],
    ),
    *mutants(
        "evals/constant_answers.py",
        _ALPACA,
        [("samples of one prompt count", "asked = len(set(instructions))", "asked = len(instructions)")],
    ),
    *mutants(
        "evals/suites/pairs.py",
        _PAIRS,
        [
            ("pairs read once are left out", "unpaired=True", "unpaired=False"),
            (
                "unreadable pairs get half",
                "missing = 0.0 if unreadable_is_wrong",
                "missing = 0.5 if unreadable_is_wrong",
            ),
            ("ties are wins of the first", "(len(p.a) > len(p.b)) == (p.gold > 0.5)", "(len(p.a) > len(p.b))"),
        ],
    ),
    *mutants(
        "evals/suites/llmbar.py",
        _PAIRS,
        [("kappas as they should be", '[[1 if w == "1" else 0 for', '[[1 if w == "1" else 2 for')],
    ),
    *mutants(
        "evals/suites/verdicts.py",
        "unit/test_suites_verdicts.py",
        [
            ("the first verdict counts", "_LEVELS.get(given[-1])", "_LEVELS.get(given[0])"),
            ("swapped preferences are not turned back", "3 - preference if swapped", "preference if swapped"),
        ],
    ),
    *mutants(
        "evals/suites/outcomes.py",
        _MT,
        [("one order is enough to win", "if first > 0.5 and second > 0.5:", "if first > 0.5 or second > 0.5:")],
    ),
    *mutants(
        "evals/suites/mt_bench_judged.py",
        _MT,
        [("the second game is read as the first", '(verdict == "A") == (game == 1)', '(verdict == "A")')],
    ),
    *mutants(
        "evals/suites/arena_hard.py",
        _ARENA,
        [
            ("games the other way round", "second, first = _level(games[0]", "first, second = _level(games[0]"),
            ("a clear win counts once", "played[i] += LEVEL_WEIGHTS[level]", "played[i] += 1"),
        ],
    ),
    *mutants(
        "evals/suites/gsm8k.py",
        "unit/test_suites_answers.py",
        [("the first marker counts", "return str(found[-1])", "return str(found[0])")],
    ),
    *mutants(
        "evals/suites/reward_bench.py",
        "unit/test_suites_reward_bench.py",
        [
            ("a tie is right", "float(scores[0] > scores[1])", "float(scores[0] >= scores[1])"),
            ("a shared best counts whole", "return 1.0 / len(at_best) if", "return 1.0 if"),
            ("the easier margin", "smaller = [min(ref[k][0]", "smaller = [max(ref[k][0]"),
        ],
    ),
    *mutants(
        "evals/refusal.py",
        "unit/test_refusal.py",
        [
            ("the whole reply is searched", "sentences[: _LEAD + sum", "sentences[: 999 + sum"),
            ("limits are refusals", "and not _only_a_limit(sentence)", ""),
            (
                "an answer after all is a refusal",
                "if after and _substance(after, items)",
                "if False and _substance(after, items)",
            ),
        ],
    ),
]
