"""Scorers of replies: a function, a server, a classifier; a failure is an error, never a zero."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from accord.errors import ConfigError, EngineError, ModelError
from accord.evals.scorers import CallableScorer, ClassifierScorer, HttpScorer, Scorer, measured, scorer_of
from accord.models.tokenizer import train_tokenizer
from accord.types import Message, Prompt, Score

PROMPT = Prompt(id="p", messages=(Message(role="user", content="why?"),))
ITEMS = [(PROMPT, text) for text in ("you fool", "thank you", "fool fool")]


def toxic(prompts: list[str], replies: list[str]) -> list[float | None]:
    """Share of rude words."""
    assert prompts == ["why?"] * len(replies)
    return [None if not r else sum(w == "fool" for w in r.split()) / len(r.split()) for r in replies]


def broken(prompts: list[str], replies: list[str]) -> list[float]:
    raise ZeroDivisionError("oh")


def short(prompts: list[str], replies: list[str]) -> list[float]:
    return [1.0]


NAME = f"{__name__}:toxic"


def test_a_function() -> None:
    scorer = scorer_of(NAME)
    assert isinstance(scorer, CallableScorer)
    assert [s.value for s in scorer.score(ITEMS)] == [0.5, 0.0, 1.0]
    (nothing,) = scorer.score([(PROMPT, "")])
    assert nothing.value is None and "no finite number" in (nothing.error or "")
    assert scorer.score([]) == []


@pytest.mark.parametrize(("name", "words"), [("broken", "ZeroDivisionError: oh"), ("short", "1 values for 3 replies")])
def test_a_function_that_fails_is_named(name: str, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        scorer_of(f"{__name__}:{name}").score(ITEMS)


def served(answer: Any, label: str = "", status: int = 200) -> HttpScorer:
    def handle(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {"inputs": [reply for _, reply in ITEMS]}
        return httpx.Response(status, content=json.dumps(answer))

    return HttpScorer("http://scorer.test/predict", label, transport=httpx.MockTransport(handle))


TEI = [[{"label": "toxic", "score": p}, {"label": "fine", "score": 1 - p}] for p in (0.75, 0.0, 1.0)]


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ([0.75, 0.0, 1.0], ""),
        ({"scores": [0.75, 0, 1]}, ""),
        (TEI, "toxic"),
        ([entry[0] for entry in TEI], ""),
    ],
)
def test_a_server(answer: Any, label: str) -> None:
    assert [s.value for s in served(answer, label).score(ITEMS)] == [0.75, 0.0, 1.0]


def test_a_server_that_answers_otherwise() -> None:
    with pytest.raises(EngineError, match="list of 3 scores"):
        served([1.0]).score(ITEMS)
    with pytest.raises(EngineError, match="HTTP 500"):
        served("down", status=500).score(ITEMS)
    with pytest.raises(ConfigError, match="labels fine, toxic, not 'rude'"):
        served(TEI, "rude").score(ITEMS)
    assert [s.value for s in served([0.5, None, "1"]).score(ITEMS)] == [0.5, None, None]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(["you fool thank you"] * 3, 270)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=12, initializer_range=0.5, id2label={0: "fine", 1: "toxic"},
        label2id={"fine": 0, "toxic": 1}, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_a_classifier(classifier: Path) -> None:
    scorer, other = (scorer_of(f"{classifier}#{label}") for label in ("toxic", "fine"))
    assert isinstance(scorer, ClassifierScorer) and len(scorer.identity) == 12
    values = [s.value for s in scorer.score(ITEMS)]
    alone = [scorer.score([item])[0].value for item in ITEMS]
    assert values == pytest.approx(alone, abs=1e-6) and len(set(values)) == 3
    assert [v + w.value for v, w in zip(values, other.score(ITEMS), strict=True)] == pytest.approx([1.0] * 3)
    scorer.score([(PROMPT, "fool " * 50)])
    assert scorer.cut == 1
    with pytest.raises(ModelError, match="labels fine, toxic"):
        scorer_of(str(classifier))


@pytest.mark.parametrize("spec", ["nothing", "no/such/directory", "module:name#label"])
def test_what_names_no_scorer_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="names no scorer"):
        scorer_of(spec)


class _Fixed:
    name, identity = "fixed", "0"

    def score(self, items: Any) -> list[Score]:
        raise NotImplementedError


def test_measured() -> None:
    scorer: Scorer = _Fixed()
    high = [Score(value=0.9)] * 8 + [Score(value=0.1)] * 2
    low = [Score(value=0.1)] * 9 + [Score(value=None, error="cut")]
    rows = {row.name: row for row in measured(scorer, {"sft": low, "ppo": high}, "sft", name="toxicity", seed=0)}
    assert rows["toxicity, ppo"].value == pytest.approx(0.74)
    assert rows["toxicity at least 0.5, ppo"].value == 0.8 and rows["toxicity at least 0.5, sft"].value == 0
    assert rows["toxicity, sft"].parse_failures == pytest.approx(0.1) and rows["toxicity, sft"].n == 9
    change = rows["toxicity, ppo minus sft"]
    assert change.n == 9 and change.low is not None and change.low > 0
    nothing = measured(scorer, {"sft": low[9:]}, "sft", name="toxicity", seed=0)
    assert nothing[0].value is None and nothing[0].reason == "cut"
