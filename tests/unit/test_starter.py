"""What `accord init` writes: it loads, says what the code says, and overwrites nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from accord import planning
from accord.cli import load
from accord.data import read
from accord.errors import ConfigError
from accord.stages import STAGES
from accord.starter import write
from accord.types import Demonstration, Document, Preference, Prompt


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("starter") / "new"
    files = write.write_starter(directory)
    assert sorted(files) == sorted(p for p in directory.rglob("*") if p.is_file())
    assert [str(p.relative_to(directory)) for p in files[:2]] == ["run.yaml", "README.md"]
    return directory


def test_the_config_names_files_that_exist(starter: Path) -> None:
    config = load(starter / "run.yaml", [])
    assert [s.section for s in planning.steps(config)] == [
        *["pretrain", "sft", "reward", "ppo", "dpo", "evaluate", "report"]
    ]
    assert all(found is not None for found in planning.memory(config).values())


@pytest.mark.parametrize(
    ("name", "kind", "num"),
    [
        ("corpus", Document, write.NUM_DOCUMENTS),
        ("demonstrations", Demonstration, write.NUM_DEMONSTRATIONS),
        ("prompts", Prompt, write.NUM_PROMPTS),
        ("eval_prompts", Prompt, write.NUM_EVAL_PROMPTS),
        ("preferences", Preference, write.NUM_PREFERENCES),
    ],
)
def test_sample_data_is_read_as_what_it_is(starter: Path, name: str, kind: type, num: int) -> None:
    found = read(starter / "data" / f"{name}.jsonl", kind)
    assert len(found.records) == num
    assert {type(record) for record in found.records} == {kind}


def test_preferences_are_real_and_evaluation_prompts_are_new(starter: Path) -> None:
    pairs = [r for r in read(starter / "data" / "preferences.jsonl", Preference).records]
    assert all(p.choice == 0 and p.candidates[0].text != p.candidates[1].text for p in pairs)
    longer = sum(len(p.candidates[0].text) > len(p.candidates[1].text) for p in pairs) / len(pairs)
    assert 0.05 < longer < 0.95, "length alone must not decide"

    def asked(name: str) -> set[str]:
        return {p.messages[0].content for p in read(starter / "data" / f"{name}.jsonl", Prompt).records}

    trained = asked("prompts") | {p.prompt.messages[0].content for p in pairs}
    assert len(asked("eval_prompts") & trained) == 0


def uncommented(text: str, what: str = "") -> str:
    """The config with its commented-out keys (lines `# key:` or `  # key:`) switched on."""
    lines = []
    for line in text.splitlines():
        found = re.fullmatch(r"(\s*)# (\s*[a-z_0-9]+:( .*)?)", line)
        lines.append(found.group(1) + found.group(2) if found and what in line else line)
    return "\n".join(lines)


def test_every_key_that_is_commented_out_is_a_key(starter: Path, tmp_path: Path) -> None:
    text = uncommented((starter / "run.yaml").read_text())
    (tmp_path / "run.yaml").write_text(text)
    config = load(tmp_path / "run.yaml", ["reward.dataset=collect", "dpo.dataset=collect"])
    assert {"sample", "collect"} <= config.sections.keys()
    standard = {"split", "pretrain", "sft", "sample", "collect", "reward", "ppo", "dpo", "evaluate", "report"}
    assert standard == set(config.sections) and standard <= set(STAGES)
    assert "use_peft: true" in text and "\n  lora_r: 16" in text and "\n  max_kl: 20" in text


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prompts.jsonl").write_text("mine")
    with pytest.raises(ConfigError, match=r"data/prompts\.jsonl exists already"):
        write.write_starter(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["prompts.jsonl"]
    assert (tmp_path / "data" / "prompts.jsonl").read_text() == "mine"


def test_the_same_files_every_time(starter: Path, tmp_path: Path) -> None:
    write.write_starter(tmp_path)
    for path in starter.rglob("*.jsonl"):
        assert path.read_bytes() == (tmp_path / path.relative_to(starter)).read_bytes()
