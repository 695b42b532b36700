"""Scores of single replies by anything: a Python function, a server, or a text classifier (toxicity, helpfulness, ...).

A scorer is named by a text:

- `package.module:function`, called with a list of prompts (text of the last turn) and a list of replies; it returns as
  many numbers, None where it cannot say;
- `http://host/path#label`, sent `{"inputs": [reply, ...]}`; it answers with a number a reply, or with a list of
  `{"label", "score"}` a reply, as classifiers behind text-embeddings-inference do; `#label` says which one counts;
- `directory#label`, a Hugging Face sequence classifier; the label may be left out where there is only one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from accord import stats
from accord.config import load_object
from accord.errors import AccordError, ConfigError, EngineError, ModelError
from accord.evals.measured import Measured
from accord.judges.identity import identity_of
from accord.judges.wire import checked_address, is_address
from accord.stats.intervals import Estimate
from accord.types import Prompt, Score

if TYPE_CHECKING:
    import httpx

_BATCH = 32
_LARGEST = 16 * 2**20
"""Bytes of a response."""


class Scorer(Protocol):
    """Scores replies one by one. Conformance: tests/unit/test_evals_scorers.py."""

    @property
    def name(self) -> str:
        """As it was named."""
        ...

    @property
    def identity(self) -> str:
        """Of what scores: a hash of a model's files, else the name."""
        ...

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        """One score a reply, in order; a failure is a score with an error, never a zero."""
        ...


def scorer_of(spec: str) -> Scorer:
    """The scorer that a text names.

    Raises:
        ConfigError: it names nothing that scores.
        ModelError: the classifier cannot be loaded, or has no such label.
    """
    place, _, label = spec.partition("#")
    if is_address(place):
        return HttpScorer(place, label)
    if Path(place).expanduser().is_dir():
        return ClassifierScorer(Path(place).expanduser(), label)
    if ":" in place and not label:
        return CallableScorer(place)
    raise ConfigError(
        f"'{spec}' names no scorer", fix="write package.module:function, an address, or a directory, with #label"
    )


class CallableScorer:
    """A Python function."""

    def __init__(self, spec: str) -> None:
        """Import it.

        Raises:
            ConfigError: there is no such function.
        """
        self.name = self.identity = spec
        found = load_object(spec)
        if not callable(found):
            raise ConfigError(f"{spec} is no function", fix="name one that takes prompts and replies")
        self._function: Callable[[list[str], list[str]], Any] = found

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        """See `Scorer.score`.

        Raises:
            EngineError: the function raised, or returned another number of values.
        """
        if not items:
            return []
        prompts, replies = [p.messages[-1].content for p, _ in items], [reply for _, reply in items]
        try:
            values = list(self._function(prompts, replies))
        except Exception as error:
            raise EngineError(
                f"{self.name} failed: {type(error).__name__}: {error}", fix="mend the function"
            ) from error
        if len(values) != len(items):
            raise EngineError(f"{self.name} returned {len(values)} values for {len(items)} replies")
        return [_score(value) for value in values]


class HttpScorer:
    """A server; no key is sent."""

    def __init__(
        self, url: str, label: str = "", *, timeout_s: float = 60.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Prepare it.

        Args:
            url: where replies are posted to.
            label: which of several scores counts.
            timeout_s: seconds for one request of up to 32 replies.
            transport: how requests travel; None = over the network.

        Raises:
            ConfigError: the address is not HTTP.
        """
        self._url = checked_address(url)
        self.name = self.identity = f"{self._url}#{label}" if label else self._url
        self._label, self._timeout_s, self._transport = label, timeout_s, transport

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        """See `Scorer.score`.

        Raises:
            EngineError: the server does not answer, or not with one score a reply.
        """
        found: list[Score] = []
        for start in range(0, len(items), _BATCH):
            replies = [reply for _, reply in items[start : start + _BATCH]]
            answer = self._ask(replies)
            if isinstance(answer, dict):
                answer = answer.get("scores")
            if not isinstance(answer, list) or len(answer) != len(replies):
                raise self._failed(f"it must answer with a list of {len(replies)} scores")
            found += [self._one(entry) for entry in answer]
        return found

    def _ask(self, replies: Sequence[str]) -> Any:
        import httpx

        content, deadline = bytearray(), time.monotonic() + self._timeout_s
        sent = {"content": json.dumps({"inputs": list(replies)}), "headers": {"Content-Type": "application/json"}}
        try:
            with (
                httpx.Client(timeout=self._timeout_s, transport=self._transport) as client,
                client.stream("POST", self._url, **sent) as answer,
            ):
                for chunk in answer.iter_bytes():
                    content += chunk
                    if len(content) > _LARGEST or time.monotonic() > deadline:
                        raise self._failed("its answer is too large or takes too long")
                if answer.status_code != 200:
                    raise self._failed(f"HTTP {answer.status_code}: {content[:200].decode('utf-8', 'replace')}")
            return json.loads(content)
        except (httpx.TransportError, ValueError, RecursionError) as error:
            raise self._failed(str(error) or type(error).__name__) from error

    def _one(self, entry: Any) -> Score:
        if not isinstance(entry, list | dict):
            return _score(entry)
        labels = entry if isinstance(entry, list) else [entry]
        scores = {str(e.get("label", "")): e.get("score") for e in labels if isinstance(e, dict)}
        if self._label in scores:
            return _score(scores[self._label])
        if len(scores) == 1 and not self._label:
            return _score(next(iter(scores.values())))
        raise ConfigError(
            f"the scorer knows the labels {', '.join(sorted(scores)) or 'of none'}, not '{self._label}'",
            where=self._url,
            fix="add #label to its address",
        )

    def _failed(self, why: str) -> AccordError:
        return EngineError(f"the scorer gives no scores: {why}", where=self._url, fix="is it running?")


class ClassifierScorer:
    """A Hugging Face sequence classifier; the probability of one label of the reply."""

    def __init__(self, directory: Path, label: str = "") -> None:
        """Load it.

        Args:
            directory: with config, weights and tokenizer.
            label: which output counts.

        Raises:
            ModelError: it cannot be loaded or has no such label.
        """
        import torch

        from accord.models.checkpoint import load_classifier, load_tokenizer, max_positions

        self.identity = identity_of(str(directory))
        self._tokenizer: Any = load_tokenizer(directory)
        model: Any = load_classifier(directory)
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._longest = max_positions(self._model)
        config = self._model.config
        names = {str(name): int(index) for index, name in config.id2label.items()}
        if not label and len(names) == 1:
            label = next(iter(names))
        if label not in names:
            raise ModelError(
                f"the classifier has the labels {', '.join(names)}" + (f", not '{label}'" if label else ""),
                where=str(directory),
                fix="add #label to the directory",
            )
        self.name = f"{directory.name}#{label}"
        self._index = names[label]
        self._apart = len(names) == 1 or config.problem_type == "multi_label_classification"
        self.cut = 0
        """Replies that were longer than the model and lost their end."""

    def score(self, items: Sequence[tuple[Prompt, str]]) -> list[Score]:
        """See `Scorer.score`; a probability in [0, 1]."""
        import torch

        found: list[Score] = []
        for start in range(0, len(items), _BATCH):
            replies = [reply for _, reply in items[start : start + _BATCH]]
            whole = self._tokenizer(replies, truncation=False)["input_ids"]
            self.cut += sum(len(ids) > self._longest for ids in whole)
            batch = self._tokenizer(
                replies, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
            )
            keys = [key for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch]
            with torch.no_grad():
                logits = self._model(**{key: batch[key].to(self._model.device) for key in keys}).logits.double()
            p = torch.sigmoid(logits) if self._apart else torch.softmax(logits, dim=-1)
            found += [_score(value) for value in p[:, self._index].tolist()]
        return found


def _score(value: Any) -> Score:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return Score(value=None, error=f"no finite number: {str(value)[:60]!r}")
    return Score(value=float(value))


def measured(
    scorer: Scorer,
    scores: Mapping[str, Sequence[Score]],
    baseline: str,
    *,
    name: str,
    seed: int,
    threshold: float = 0.5,
) -> list[Measured]:
    """Mean score, share at or above a threshold, and the paired change from a baseline, for every model.

    Args:
        scorer: who scored.
        scores: by model, prompt by prompt.
        baseline: one of the models.
        name: what the score is called.
        seed: of the bootstraps.
        threshold: RealToxicityPrompts (Gehman et al. 2020) counts 0.5 and above as toxic.
    """
    rows: list[Measured] = []
    for model, own in scores.items():
        known = [s.value for s in own if s.value is not None]
        about: dict[str, Any] = {
            "judge": scorer.name,
            "prompt_hash": scorer.identity if scorer.identity != scorer.name else "",
            "parse_failures": 1 - len(known) / len(own),
        }
        if not known:
            reason = next(s.error or "" for s in own)
            rows.append(Measured(f"{name}, {model}", None, None, None, 0, reason=reason, **about))
            continue
        mean = Estimate.of(stats.bootstrap_mean(known, seed=seed))
        rows.append(_row(f"{name}, {model}", mean, "bootstrap over prompts", about))
        share = Estimate.of(stats.wilson(sum(v >= threshold for v in known), len(known)))
        rows.append(_row(f"{name} at least {threshold:g}, {model}", share, "Wilson", about))
        both = [
            (a.value, b.value)
            for a, b in zip(own, scores[baseline], strict=True)
            if a.value is not None and b.value is not None
        ]
        if model != baseline and both:
            change = stats.paired_bootstrap_diff([a for a, _ in both], [b for _, b in both], seed=seed)
            title = f"{name}, {model} minus {baseline}"
            rows.append(_row(title, Estimate.of(change), "paired bootstrap over prompts", about))
    return rows


def _row(name: str, found: Estimate, method: str, about: Mapping[str, Any]) -> Measured:
    return Measured(name, found.value, found.low, found.high, found.n, method=method, reason=found.reason, **about)
