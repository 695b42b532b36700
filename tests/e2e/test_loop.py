"""The whole loop on the embedded lab, from raw text to a report, at the smallest size that trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny_lab
from accord import cli
from accord.artifacts import list_artifacts, load_artifact
from accord.errors import Waiting
from accord.models import chat
from accord.tracking import read_metrics
from accord.types import Demonstration, Prompt
from tiny_lab import Ran, files, rows

ALL = {"pretrain", "sft", "sample", "collect", "reward", "ppo", "dpo", "evaluate", "report"}
TRAINED = ("pretrain", "sft", "reward", "ppo", "dpo")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_lab.write_config(tmp_path_factory.mktemp("loop"))


@pytest.fixture(scope="session")
def whole(config: Path) -> Ran:
    """The one run that the tests here look at; they may add to its directory and change nothing in it."""
    return tiny_lab.run(config, config.parent)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The command line in this process; returns the exit code."""
    monkeypatch.setattr("sys.argv", ["accord", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    code = stop.value.code
    return code if isinstance(code, int) else int(code is not None)


def test_every_stage_leaves_an_undamaged_artifact(whole: Ran, config: Path) -> None:
    assert whole.worked == set(whole.made) == ALL
    for section, artifact in whole.made.items():
        manifest = load_artifact(artifact.dir, verify=True).manifest
        assert manifest.stage == section
        assert artifact.dir.name == f"{section}-{manifest.fingerprint[:8]}"
        assert manifest.versions["torch"] == torch.__version__
        on_disk = {p.relative_to(artifact.dir).as_posix() for p in files(artifact.dir)} - {"manifest.json"}
        assert on_disk == set(manifest.files)
    assert len(list_artifacts(config.parent / "tiny")) == len(ALL)
    unfinished = [p.name for p in (config.parent / "tiny").iterdir() if ".partial" in p.name or ".trash" in p.name]
    assert unfinished == []


def test_lineage_names_what_each_stage_was_made_from(whole: Ran) -> None:
    def parents(section: str) -> dict[str, str]:
        inputs = whole.made[section].manifest.inputs
        for reference in inputs.values():
            if reference.stage != "external":
                assert reference.fingerprint == whole.made[reference.stage].fingerprint
                assert reference.path == whole.made[reference.stage].dir.name
        return {field: reference.stage for field, reference in inputs.items()}

    assert parents("pretrain") == {"dataset": "external"}
    assert parents("sft") == {"model_name_or_path": "pretrain", "dataset": "external"}
    assert parents("collect") == {"samples": "sample"}
    assert parents("reward") == {"model_name_or_path": "sft", "dataset": "collect"}
    expected = {
        "model_name_or_path": "sft",
        "reward_model": "reward",
        "prompts": "external",
        "eval_prompts": "external",
    }
    assert parents("ppo") == expected
    assert parents("dpo")["dataset"] == "collect"
    named = {name: parents("evaluate")[f"models.{name}"] for name in ("base", "sft", "ppo", "dpo")}
    assert named == {"base": "pretrain", "sft": "sft", "ppo": "ppo", "dpo": "dpo"}


def test_every_training_stage_learns_and_logs(whole: Ran) -> None:
    for section in TRAINED:
        lines = read_metrics(whole.made[section].dir)
        assert lines[-1]["step"] == whole.made[section].manifest.metrics["steps"]
        assert all("loss" in line for line in lines if line["step"] > 0)
    for section in ("pretrain", "sft"):
        measured = [line["eval/loss"] for line in read_metrics(whole.made[section].dir) if "eval/loss" in line]
        assert measured[-1] < measured[0]
    tensors = [weights_of(whole, section) for section in ("sft", "ppo", "dpo")]
    for trained in tensors[1:]:
        assert any(not torch.equal(trained[name], value) for name, value in tensors[0].items())


def weights_of(ran: Ran, section: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(ran.made[section].dir / "model" / "model.safetensors")


def test_a_second_run_does_nothing(whole: Ran, config: Path) -> None:
    run_dir = config.parent / "tiny"
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files(run_dir) if p.parent != run_dir}
    again = tiny_lab.run(config, config.parent)
    assert again.repeated == ALL
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files(run_dir) if p.parent != run_dir} == before
    assert {name: a.dir for name, a in again.made.items()} == {name: a.dir for name, a in whole.made.items()}


def test_a_changed_setting_repeats_only_what_depends_on_it(whole: Ran, config: Path) -> None:
    changed = tiny_lab.run(config, config.parent, "ppo.kl_coef=0.2")
    assert changed.worked == {"ppo", "evaluate", "report"}
    assert changed.made["ppo"].dir != whole.made["ppo"].dir
    assert read_metrics(changed.made["ppo"].dir)[1]["objective/kl_coef"] == pytest.approx(0.2, rel=0.1)
    page = (changed.made["report"].dir / "report.html").read_text(encoding="utf-8")
    assert changed.made["ppo"].fingerprint[:8] in page
    index = json.loads((config.parent / "tiny" / "run.json").read_text(encoding="utf-8"))
    assert index["stages"]["ppo"] == changed.made["ppo"].dir.name
    # Both variants stay; asking for the first one again costs nothing but its name in the index.
    assert tiny_lab.run(config, config.parent).worked == set()


@pytest.mark.parametrize("section", ["pretrain", "sft", "ppo", "dpo"])
def test_policies_are_plain_checkpoints_with_the_answers_of_the_evaluation(whole: Ran, section: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = whole.made[section].dir / "model"
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    name = "base" if section == "pretrain" else section
    for row in rows(whole.made["evaluate"].dir / "answers.jsonl"):
        messages = [{"role": m["role"], "content": m["content"]} for m in row["prompt"]["messages"]]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert ids == chat.encode_prompt(tokenizer, Prompt.model_validate(row["prompt"]).messages)
        made = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)
        assert tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True) == row["answers"][name]


def test_saved_policies_have_the_loss_that_was_measured_in_training(whole: Ran) -> None:
    assert transformers_loss(whole) == pytest.approx(whole.made["sft"].manifest.metrics["eval_loss"], abs=1e-5)


def question(record: Demonstration) -> str:
    """What demonstrations with the same prompt share: they are held out together."""
    return "\x1e".join(f"{m.role}\x1f{m.content}" for m in record.messages[:-1])


def transformers_loss(ran: Ran) -> float:
    """Mean loss of the saved SFT model on its held-out demonstrations, computed by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from accord import lab, rng
    from accord.stages.training import hold_out

    directory = ran.made["sft"].dir / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    config = ran.made["sft"].manifest.config
    demonstrations = list(lab.demonstrations(rng.derive(0, "lab", "demonstrations"), 60))
    _, held_out = hold_out(demonstrations, question, config["eval_fraction"], 0)
    total, count = 0.0, 0
    for record in held_out:
        ids, mask = chat.encode_conversation(tokenizer, record.messages)
        if len(ids) > config["max_length"]:
            continue
        labels = [i if m else -100 for i, m in zip(ids, mask, strict=True)]
        with torch.no_grad():
            total += float(model(torch.tensor([ids]), labels=torch.tensor([labels])).loss) * sum(mask)
        count += sum(mask)
    assert count > 20
    return total / count


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_reward_model_is_a_plain_classifier_with_identical_scores(whole: Ran, side: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from accord.models.checkpoint import load_reward
    from accord.rewards.learned import LearnedReward

    directory = whole.made["reward"].dir / "model"
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side=side)
    texts = [
        tokenizer.apply_chat_template(
            [*row["prompt"]["messages"], {"role": "assistant", "content": row["candidates"][0]["text"]}], tokenize=False
        )
        for row in rows(whole.made["collect"].dir / "preferences.jsonl")[:9]
    ]
    padded = tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
    assert not padded["attention_mask"].all()
    with torch.no_grad():
        theirs = model(**padded).logits[:, 0]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ours = LearnedReward(load_reward(directory).requires_grad_(False), pad_id=tokenizer.pad_token_id).score_ids(ids)
    torch.testing.assert_close(theirs, torch.tensor(ours), rtol=0, atol=1e-6)
    assert theirs.std() > 0


def test_results_answers_and_report_are_there(whole: Ran) -> None:
    evaluation = whole.made["evaluate"].dir
    results = json.loads((evaluation / "results.json").read_text(encoding="utf-8"))
    answers = rows(evaluation / "answers.jsonl")
    assert len(answers) == 12
    assert set(results["models"]) == {"base", "sft", "ppo", "dpo"}
    assert results["models"]["sft"]["kl"] == pytest.approx(0.0, abs=1e-5)
    for name, summary in results["models"].items():
        mean = sum(row["gold"][name]["utility"] for row in answers) / len(answers)
        assert summary["utility"]["value"] == pytest.approx(mean)
    for rate in results["win_rates"]:
        gains = [row["gold"][rate["a"]]["utility"] - row["gold"][rate["b"]]["utility"] for row in answers]
        wins, ties = sum(g > 0 for g in gains), sum(g == 0 for g in gains)
        assert (rate["wins"], rate["ties"], rate["b"]) == (wins, ties, "sft")
        assert rate["win_rate"] == pytest.approx((wins + ties / 2) / len(gains))
    report = json.loads((whole.made["reward"].dir / "eval.json").read_text(encoding="utf-8"))
    assert set(report["baselines"]) >= {"longer", "bag_of_words"}
    page = (whole.made["report"].dir / "report.html").read_text(encoding="utf-8")
    for artifact in whole.made.values():
        assert artifact.stage == "report" or artifact.fingerprint[:8] in page


def test_people_are_waited_for_and_then_the_run_continues(
    whole: Ran, config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = [f"run.dir={config.parent}", "collect.annotators=people", "collect.min_labels=20"]
    assert call(monkeypatch, "collect", "-c", config, *settings) == 75
    shown = capfd.readouterr()
    assert "waiting: 0 of 20 labels" in " ".join(shown.err.split())
    with pytest.raises(Waiting):
        tiny_lab.run(config, config.parent, *settings[1:], only="reward")

    tasks = config.parent / "tiny" / "collect-tasks.jsonl"
    assert str(tasks) in shown.err.replace("\n", "")
    labels = [{**task, "choice": 0, "annotator": "ada"} for task in rows(tasks)]
    written = "".join(json.dumps(label) + "\n" for label in labels)
    tasks.with_name("collect-labels.jsonl").write_text(written, encoding="utf-8")
    assert call(monkeypatch, "reward", "-c", config, *settings, "max_steps=2") == 0
    assert "collect: done" in capfd.readouterr().out

    made = tiny_lab.run(config, config.parent, *settings[1:], "reward.max_steps=2", only="reward").made
    assert made["collect"].manifest.metrics["annotators"] == {"ada": {"n": len(labels)}}
    assert made["reward"].manifest.inputs["dataset"].fingerprint == made["collect"].fingerprint
    assert made["collect"].fingerprint != whole.made["collect"].fingerprint


def test_lora_runs_end_in_plain_models(whole: Ran, config: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    lora = [f"{s}.{o}" for s in ("sft", "reward", "ppo", "dpo") for o in ("use_peft=true", "lora_r=4")]
    ran = tiny_lab.run(config, config.parent, *lora, "evaluate.num_prompts=4")
    assert ran.repeated == {"pretrain"}
    for section in ("sft", "reward", "ppo", "dpo"):
        metrics = ran.made[section].manifest.metrics
        assert metrics["trainable_parameters"] < metrics["parameters"]
        # The model is whole; its adapter lies beside it, in a directory that transformers does not look into.
        saved = ran.made[section].dir / "model"
        assert not any("adapter" in path.name for path in saved.iterdir() if path.is_file())
        assert (saved / "adapter" / "adapter_config.json").is_file()
        assert set(weights_of(ran, section)) == set(weights_of(whole, section))
        kind = AutoModelForSequenceClassification if section == "reward" else AutoModelForCausalLM
        model = kind.from_pretrained(ran.made[section].dir / "model")
        assert sum(p.numel() for p in model.parameters()) == whole.made[section].manifest.metrics["parameters"] or (
            section == "ppo"  # which counts its critic too
        )
    # The merged weights are the ones that were measured with the adapter on, and they differ from the base model's.
    assert transformers_loss(ran) == pytest.approx(ran.made["sft"].manifest.metrics["eval_loss"], abs=1e-5)
    before, after = weights_of(ran, "pretrain"), weights_of(ran, "sft")
    assert any(not torch.equal(after[name], value) for name, value in before.items())
