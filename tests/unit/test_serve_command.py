"""Commands: which model is meant, who may reach it, and what lm-eval and Inspect are called with."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from serve_world import NAME, make_model

from accord import cli
from accord.artifacts import commit, open_workspace
from accord.errors import ConfigError, ModelError
from accord.serve import clients, running
from accord.serve.app import Settings
from accord.serve.clients import LmEval, Target, inspect_command, lm_eval_command, run_client, target_of
from accord.serve.model import Place, find_model
from accord.serve.running import check_reach, key_of, new_key, serving

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def accord(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the entry point in this process: (exit code, what it said on standard error)."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["accord", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        code = caught.value.code
        return (code if isinstance(code, int) else 0), re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err)

    return run


def a_run(place: Path, kinds: dict[str, str]) -> Path:
    """A run whose artifacts look like what stages leave."""
    index = {}
    for number, (stage, kind) in enumerate(kinds.items()):
        workspace = open_workspace(place, stage, f"{number:064x}")
        assert not hasattr(workspace, "manifest")
        path = workspace.path("model/config.json")  # pyright: ignore
        path.write_text("{}")
        made = commit(workspace, kind=kind, version=1, config={}, seed=0, inputs={}, metrics={})  # pyright: ignore
        index[stage] = made.dir.name
    (place / "run.json").write_text(json.dumps({"stages": index}))
    return place


def test_a_model_is_found_in_a_directory_an_artifact_a_run_and_on_the_hub(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"sft": "policy", "reward": "reward_model"})
    (directory,) = run.glob("sft-*")
    wanted = Place(str(directory / "model"), "sft")
    assert find_model(str(run)) == find_model(str(directory)) == find_model(str(run), stage="sft") == wanted
    assert find_model(str(run), name="mine").name == "mine"
    assert find_model(str(directory / "model")) == Place(str(directory / "model"), "model")
    assert find_model("org/some-model") == Place("org/some-model", "some-model")
    (run / "run.json").write_text("[")
    assert find_model(str(run)) == wanted  # without an index, by the stages there are


def test_a_run_with_several_models_needs_a_stage(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"sft": "policy", "ppo": "policy"})
    with pytest.raises(ConfigError, match="several models") as error:
        find_model(str(run))
    assert "--stage sft, --stage ppo" in str(error.value)
    assert find_model(str(run), stage="ppo").name == "ppo"
    with pytest.raises(ConfigError, match="no model 'dpo'"):
        find_model(str(run), stage="dpo")
    with pytest.raises(ConfigError, match="no model here"):
        find_model(str(tmp_path))
    with pytest.raises(ConfigError, match="this is no run"):
        find_model("org/some-model", stage="ppo")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_needs_no_key_but_its_own_name(host: str) -> None:
    names = check_reach(host, "", open_to_all=False)
    assert names is not None and {host, "localhost"} <= names
    assert check_reach(host, "", open_to_all=True) == names  # --no-key is about other machines
    assert check_reach(host, "sk-key", open_to_all=False) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "my-machine"])
def test_other_machines_need_a_key_unless_told_otherwise(host: str) -> None:
    with pytest.raises(ConfigError, match="asks for no key"):
        check_reach(host, "", open_to_all=False)
    assert check_reach(host, "sk-key", open_to_all=False) is check_reach(host, "", open_to_all=True) is None


def test_keys_come_from_the_environment_or_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(running.KEY_VARIABLE, raising=False)
    assert key_of(None) == ""
    monkeypatch.setenv(running.KEY_VARIABLE, " sk-1 ")
    monkeypatch.setenv("MINE", "sk-2")
    assert (key_of(None), key_of("MINE")) == ("sk-1", "sk-2")
    with pytest.raises(ConfigError, match="NOBODY is not set"):
        key_of("NOBODY")
    monkeypatch.setenv("MINE", "two words")
    with pytest.raises(ConfigError, match="is no key"):
        key_of("MINE")
    assert len({new_key() for _ in range(10)}) == 10 and len(new_key()) > 40


def test_the_command_refuses_before_it_listens_or_loads(
    accord: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(running.KEY_VARIABLE, raising=False)
    run = a_run(tmp_path / "run", {"sft": "policy", "ppo": "policy"})
    assert accord("serve", "m", "--host", "0.0.0.0")[0] == 2
    code, said = accord("serve", "m", "--require-key")
    assert code == 2 and "no key is set" in said and running.KEY_VARIABLE in said
    code, said = accord("serve", str(run))
    assert code == 2 and "--stage sft" in said


def test_a_model_that_cannot_be_loaded_ends_the_command(accord: Run, tmp_path: Path) -> None:
    code, said = accord("serve", str(tmp_path / "none"), "--port", "0")
    assert code == ModelError.exit_code and "does not exist" in said


HERE = Target("http://h/v1", "m", "sk-secret", "models/m", 512)


def test_lm_eval_is_told_all_it_needs_and_no_key() -> None:
    asked = LmEval("gsm8k,hellaswag", False, 5, 3, Path("out"), Path("tasks"), 4, ("--log_samples",))
    command = lm_eval_command(HERE, asked)
    assert command[:4] == [sys.executable, "-m", "lm_eval", "run"]
    assert json.loads(command[command.index("--model_args") + 1]) == {
        "model": "m",
        "num_concurrent": 4,
        "max_retries": 3,
        "max_length": 512,
        "tokenizer": "models/m",
        "tokenizer_backend": "huggingface",
        "tokenized_requests": True,
        "base_url": "http://h/v1/completions",
    }
    told = dict(zip(command[4:-1:2], command[5:-1:2], strict=True))
    assert told["--model"] == "local-completions" and told["--tasks"] == "gsm8k,hellaswag"
    assert (told["--limit"], told["--num_fewshot"], told["--output_path"]) == ("5", "3", "out")
    assert told["--include_path"] == "tasks" and command[-1] == "--log_samples"
    assert not any("sk-secret" in part for part in command)


def test_lm_eval_chats_without_a_tokenizer_and_scores_with_one_only() -> None:
    away = Target("http://h/v1", "m", "", "", None)
    command = lm_eval_command(away, LmEval("gsm8k", chat=True))
    arguments = json.loads(command[command.index("--model_args") + 1])
    assert arguments["base_url"] == "http://h/v1/chat/completions" and "max_length" not in arguments
    assert "local-chat-completions" in command and "--apply_chat_template" in command and "--limit" not in command
    with pytest.raises(ConfigError, match="needs the tokenizer"):
        lm_eval_command(away, LmEval("hellaswag"))
    told = lm_eval_command(away, LmEval("hellaswag"), "given")
    assert json.loads(told[told.index("--model_args") + 1])["tokenizer"] == "given"


def test_inspect_is_told_all_it_needs() -> None:
    command = inspect_command("inspect", HERE, "task.py", limit=3, out=Path("logs"), rest=["--epochs", "2"])
    wanted = "inspect eval task.py --model openai-api/accord/m --limit 3 --log-dir logs --epochs 2"
    assert command == wanted.split()
    absolute = inspect_command("inspect", HERE, str(Path.cwd() / "a" / "t.py@one"), limit=None, out=None, rest=[])
    assert absolute[2] == "a/t.py@one"


def test_a_missing_client_says_how_to_install_it(accord: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "find_spec", lambda name: None if name == "lm_eval" else object())
    code, said = accord("eval", "lm-eval", "model", "--tasks", "gsm8k")
    assert code == 2 and "lm-eval is not installed (lm_eval missing)" in said and "accord-rlhf[lmeval]" in said
    code, said = accord("eval", "inspect", "model", "task.py", "--program", "no-such-program")
    assert code == 2 and "no program no-such-program" in said and "accord-rlhf[inspect]" in said


def test_a_target_is_served_while_it_is_used_and_one_at_an_address_is_asked_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_model(tmp_path / NAME)
    how = {"stage": "", "name": "", "key_variable": None, "max_batch": 4, "weights": running.Weights()}
    with target_of(str(place), **how) as here:  # pyright: ignore
        assert (here.name, here.tokenizer, here.max_length) == (NAME, str(place), 96) and here.key
        monkeypatch.setenv(running.KEY_VARIABLE, here.key)
        with target_of(here.url, **how) as there:  # pyright: ignore
            assert there == Target(here.url, NAME, here.key, "", 96)
        with pytest.raises(ConfigError, match="0 models"), target_of(here.url, **{**how, "name": "other"}):  # pyright: ignore
            pass
        monkeypatch.setenv(running.KEY_VARIABLE, "sk-wrong")
        with pytest.raises(ConfigError, match="401"), target_of(here.url, **how):  # pyright: ignore
            pass
    with pytest.raises(ConfigError, match="no list of models"), target_of(here.url, **how):  # pyright: ignore
        pass


def test_a_client_gets_its_key_in_the_environment_and_its_exit_code_is_ours() -> None:
    code = "import os, sys; sys.exit(7 if os.environ['SOME_KEY'] == 'sk' else 1)"
    assert run_client([sys.executable, "-c", code], {"SOME_KEY": "sk"}) == 7


def test_a_server_in_a_block_is_gone_after_it(tmp_path: Path) -> None:
    place = make_model(tmp_path / NAME)
    with serving(Place(str(place), NAME), Settings(NAME)) as url:
        assert httpx.get(f"{url}/models").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/models")
