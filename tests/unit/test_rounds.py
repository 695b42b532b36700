"""Rounds: a config becomes ordinary sections with the right inputs, and mistakes point at the line that was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.cli import load
from accord.config import RunConfig, dump
from accord.errors import ConfigError
from accord.pipeline import order, references
from accord.planning import arithmetic, steps

BASE = """\
rounds:
  count: 3
  stages: [sample, collect, reward, ppo]
sft:
  model_name_or_path: someone/base
  dataset: lab:demonstrations?num=10
sample:
  prompts: lab:prompts?num=10
  num_prompts: 4
collect:
  annotators: lab
reward:
  max_steps: 3
ppo:
  prompts: lab:prompts?num=10
  kl_coef: 0.2
evaluate:
  models: {sft: sft, tuned: ppo}
  prompts: lab:prompts?num=10&split=eval
report: {}
"""


def read(tmp_path: Path, text: str = BASE, *overrides: str) -> RunConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, list(overrides))


def inputs(config: RunConfig) -> dict[str, dict[str, str]]:
    """Section -> field -> reference, lab sets aside."""
    found = {name: references(section) for name, section in config.sections.items()}
    return {
        name: {field: ref for field, (_, ref) in fields.items() if not ref.startswith("lab:")}
        for name, fields in found.items()
    }


def test_rounds_become_sections_with_the_inputs_of_their_round(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert inputs(config) == {
        "sft": {"model_name_or_path": "someone/base"},
        "sample": {"models.sft": "sft"},
        "collect": {"samples": "sample"},
        "reward": {"model_name_or_path": "sft", "dataset": "collect"},
        "ppo": {"model_name_or_path": "sft", "reward_model": "reward"},
        "sample_2": {"models.ppo": "ppo"},
        "collect_2": {"samples": "sample_2", "earlier": "collect"},
        "reward_2": {"model_name_or_path": "sft", "dataset": "collect_2"},
        "ppo_2": {"model_name_or_path": "sft", "reward_model": "reward_2"},
        "sample_3": {"models.ppo_2": "ppo_2"},
        "collect_3": {"samples": "sample_3", "earlier": "collect_2"},
        "reward_3": {"model_name_or_path": "sft", "dataset": "collect_3"},
        "ppo_3": {"model_name_or_path": "sft", "reward_model": "reward_3"},
        "evaluate": {
            "models.sft": "sft",
            "models.tuned": "ppo",
            "models.tuned_2": "ppo_2",
            "models.tuned_3": "ppo_3",
        },
        "report": {},
    }
    assert order(config) == list(config.sections), "each round comes after the one before, the report last"
    assert {config.sections[name].kl_coef for name in ("ppo", "ppo_2", "ppo_3")} == {0.2}  # type: ignore[attr-defined]


def test_one_round_is_the_file_without_rounds(tmp_path: Path) -> None:
    one = read(tmp_path, BASE, "rounds.count=1")
    plain = read(tmp_path, BASE.partition("sft:")[1] + BASE.partition("sft:")[2])
    assert one.sections == plain.sections


def test_a_section_of_a_round_changes_single_keys_of_it(tmp_path: Path) -> None:
    config = read(tmp_path, BASE + "ppo_3:\n  kl_coef: 0.7\n", "ppo_2.gamma=0.9")
    assert [config.sections[s].kl_coef for s in ("ppo", "ppo_2", "ppo_3")] == [0.2, 0.2, 0.7]  # type: ignore[attr-defined]
    assert [config.sections[s].gamma for s in ("ppo", "ppo_2", "ppo_3")] == [1.0, 0.9, 1.0]  # type: ignore[attr-defined]
    assert inputs(config)["ppo_3"] == {"model_name_or_path": "sft", "reward_model": "reward_3"}
    assert list(config.sections)[-1] == "report"


def test_only_new_labels_new_prompts_and_policies_that_go_on(tmp_path: Path) -> None:
    options = ("rounds.labels=new", "rounds.prompts=next", "rounds.continued=[ppo]")
    found = inputs(config := read(tmp_path, BASE, *options))
    assert [found[s] for s in ("collect_2", "collect_3")] == [{"samples": "sample_2"}, {"samples": "sample_3"}]
    starts = [found[s]["model_name_or_path"] for s in ("ppo", "ppo_2", "ppo_3")]
    assert starts == ["sft", "ppo", "ppo_2"]
    assert [config.sections[s].skip_prompts for s in ("sample", "sample_2", "sample_3")] == [0, 4, 8]  # type: ignore[attr-defined]


def test_other_models_that_are_sampled_stay_and_the_policy_can_be_chosen(tmp_path: Path) -> None:
    text = BASE.replace("sample:\n", "sample:\n  models: {start: sft, other: a/b}\n").replace(
        "stages: [sample, collect, reward, ppo]", "stages: [sample, collect, reward, ppo, dpo]\n  policy: ppo"
    )
    found = inputs(read(tmp_path, text.replace("evaluate:", "dpo: {}\nevaluate:")))
    assert found["sample_2"] == {"models.start": "ppo", "models.other": "a/b"}
    assert found["dpo_2"] == {"model_name_or_path": "sft", "dataset": "collect_2"}


def test_rounds_of_best_of_n_and_sft(tmp_path: Path) -> None:
    text = """\
rounds: {count: 2, stages: [best_of_n, sft_best], continued: [sft_best]}
sft: {model_name_or_path: a/b, dataset: "lab:demonstrations?num=10"}
reward: {dataset: some/preferences}
best_of_n: {prompts: "lab:prompts?num=10"}
sft_best: {model_name_or_path: sft, dataset: "best_of_n:demonstrations"}
"""
    found = inputs(read(tmp_path, text))
    assert found["best_of_n_2"] == {"model_name_or_path": "sft_best", "reward_model": "reward"}
    assert found["sft_best_2"] == {"model_name_or_path": "sft_best", "dataset": "best_of_n_2:demonstrations"}


def test_what_is_dumped_loads_again(tmp_path: Path) -> None:
    small = BASE.replace("reward, ppo", "ppo").replace("reward:\n  max_steps: 3\n", "")
    config = read(tmp_path, small, "ppo.reward_model=some/rm")
    again = read(tmp_path, dump(config))
    assert again == config
    assert again.rounds is not None and again.rounds.count == 3


def test_a_wrong_key_is_said_once_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, BASE.replace("kl_coef: 0.2", "kl_cof: 0.2"))
    line = BASE.splitlines().index("  kl_coef: 0.2") + 1
    assert str(caught.value).count("kl_cof'") == 1
    assert f"run.yaml:{line}" in str(caught.value)


def test_a_wrong_key_of_one_round_has_the_line_of_that_round(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, BASE + "ppo_2:\n  kl_cof: 1\n")
    assert f"run.yaml:{len(BASE.splitlines()) + 2}" in str(caught.value)
    assert "'ppo_2'" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("count: 3", "count: 0"), "greater than or equal to 1"),
        (("[sample, collect, reward, ppo]", "[sample, collect, reward, pppo]"), "not a stage"),
        (("[sample, collect, reward, ppo]", "[sample, dpo]"), "no such section"),
        (("[sample, collect, reward, ppo]", "[sample, collect, reward]"), "trains a policy"),
        (("[sample, collect, reward, ppo]", "[ppo, ppo]"), "named twice"),
        (("count: 3", "count: 3\n  policy: dpo"), "not one of the stages"),
        (("count: 3", "count: 3\n  continued: [reward]"), "makes no policy"),
        (("count: 3", "cont: 3"), "did you mean 'count'"),
        (("annotators: lab", "annotators: people\n  labels: labels.jsonl"), "every round needs its own"),
        (("  num_prompts: 4\n", "  models: {other: a/b}\n"), "does not draw from the model"),
    ],
)
def test_mistakes_are_named_with_a_line_of_the_file(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path, BASE.replace(*change))
    assert "run.yaml:" in str(caught.value)


def test_next_prompts_need_a_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="how many a round takes"):
        read(tmp_path, BASE.replace("  num_prompts: 4\n", ""), "rounds.prompts=next")


def test_labels_of_people_may_have_a_file_a_round(tmp_path: Path) -> None:
    text = BASE.replace("annotators: lab", "annotators: people\n  labels: one.jsonl").replace("count: 3", "count: 2")
    config = read(tmp_path, text + "collect_2:\n  labels: two.jsonl\n")
    assert config.sections["collect_2"].labels == "two.jsonl"  # type: ignore[attr-defined]


def test_the_plan_says_how_many_replies_are_chosen_from(tmp_path: Path) -> None:
    text = """\
sft: {model_name_or_path: a/b, dataset: "lab:demonstrations?num=10"}
expert: {prompts: "lab:prompts?num=10", reward_model: "lab:gold", num_generations: 6, num_rounds: 5, num_epochs: 2}
best_of_n: {prompts: "lab:prompts?num=10", reward_model: "lab:gold", num_generations: 5, num_prompts: 7}
"""
    expert, best = arithmetic(read(tmp_path, text))[1:]
    assert "64 prompts x 6 replies = 384 replies a round" in expert and "5 rounds = 10 steps" in expert
    assert "7 prompts x 5 replies = 35 replies" in best


def test_the_plan_has_the_rounds_in_order(tmp_path: Path) -> None:
    found = steps(read(tmp_path))
    assert [s.section for s in found][1:5] == ["sample", "collect", "reward", "ppo"]
    (second,) = (s for s in found if s.section == "collect_2")
    assert second.inputs == ("samples: sample_2", "earlier: collect")
    assert second.status == "to do, after sample_2, collect"


def test_the_recipe_loads_and_is_three_rounds() -> None:
    config = load(Path(__file__).parents[2] / "recipes" / "lab" / "rounds.yaml", [])
    assert order(config) == list(config.sections)
    assert inputs(config)["evaluate"] == {
        "models.sft": "sft",
        "models.ppo": "ppo",
        "models.ppo_2": "ppo_2",
        "models.ppo_3": "ppo_3",
        "answers.best_of_8": "best_of_n",
    }
