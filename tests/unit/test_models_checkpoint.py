"""Models on disk: what is written loads elsewhere and says the same; what cannot be trusted is refused by name."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
)

from accord.batch import collate
from accord.errors import ArtifactError, ModelError
from accord.models.build import new_causal, reward_from_causal, score_stats, set_score_stats
from accord.models.checkpoint import (
    check_vocabulary,
    load_causal,
    load_reward,
    load_tokenizer,
    max_positions,
    model_card,
    save_model,
)
from accord.models.lora import add_lora
from accord.models.policy import CausalModel
from accord.models.tokenizer import train_tokenizer

torch.set_num_threads(1)

CARD = model_card(title="A model", body="Trained for a test.", base_model="tiny", datasets=["lab"], tags=["ppo"])
ROWS = [[1, 4, 9, 13, 22, 2], [1, 4, 8, 2], [1, 4, 30, 31, 32, 33, 34, 35, 36, 2]]
BATCH = collate(ROWS, [[t > 1 for t in range(len(row))] for row in ROWS], pad_id=0)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the cat sat on the mat"] * 3, 270)


@pytest.fixture(scope="module")
def model(tokenizer):
    return new_causal(tokenizer, hidden_size=32, num_layers=1, num_heads=4, num_kv_heads=2, max_positions=64)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, model, tokenizer):
    directory = tmp_path_factory.mktemp("saved")
    save_model(CausalModel(model), tokenizer, directory, CARD)
    return directory


@pytest.fixture
def broken(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def test_a_saved_model_says_the_same_everywhere(saved, model, tokenizer) -> None:
    with torch.no_grad():
        wanted = model(input_ids=BATCH.ids_BT[2:]).logits
        assert torch.equal(load_causal(saved)(input_ids=BATCH.ids_BT[2:]).logits, wanted)
        theirs = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
        assert torch.equal(theirs(input_ids=BATCH.ids_BT[2:]).logits, wanted)
    assert load_causal(saved, "bfloat16").dtype == torch.bfloat16
    assert max_positions(load_causal(saved)) == 64
    assert AutoTokenizer.from_pretrained(saved).chat_template == tokenizer.chat_template
    assert load_tokenizer(saved).encode("the cat") == tokenizer.encode("the cat")


def test_the_directory_holds_what_other_tools_expect(saved, tokenizer) -> None:
    names = {file.name for file in saved.iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "README.md",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    generation = GenerationConfig.from_pretrained(saved)
    assert generation.eos_token_id == [tokenizer.eos_token_id]
    assert generation.pad_token_id == tokenizer.pad_token_id
    config = json.loads((saved / "config.json").read_text())
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in load_file(saved / "model.safetensors")


def test_every_stop_id_is_written(tmp_path, tokenizer) -> None:
    model = new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_positions=16)
    model.generation_config.eos_token_id = [9, tokenizer.eos_token_id]
    save_model(model, tokenizer, tmp_path, CARD)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [tokenizer.eos_token_id, 9]


def test_the_card() -> None:
    _, front, body = CARD.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "base_model": "tiny",
        "datasets": ["lab"],
        "library_name": "transformers",
        "tags": ["accord", "rlhf", "ppo"],
    }
    assert body == "\n# A model\n\nTrained for a test.\n"
    assert "license" not in model_card(title="x", body="y")


def test_a_model_with_adapters_is_saved_merged(tmp_path, tokenizer) -> None:
    base = new_causal(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_positions=64)
    policy = CausalModel(add_lora(base, r=2))
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.2)
        before = policy(BATCH).logp_BT
        save_model(policy, tokenizer, tmp_path, CARD)
        assert (CausalModel(load_causal(tmp_path))(BATCH).logp_BT - before).abs().max() < 1e-5
        assert torch.equal(policy(BATCH).logp_BT, before)  # the model in memory keeps its adapters


def test_a_reward_model_scores_the_same_everywhere(tmp_path, model, tokenizer) -> None:
    reward = reward_from_causal(model, 3)
    set_score_stats(reward, -0.25, 1.5)
    save_model(reward, tokenizer, tmp_path, CARD)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert theirs.config.num_labels == 1
    assert theirs.config.pad_token_id == tokenizer.pad_token_id
    assert theirs.score.bias is None
    again = load_reward(tmp_path)
    assert score_stats(again.inner.config) == (-0.25, 1.5)
    with torch.no_grad():
        wanted = reward(BATCH).score_B
        # Not to the bit: products depend on how weights lie in memory, and those of a file lie otherwise.
        assert (again(BATCH).score_B - wanted).abs().max() < 1e-6
        for side in ("left", "right"):
            padded = tokenizer.pad({"input_ids": ROWS}, padding_side=side, return_tensors="pt", pad_to_multiple_of=16)
            assert padded["input_ids"].shape[1] == 16
            assert (theirs(**padded).logits.squeeze(-1) - wanted).abs().max() < 1e-6
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaForSequenceClassification"]


def test_a_language_model_is_no_reward_model(saved) -> None:
    with pytest.raises(ModelError, match=r"score\.weight"):
        load_reward(saved)


def test_a_classifier_is_no_reward_model(tmp_path, model, tokenizer) -> None:
    config = reward_from_causal(model, 0).inner.config
    config.num_labels = 2
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="one output"):
        load_reward(tmp_path)


def test_a_missing_directory(tmp_path) -> None:
    for name in (tmp_path / "nothing", str(tmp_path / "nothing"), "./nothing/here", "a/b/c"):
        for load in (load_causal, load_reward, load_tokenizer):
            with pytest.raises(ModelError, match="does not exist"):
                load(name)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="is a file"):
        load_causal(tmp_path / "file")


def test_not_a_model_directory(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_causal(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="LoRA adapters only"):
        load_causal(tmp_path)
    with pytest.raises(ModelError, match="no tokenizer"):
        load_tokenizer(tmp_path)


def test_pickled_weights_are_refused(broken) -> None:
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        load_causal(broken)
    (broken / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ModelError, match=r"pickled \(pytorch_model\.bin\)"):
        load_causal(broken)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 100, None])
def test_damaged_weights(broken, damage) -> None:
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000] if damage is None else damage)
    with pytest.raises(ModelError, match="damaged"):
        load_causal(broken)


def test_incomplete_weights(broken) -> None:
    file = broken / "model.safetensors"
    weights = load_file(file)
    del weights["model.norm.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"would be random: model\.norm\.weight"):
        load_causal(broken)


def test_weights_of_another_size(broken) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(ModelError):
        load_causal(broken)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_json(broken, name) -> None:
    (broken / name).write_text('{"a": ')
    with pytest.raises(ModelError, match=f"{name} is not valid JSON"):
        (load_tokenizer if name == "tokenizer.json" else load_causal)(broken)


def test_an_unknown_dtype(saved) -> None:
    with pytest.raises(ModelError, match="unknown dtype 'half'"):
        load_causal(saved, "half")


def test_a_tokenizer_too_large_for_the_model(saved, model, tmp_path) -> None:
    larger = train_tokenizer(["the cat sat on the mat"] * 3, 290)
    assert len(larger) > model.config.vocab_size
    with pytest.raises(ModelError, match=f"the model has {model.config.vocab_size} embeddings"):
        check_vocabulary(model, larger)
    with pytest.raises(ModelError):
        save_model(model, larger, tmp_path, CARD)
    check_vocabulary(model, load_tokenizer(saved))


def test_padding_must_be_a_token_of_its_own(tmp_path, tokenizer) -> None:
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "pad_token": "<|end|>"}))
    with pytest.raises(ModelError, match=r"pads with '<\|end\|>'"):
        load_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="not in the vocabulary"):
        load_tokenizer(tmp_path, pad_token="<|nothing|>")
    assert load_tokenizer(tmp_path, pad_token="<|pad|>").pad_token_id == tokenizer.pad_token_id
    file.write_text(json.dumps({key: value for key, value in config.items() if key != "pad_token"}))
    with pytest.raises(ModelError, match="no padding token"):
        load_tokenizer(tmp_path)


def test_a_head_that_does_more_is_refused(tmp_path, monkeypatch, saved) -> None:
    monkeypatch.setattr("accord.models.checkpoint.head_logits", lambda hf, hidden: hf.lm_head(hidden) * 1.5)
    with pytest.raises(ModelError, match="does more to its logits"):
        load_causal(saved)


def test_dropout_is_off(tmp_path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32)).save_pretrained(tmp_path)
    model = load_causal(tmp_path)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.0}
    assert model.config.attn_pdrop == model.config.resid_pdrop == 0.0
    assert max_positions(model) == 32


def test_a_full_disk_is_named(tmp_path, model, tokenizer) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactError, match="cannot be written"):
        save_model(model, tokenizer, tmp_path / "file", CARD)
