"""Faults in judges: orders mixed up, replies forgotten, a key that is told, a coin that is believed."""

from __future__ import annotations

from mutants.mutant import mutants

_CLIENT = "unit/test_judges_client.py"
_LLM = "unit/test_judges_llm.py"
_PEOPLE = "unit/test_judges_people.py"
_STAGE = "e2e/test_evaluate_judges.py"

JUDGES = [
    *mutants(
        "judges/client.py",
        _CLIENT,
        [
            ("a reply is not stored", "if reply.text is not None:\n", "if reply.text is None:\n"),
            ("a budget that is not kept", "if spent:\n", "if False:\n"),
            ("what the server asks is not waited for", "asked.strip().isdecimal()", "asked.strip().isalpha()"),
            ("a key that the server repeats is told", 'return text.replace(self._key, "***")', "return text"),
            ("a size without bound", "len(content) > _LARGEST", "len(content) < 0"),
        ],
    ),
    *mutants(
        "judges/wire.py",
        _CLIENT,
        [
            ("samples share a key", 'if name != "messages"}', 'if name not in ("messages", "sample")}'),
            ("secrets in addresses", "parts.username or parts.password or parts.query", "parts.query"),
        ],
    ),
    *mutants(
        "judges/cache.py",
        _CLIENT,
        [("a stored reply is replaced", "INSERT OR IGNORE", "INSERT OR REPLACE")],
    ),
    *mutants(
        "judges/llm.py",
        _LLM,
        [
            ("the second order is not turned", "None if b_first[0] is None else 1 - b_first[0]", "b_first[0]"),
            ("both orders are the same", "self.pair.messages(prompt, b, a)", "self.pair.messages(prompt, a, b)"),
            ("a missing letter is unreadable", "total if total > 0", "total if min(mass.values()) > 0"),
            ("samples are one", "return 1 if template.name ==", "return 1 if template.name !="),
        ],
    ),
    *mutants(
        "judges/conduct.py",
        _LLM,
        [
            ("the second place counts as the first", "p > 0.5 if place == 0 else p < 0.5", "p > 0.5"),
            ("ties are decided", "if p not in (None, 0.5)", "if p is not None"),
            ("pairs read once count", "if unpaired else both", "if True else both"),
            ("no judge without orders", "or c.by_order != (None, None)]", "or True]"),
        ],
    ),
    *mutants(
        "judges/templates.py",
        _LLM,
        [
            ("the first verdict counts", "values.get(found[-1])", "values.get(found[0])"),
            ("texts are filled in before places", "found[1]], self.user)", "found[1]], self.user.format(**texts))"),
        ],
    ),
    *mutants(
        "judges/agreement.py",
        _LLM,
        [
            ("an interval that includes a coin", "return self.low > 0.5", "return self.value > 0.5"),
            ("the better reply is always first", "bool(number % 2)", "False"),
            ("unreadable counts for the judge", "p = 0.5 if c.p is None", "p = 1.0 if c.p is None"),
        ],
    ),
    *mutants(
        "judges/people.py",
        _PEOPLE,
        [
            ("too few are enough", "len(t.answers) < wanted]", "len(t.answers) < 1]"),
            ("whichever reply is stored first", "if text.strip() == a.strip())", "if text)"),
            ("it waits for ever", 'if t.state in ("done", "closed")]', 'if t.state == "open" and False]'),
        ],
    ),
    *mutants(
        "evals/answering.py",
        "unit/test_evals_answering.py",
        [
            ("replies depend on the batch", "request_key({\"messages\": _messages(prompts[i])}))", "i)"),
            ("answers are forgotten", 'self._cache.put(keys[i], asked[i], {"texts": replies})', "pass"),
            ("the last turn is the first", 'turn = sum(m.role == "assistant" for m in prompt.messages)', "turn = 0"),
        ],
    ),
    *mutants(
        "evals/abilities.py",
        "unit/test_evals_abilities.py",
        [
            ("lower is worse", 'low > 0 if ability.kind == "perplexity"', 'high < 0 if ability.kind == "perplexity"'),
            ("another vocabulary is compared", 'ability.tokenizers[name] != ability.tokenizers[baseline]', "False"),
            ("the first number counts", "float(found[-1].replace", "float(found[0].replace"),
        ],
    ),
    *mutants(
        "stages/evaluate.py",
        _STAGE,
        [
            ("answers are made again after waiting", "if not path.exists():", "if True:"),
            ("a judge is not measured first", "accuracy = judging.measured_judge(cfg, ctx, judge)", "accuracy = None"),
        ],
    ),
]  # fmt: skip
