"""Who answers: a model on disk, behind an address, or a file of answers; nothing is answered twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.errors import ConfigError, DataError
from accord.evals.answering import DirectoryAnswerer, FileAnswerer, answerer_of, from_directory, from_url
from accord.evals.gold import GoldJudge
from accord.judges.reward import RewardJudge
from accord.models.build import new_causal, reward_from_causal, set_score_stats
from accord.models.checkpoint import save_model
from accord.models.policy import CausalModel
from accord.models.tokenizer import train_tokenizer
from accord.types import Message, Prompt
from mock_model import MockModel

torch.set_num_threads(1)
SAMPLED: dict[str, Any] = {"max_tokens": 6, "temperature": 1.0, "seed": 5}


def prompt(text: str, name: str = "p", **meta: Any) -> Prompt:
    return Prompt(id=name, messages=(Message(role="user", content=text),), meta=meta)


PROMPTS = [prompt(f"the cat sat {n}", f"q-{n}") for n in range(5)]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a language model and a reward model."""
    place = tmp_path_factory.mktemp("kit")
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, 270)
    model = new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_positions=64, init_std=0.3)
    save_model(CausalModel(model), tokenizer, place / "policy", "card")
    reward = reward_from_causal(model, seed=3)
    set_score_stats(reward, 0.5, 2.0)
    save_model(reward, tokenizer, place / "reward", "card")
    return place


def test_replies_depend_on_prompt_and_seed_alone_and_are_kept(kit: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.db"
    first = DirectoryAnswerer(kit / "policy", cache=cache, max_batch=2)
    wanted = first.answer(PROMPTS, **SAMPLED, n=2)
    assert all(len(replies) == 2 for replies in wanted) and len({r for rs in wanted for r in rs}) > 5
    assert from_directory(kit / "policy").answer(PROMPTS[::-1], **SAMPLED, n=2) == wanted[::-1]
    again = DirectoryAnswerer(kit / "policy", cache=cache)
    again._load = None  # pyright: ignore  (it must not be needed)
    assert again.answer([PROMPTS[3], PROMPTS[3]], **SAMPLED, n=2) == [wanted[3]] * 2
    assert again.identity == first.identity and again.name == "policy"
    other = from_directory(kit / "policy").answer(PROMPTS, **{**SAMPLED, "seed": 6}, n=2)
    assert other != wanted


def test_a_prompt_without_room_is_answered_by_nothing_and_that_is_said(kit: Path) -> None:
    said: list[str] = []
    answerer = DirectoryAnswerer(kit / "policy", say=said.append)
    replies = answerer.answer([prompt("the cat " * 40), PROMPTS[0]], **SAMPLED)
    assert replies[0] == [""] and replies[1] == from_directory(kit / "policy").answer(PROMPTS[:1], **SAMPLED)[0]
    assert said == ["  policy: 1 prompts leave room for fewer than 6 tokens of reply"]


def test_an_address_answers_every_sample_once(tmp_path: Path) -> None:
    def script(body: dict[str, Any]) -> Any:
        if "3" in body["messages"][-1]["content"]:
            return 400, {"error": "filtered"}
        return {"text": f"{body['messages'][-1]['content']}/{body['seed']}"}

    with MockModel(script) as model:
        answerer = from_url(model.url, "m", cache=tmp_path / "c.db")
        replies = answerer.answer(PROMPTS, **SAMPLED, n=2)
        assert answerer.answer(PROMPTS[:3], **SAMPLED, n=2) == replies[:3]
        assert len(model.requests) == 10
        answerer.close()
    assert replies[3] == ["", ""] and len({r for rs in replies for r in rs}) == 9
    assert all(r.startswith("the cat sat 0/") for r in replies[0])


FILES = {
    "ids.jsonl": '{"id": "q-0", "reply": "zero"}\n{"question_id": 1, "replies": ["one", "eins"]}\n',
    "alpaca.json": json.dumps(
        [{"instruction": f"the cat sat {n}", "output": w, "generator": "g"} for n, w in enumerate(("zero", "one"))]
    ),
    "mt.jsonl": '{"question_id": 0, "choices": [{"index": 0, "turns": ["zero", "more"]}]}\n'
    '{"question_id": 1, "choices": [{"index": 0, "turns": ["one", "again"]}]}\n',
    "messages.jsonl": '{"messages": [{"role": "user", "content": "the cat sat 0"}], "candidates": [{"text": "zero"}]}\n'
    '{"prompt": "the cat sat 1", "completion": "one"}\n',
}


@pytest.mark.parametrize("name", FILES)
def test_answers_of_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    answerer = answerer_of(str(path))
    assert isinstance(answerer, FileAnswerer)
    assert answerer.answer(PROMPTS[:2], **SAMPLED) == [["zero"], ["one"]]
    assert answerer.name == ("g" if name == "alpaca.json" else path.stem)
    with pytest.raises(DataError, match="fewer than 1 answers; first: q-2 has 0"):
        answerer.answer(PROMPTS, **SAMPLED)
    if name == "mt.jsonl":
        later = PROMPTS[0].model_copy(
            update={
                "messages": (
                    *PROMPTS[0].messages,
                    Message(role="assistant", content="whatever"),
                    Message(role="user", content="and?"),
                )
            }
        )
        assert answerer.answer([later], **SAMPLED) == [["more"]]


@pytest.mark.parametrize(
    ("row", "words"), [('{"id": 1}', "no reply"), ('{"reply": "x"}', "without an id"), ("[1]", "not an answer")]
)
def test_a_file_that_holds_no_answers_is_refused_with_its_line(row: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": 1, "reply": "x"}\n' + row + "\n")
    with pytest.raises(DataError, match=words) as error:
        FileAnswerer(path)
    assert ":2" in str(error.value)


def test_an_address_needs_a_model_name() -> None:
    with pytest.raises(ConfigError, match="needs the name of the model"):
        answerer_of("http://localhost:1/v1")


def test_a_reward_model_prefers_by_bradley_and_terry(kit: Path) -> None:
    judge = RewardJudge(str(kit / "reward"))
    items = [(PROMPTS[0], "the mat", "the cat sat"), (PROMPTS[0], "the cat sat", "the mat"), (PROMPTS[1], "a", "a")]
    found = judge.compare(items)
    a, b = (r.value for r in judge.rate([(PROMPTS[0], "the mat"), (PROMPTS[0], "the cat sat")]))
    assert a is not None and b is not None and a != b
    # Scores are raw ones divided by 2; their difference times 2 is the log-odds.
    assert found[0].p == pytest.approx(1 / (1 + math.exp(-2 * (a - b))))
    assert found[1].p == pytest.approx(1 - found[0].p) and found[2].p == 0.5
    assert found[0].by_order == (None, None) and found[0].consistent is None
    long = judge.rate([(PROMPTS[0], "the cat " * 60)])[0]
    assert long.value is None and "64 positions" in long.error
    assert judge.prompt_hash == RewardJudge(str(kit / "reward")).prompt_hash != ""


def test_gold_knows_its_own_prompts_only() -> None:
    from accord import lab

    asked = lab.prompts(0, 4)
    best = [(p, lab.best_reply(p), lab.random_reply(p, 1)) for p in asked]
    assert all(c.p is not None and c.p >= 0.5 for c in GoldJudge().compare(best))
    assert [r.value for r in GoldJudge().rate([(p, b) for p, b, _ in best])] == [
        lab.score(p, b).utility for p, b, _ in best
    ]
    with pytest.raises(DataError, match="its own prompts only"):
        GoldJudge().rate([(PROMPTS[0], "x")])
