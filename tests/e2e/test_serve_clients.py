"""Real clients against the real server: `accord serve` as a process, Accord's own client and evaluation; where they are
installed, the openai SDK, lm-eval and Inspect."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from serve_world import NAME, make_model

from accord import cli
from accord.evals.answering import from_url
from accord.judges.client import ChatClient
from accord.judges.wire import KEY_VARIABLE, Request
from accord.serve.app import Settings
from accord.serve.model import Place
from accord.serve.running import serving
from accord.types import Message, Prompt

torch.set_num_threads(1)
KEY = "sk-of-the-tests"
TALK = (Message(role="system", content="Be brief."), Message(role="user", content="the cat"))
QUESTIONS = [{"question": f"How many cats are {n} cats?", "answer": f"Count.\n#### {n}"} for n in range(2, 8)]


def missing(*modules: str) -> bool:
    return any(importlib.util.find_spec(name) is None for name in modules)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / NAME)


@pytest.fixture(scope="module")
def url(place: Path) -> Generator[str]:
    with serving(Place(str(place), NAME), Settings(NAME, key=KEY)) as address:
        yield address


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(place: Path) -> None:
    command = [sys.executable, "-m", "accord", "serve", str(place), "--port", "0", "--new-key", "--name", "mine"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        made, loading, ready = (process.stdout.readline() for _ in range(3))
        assert loading == f"loading {place}\n"
        found = re.fullmatch(r"mine is ready: (\S+)  \(stop with Ctrl-C\)\n", ready)
        assert found, (ready, process.stderr.read() if process.poll() is not None else "")
        headers = {"Authorization": f"Bearer {made.split()[-1]}"}
        body: dict[str, Any] = {"model": "mine", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        response = httpx.post(f"{found[1]}/chat/completions", json=body, headers=headers, timeout=60)
        assert response.status_code == 200 and response.json()["usage"]["completion_tokens"] <= 4
        assert httpx.get(f"{found[1]}/models").status_code == 401
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "", "")


def test_accords_own_judge_client_is_a_client(url: str) -> None:
    with ChatClient(url, NAME) as client:
        asked = [Request(TALK, 6, temperature=1.0, sample=n, seed=3, top_logprobs=5) for n in range(6)]
        replies = client.complete_many(asked)
        assert client.usage.calls == 6 and client.usage.retries == 0
        assert all(len(reply.first_token) == 5 and reply.finish in ("stop", "length") for reply in replies)
        assert len({reply.text for reply in replies}) > 3
        too_long = client.complete([Message(role="user", content="cat " * 300)], max_tokens=4)
        assert too_long.text is None and "context_length_exceeded" in too_long.error
    with ChatClient(url, NAME) as again:
        assert [r.text for r in again.complete_many(asked)] == [r.text for r in replies]


def test_accords_evaluation_answers_through_it(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answerer = from_url(url, NAME)
    prompts = [Prompt(id=f"p{n}", messages=TALK) for n in range(2)]
    replies = answerer.answer(prompts, max_tokens=5, temperature=1.0, seed=1, n=2)
    answerer.close()
    assert [len(r) for r in replies] == [2, 2] and replies[0] == replies[1]
    data = tmp_path / "gsm8k.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    arguments = ["--data", str(data), "--out", str(tmp_path / "out"), "--model", url, "--model-name", NAME]
    cli.app(["eval", "suite", "gsm8k", *arguments, "--max-tokens", "8"], standalone_mode=False)
    assert f"{NAME}" in capsys.readouterr().out
    assert (tmp_path / "out" / "results.md").is_file()


@pytest.mark.clients
@pytest.mark.skipif(missing("openai"), reason="the openai SDK is not installed")
def test_the_openai_sdk_is_a_client(url: str) -> None:
    import openai

    client = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
    assert [model.id for model in client.models.list()] == [NAME] and client.models.retrieve(NAME).id == NAME
    body: Any = {
        "model": NAME,
        "messages": [{"role": "user", "content": "the cat"}],
        "seed": 1,
        "n": 2,
        "max_tokens": 9,
    }
    whole = client.chat.completions.create(**body, logprobs=True, top_logprobs=2)
    assert whole.choices[0].logprobs and len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
    texts, usage = ["", ""], None
    for chunk in client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        usage = chunk.usage or usage
    assert texts == [choice.message.content for choice in whole.choices] and usage == whole.usage
    made = client.completions.create(model=NAME, prompt=["the", "a dog"], echo=True, logprobs=1, max_tokens=2)
    assert [choice.text.startswith(t) for choice, t in zip(made.choices, ("the", "a dog"), strict=True)] == [True] * 2
    for wrong, kind in (
        ({"model": "other"}, openai.NotFoundError),
        ({"presence_penalty": 1.0}, openai.BadRequestError),
    ):
        with pytest.raises(kind):
            client.chat.completions.create(**{**body, **wrong})
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=url, api_key="sk-no", max_retries=0).models.list()


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.skipif(missing("lm_eval", "aiohttp", "tenacity"), reason="lm-eval is not installed")
def test_lm_evals_log_likelihoods_are_those_of_transformers(place: Path, tmp_path: Path) -> None:
    rows = [{"text": f"the cat sat {n}", "right": n % 2} for n in range(5)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "choice.yaml").write_text(
        f"task: choice\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path / 'rows.jsonl'}}}}}\n"
        "output_type: multiple_choice\ntest_split: test\ndoc_to_text: '{{text}}'\ndoc_to_target: '{{right}}'\n"
        "doc_to_choice: [' on the mat', ' a dog']\nmetric_list: [{metric: acc}]\n"
    )
    command = ["eval", "lm-eval", str(place), "--tasks", "choice", "--include-path", str(tmp_path)]
    command += ["--out", str(tmp_path / "out"), "--", "--log_samples"]
    done = subprocess.run([sys.executable, "-m", "accord", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (samples,) = (tmp_path / "out").rglob("samples_choice_*.jsonl")
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place).eval()
    compared = 0
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        for arguments, response in zip(sample["arguments"].values(), sample["resps"], strict=True):
            before, after = arguments["arg_0"], arguments["arg_1"]
            start = len(tokenizer.encode(before, add_special_tokens=False))
            ids = tokenizer.encode(before + after, add_special_tokens=False)
            with torch.no_grad():
                logps = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            wanted = sum(float(logps[i - 1, ids[i]]) for i in range(start, len(ids)))
            greedy = all(int(logps[i - 1].argmax()) == ids[i] for i in range(start, len(ids)))
            assert float(response[0][0]) == pytest.approx(wanted, abs=1e-4)
            assert (str(response[0][1]) == "True") == greedy
            compared += 1
    assert compared == 10


TASK = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes

@task
def cats():
    return Task(dataset=[Sample(input=f"the cat {n}", target="cat") for n in range(3)], scorer=includes())
"""


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.skipif(
    missing("inspect_ai", "openai")
    or not (shutil.which("inspect") or Path(sys.executable).with_name("inspect").is_file()),
    reason="Inspect is not installed",
)
def test_inspect_is_a_client(place: Path, tmp_path: Path) -> None:
    (tmp_path / "cats.py").write_text(TASK)
    command = [sys.executable, "-m", "accord", "eval", "inspect", str(place), str(tmp_path / "cats.py")]
    command += ["--out", str(tmp_path / "logs"), "--", "--display", "plain", "--log-format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = (tmp_path / "logs").glob("*.json")
    told = json.loads(log.read_text())
    assert told["status"] == "success" and len(told["samples"]) == 3
    (usage,) = told["stats"]["model_usage"].values()
    assert usage["output_tokens"] > 0
