"""Faults in the server: keys not asked for, replies mixed up, numbers of another distribution, text let out early."""

from __future__ import annotations

from mutants.mutant import mutants

_ACCESS = "unit/test_serve_access.py"
_APP = "unit/test_serve_app.py"
_COMMAND = "unit/test_serve_command.py"
_REPLIES = "unit/test_serve_replies.py"
_REQUESTS = "unit/test_serve_requests.py"
_SCORING = "unit/test_serve_scoring.py"
_SPELLING = "unit/test_serve_spelling.py"
_WATCHING = "unit/test_engine_watching.py"
_WORKER = "unit/test_serve_worker.py"

SERVING = [
    *mutants(
        "engines/watching.py",
        _WATCHING,
        [
            ("limits of another prompt", "row.output // self._sampling.n", "0"),
            ("unwanted rows go on", "if row.live and row.output in unwanted", "if False"),
            ("an ended row is not counted", "self._finished += 1", "self._finished += 0"),
            ("finished rows are shown again", "enumerate(rows) if row.live]", "enumerate(rows)]"),
        ],
    ),
    *mutants(
        "serve/app.py",
        _ACCESS,
        [
            ("any key will do", "if not hmac.compare_digest(given, wanted) or", "if"),
            ("a page of another site is answered", "if settings.hosts is not None and", "if False and"),
            ("a body without bound", "if len(content) > MAX_BODY:", "if False:", _APP),
            ("bodies of any type", 'if kind != "application/json":', "if False:", _APP),
            ("any model name will do", "if name != settings.name:", "if False:", _APP),
            ("not ready is ready", '200 if worker.state == "ready" else 503', "200"),
        ],
    ),
    *mutants(
        "serve/asked.py",
        _REQUESTS,
        [
            ("best_of is ignored", "if fields.best_of not in (None, n):", "if False:"),
            ("fields of messages are ignored", "if name not in _MESSAGE_FIELDS and value", "if False and value"),
            ("half a character is let in", "text.encode()", "text.encode('utf-8', 'replace')"),
            ("one seed for all", "secrets.randbits(63)", "0"),
        ],
    ),
    *mutants(
        "serve/fields.py",
        _REQUESTS,
        [
            ("true counts as one", " and isinstance(value, bool) == isinstance(one, bool)", ""),
            ("what cannot be honoured is ignored", "if value is not None and not any(", "if False and not any("),
        ],
    ),
    *mutants(
        "serve/exchange.py",
        _APP,
        [
            ("replies of prompts change places", "return prompt * self.asked.n + sample", "return sample"),
            (
                "prompts of a request share a seed",
                'derive(asked.seed, "serve", index)',
                'derive(asked.seed, "serve", 1)',
            ),
            ("a reply goes on for nobody", "job.cancelled = True", "job.cancelled = False"),
            ("a reply without bound", "min(wanted, room)", "room"),
        ],
    ),
    *mutants(
        "serve/worker.py",
        _WORKER,
        [
            ("different sampling in one batch", "job.shape == batch[0].shape and ", ""),
            ("a batch without bound", " and size + job.sampling.n <= self.max_batch", ""),
            ("a queue without bound", "if waiting + size > self.max_queue:", "if False:"),
            (
                "what was cancelled is decoded",
                "if job.cancelled:\n                continue",
                "if False:\n                continue",
            ),
            ("a failure ends the worker", "except Exception:", "except KeyError:"),
            ("likely tokens of another job", "if len(score.top) <= top", "if True"),
            ("a greedy token where one is drawn", "uniforms(job.seed, sample, 1)", "uniforms(0, 0, 1)"),
            ("an idle worker waits for nobody", '== "closed", GATHER_S)', '== "closed", 0)'),
        ],
    ),
    *mutants(
        "serve/scoring.py",
        _SCORING,
        [
            (
                "scores of the token before",
                "states_TD[start : start + len(part)]",
                "states_TD[start + 1 : start + 1 + len(part)]",
            ),
            ("what comes next is what came before", "head_logits(hf, states_TD[-1])", "head_logits(hf, states_TD[-2])"),
        ],
    ),
    *mutants(
        "serve/spelling.py",
        _SPELLING,
        [
            ("half characters are sent", "if whole.endswith(_UNFINISHED):", "if False:"),
            ("stop texts are let out", "self._held[: len(self._held) - self._doubtful()]", "self._held"),
            (
                "the space before a word is lost",
                "self._context, self._read = self._read,",
                "self._context, self._read = len(ids),",
            ),
        ],
    ),
    *mutants(
        "serve/replies.py",
        _REPLIES,
        [
            ("of tokens spelled alike the worse one counts", "top.setdefault(", "top.__setitem__("),
            (
                "the drawn token is not among the likely ones",
                "in (*score.top, (score.token, score.logp)):",
                "in score.top:",
            ),
            ("every part has a role", "if choice.role else {}", "if True else {}"),
        ],
    ),
    *mutants(
        "serve/streaming.py",
        _APP,
        [
            ("usage though nobody asked", "if asked.include_usage:", "if True:"),
            ("no end of a stream", 'yield "data: [DONE]\\n\\n"', 'yield ""'),
        ],
    ),
    *mutants(
        "serve/running.py",
        _COMMAND,
        [("others may use it without a key", "if not local:\n", "if False:\n")],
    ),
    *mutants(
        "serve/clients.py",
        _COMMAND,
        [("a key on the command line", '"max_retries": 3}', '"max_retries": 3, "header": target.key}')],
    ),
]
