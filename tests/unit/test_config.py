"""Run configs: YAML reading, overrides, error positions, round trips."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, model_validator

from accord.config import Config, RunSettings, describe, dump, load_object, load_run_config
from accord.errors import ConfigError
from accord.yamlfile import dump_yaml, load_yaml


class SamplingConfig(Config):
    """Nested."""

    temperature: float = Field(default=1.0, gt=0)
    """Softmax temperature."""
    stop: tuple[str, ...] = ()
    """Stop strings."""


class PpoConfig(Config):
    """A section."""

    kl_coef: float = Field(default=0.05, ge=0)
    """KL coefficient, nats to
    score units."""
    steps: int = Field(default=10, ge=1)
    """Rollouts."""
    mode: Literal["replace", "subtract"] = "replace"
    """What a missing end costs."""
    whiten: bool = True
    """Whiten rewards."""
    sampling: SamplingConfig = SamplingConfig()
    """Sampling."""
    weights: dict[str, float] = Field(default_factory=dict)
    """Weights of the parts."""
    note: str | None = None
    """Free text."""

    @model_validator(mode="after")
    def _cheap(self) -> PpoConfig:
        if self.steps > 1000 and self.whiten:
            raise ValueError("whitening is not for long runs")
        return self


class SftConfig(Config):
    """Another section, with a required key."""

    data: str
    """Where."""


SECTIONS: dict[str, type[Config]] = {"ppo": PpoConfig, "sft": SftConfig}


def load(tmp_path: Path, text: str, *overrides: str):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_run_config(path, overrides, SECTIONS)


def failure(tmp_path: Path, text: str, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, *overrides)
    return caught.value


def test_values_defaults_and_order_of_sections(tmp_path: Path) -> None:
    config = load(tmp_path, "run: {name: a, seed: 3}\nsft:\n  data: x\nppo:\n")
    assert config.run == RunSettings(name="a", dir="runs", seed=3, threads=None, description="")
    assert config.run.path == Path("runs/a")
    assert list(config.sections) == ["sft", "ppo"]
    assert config.sections["ppo"] == PpoConfig()


def test_run_name_defaults_to_the_name_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "ppo:\n").run.name == "run"
    assert load(tmp_path, "run:\nppo:\n").run.name == "run"


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-5", 1e-5),
        ("5.e-6", 5e-6),
        ("1E3", 1000.0),
        ("1_000.5", 1000.5),
        (".5", 0.5),
        ("7", 7.0),
        ("+2.", 2.0),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, text: str, value: float) -> None:
    config = load(tmp_path, f"ppo:\n  kl_coef: {text}\n")
    assert config.sections["ppo"] == PpoConfig(kl_coef=value)


@pytest.mark.parametrize("text, value", [("1e5", 10**5), ("010", 10), ("0x10", 16), ("0o10", 8), ("1_000", 1000)])
def test_whole_numbers_as_people_write_them(tmp_path: Path, text: str, value: int) -> None:
    config = load(tmp_path, f"ppo: {{steps: {text}, whiten: false}}")
    assert config.sections["ppo"] == PpoConfig(steps=value, whiten=False)


@pytest.mark.parametrize("text", ["no", "on", "off", "yes", "1:30", "2024-01-01", "'1e-5'", '"null"', "0o9", "e5"])
def test_words_that_yaml_1_1_would_change_stay_text(tmp_path: Path, text: str) -> None:
    config = load(tmp_path, f"ppo:\n  note: {text}\n")
    assert config.sections["ppo"] == PpoConfig(note=text.strip("'\""))


@pytest.mark.parametrize(
    "body, line, message",
    [
        (
            "ppo:\n  steps: 3\n  kl_coeff: 1",
            3,
            "unknown key 'kl_coeff' in section 'ppo' (did you mean 'kl_coef'?)",
        ),
        ("ppo:\n  zzz: 1", 2, "unknown key 'zzz' in section 'ppo' (known: kl_coef, steps, mode, whiten, "),
        (
            "ppo:\n\n  sampling:\n    temprature: 1",
            4,
            "unknown key 'temprature' in section 'ppo.sampling' (did you m",
        ),
        ("\nppoo:\n  steps: 3", 2, "unknown section 'ppoo' (did you mean 'ppo'?)"),
        ("ppo:\n  steps: many", 2, "ppo.steps: input should be a valid integer, got 'many'"),
        ("ppo:\n  steps: '3'", 2, "ppo.steps: input should be a valid integer, got '3'"),
        ("ppo:\n  steps: 2.5", 2, "ppo.steps: input should be a valid integer, got 2.5"),
        ("ppo:\n  steps: true", 2, "ppo.steps: input should be a valid integer, got True"),
        ("ppo:\n  whiten: yes", 2, "ppo.whiten: input should be a valid boolean, got 'yes'"),
        ("ppo:\n  steps: 0", 2, "ppo.steps: input should be greater than or equal to 1, got 0"),
        ("ppo:\n  kl_coef: .nan", 2, "ppo.kl_coef: input should be a finite number, got nan"),
        ("ppo:\n  kl_coef: -.inf", 2, "ppo.kl_coef: input should be"),
        ("ppo:\n  mode: drop", 2, "ppo.mode: input should be 'replace' or 'subtract', got 'drop'"),
        (
            "ppo:\n  sampling:\n    stop:\n    - a\n    - 3",
            5,
            "ppo.sampling.stop.1: input should be a valid string",
        ),
        ("ppo:\n  weights:\n    help: 1\n    harm: x", 4, "ppo.weights.harm: input should be a valid number"),
        ("ppo:\n  sampling: 3", 2, "ppo.sampling: "),
        ("sft:\n  {}", 1, "sft.data is required"),
        ("sft:", 1, "sft.data is required"),
        ("ppo: 3", 1, "section 'ppo' must be a mapping of keys, got 3"),
        ("ppo: [1]", 1, "section 'ppo' must be a mapping of keys, got [1]"),
        ("\nppo:\n  steps: 2000", 2, "ppo: whitening is not for long runs"),
        ("run: {name: ../up}", 1, "run.name: string should match pattern"),
        ("run:\n  seed: -1", 2, "run.seed: input should be greater than or equal to 0"),
        (
            "ppo:\n  steps: 1\n  whiten: false\n  steps: 2",
            4,
            "duplicate key 'steps': first on line 2, again on line 4",
        ),
        ("ppo:\nsft: {data: a}\nppo:", 3, "duplicate key 'ppo': first on line 1, again on line 3"),
        ("ppo:\n\tsteps: 1", 2, "not valid YAML: found character '\\t'"),
        ("ppo:\n  steps: [1", 2, "not valid YAML: expected ',' or ']'"),
        ("ppo: &a\n  steps: 1", 1, "not valid YAML: anchors and aliases"),
        (
            "ppo:\n  note: !!python/object:os.system {}",
            2,
            "'tag:yaml.org,2002:python/object:os.system' is not support",
        ),
        ("ppo:\n  note: !env HOME", 2, "'!env' is not supported"),
        ("ppo:\n  ? [a, b]\n  : 1", 2, "a key must be a single word"),
        ("ppo:\n  note: \x07", 2, "not valid YAML: character"),
        ("- ppo", 1, "the top level must be a mapping of sections, found a list"),
        ("hello", 1, "the top level must be a mapping of sections, found a single value"),
        ("ppo:\n---\nppo:", 2, "not valid YAML: but found another document"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, body: str, line: int, message: str) -> None:
    error = failure(tmp_path, body)
    assert error.what.startswith(message)
    assert error.where == f"{tmp_path / 'run.yaml'}:{line}"


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    text = "ppo:\n  steps: x\n  kl_coeff: 1\nfoo:\nsft:\n  data: 3\n"
    error = failure(tmp_path, text)
    assert error.what.startswith("4 problems")
    for line in (2, 3, 4, 6):
        assert f"run.yaml:{line}: " in error.what


def test_tabs_are_explained(tmp_path: Path) -> None:
    assert "spaces" in (failure(tmp_path, "ppo:\n\tsteps: 1").fix or "")


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "null\n", "\ufeff"])
def test_empty_files_are_refused(tmp_path: Path, text: str) -> None:
    assert "empty" in failure(tmp_path, text).what


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_run_config(tmp_path / "absent.yaml", [], SECTIONS)
    with pytest.raises(ConfigError, match="not a file"):
        load_run_config(tmp_path, [], SECTIONS)
    (tmp_path / "latin.yaml").write_bytes("ppo:\n  note: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        load_run_config(tmp_path / "latin.yaml", [], SECTIONS)
    assert caught.value.where == f"{tmp_path / 'latin.yaml'}:2"
    (tmp_path / "wide.yaml").write_bytes("ppo:\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_run_config(tmp_path / "wide.yaml", [], SECTIONS)
    (tmp_path / "deep.yaml").write_text("ppo: " + "[" * 5000)
    with pytest.raises(ConfigError, match="too deeply"):
        load_run_config(tmp_path / "deep.yaml", [], SECTIONS)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"\xef\xbb\xbfppo:\r\n  steps: 4\r\n")
    assert load_run_config(tmp_path / "run.yaml", [], SECTIONS).sections["ppo"] == PpoConfig(steps=4)


def test_overrides_apply_in_order_and_may_add_sections(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "ppo:\n  steps: 3\n",
        "ppo.kl_coef=1e-3",
        "ppo.sampling.stop=[a, b]",
        "ppo.steps=4",
        "ppo.steps=5",
        "run.seed=3",
        "run.name=other",
        "sft.data=x=y",
        "ppo.note=",
        "ppo.weights.help=2",
    )
    assert (config.run.seed, config.run.name) == (3, "other")
    assert config.sections["ppo"] == PpoConfig(
        steps=5, kl_coef=1e-3, sampling=SamplingConfig(stop=("a", "b")), weights={"help": 2.0}
    )
    assert config.sections["sft"] == SftConfig(data="x=y")


def test_an_override_can_repair_a_bad_value(tmp_path: Path) -> None:
    assert load(tmp_path, "ppo:\n  steps: bad\n", "ppo.steps=2").sections["ppo"] == PpoConfig(steps=2)
    assert load(tmp_path, "ppo: bad\n", "ppo=").sections["ppo"] == PpoConfig()


@pytest.mark.parametrize(
    "override, message",
    [
        ("ppo.kl_coeff=1", "unknown key 'kl_coeff' in section 'ppo' (did you mean 'kl_coef'?)"),
        ("pppo.kl_coef=1", "unknown section 'pppo' (did you mean 'ppo'?)"),
        ("ppo.steps=many", "ppo.steps: input should be a valid integer, got 'many'"),
        ("ppo.steps.deep=1", "'ppo.steps' is not a mapping"),
        ("ppo.steps", "an override must look like section.key=value"),
        ("=3", "an override must look like"),
        ("ppo..steps=3", "an override must look like"),
        ("ppo.steps=[", "not valid YAML"),
        ("ppo.steps={a: 1, a: 2}", "duplicate key 'a'"),
    ],
)
def test_mistakes_in_overrides_name_the_override(tmp_path: Path, override: str, message: str) -> None:
    error = failure(tmp_path, "ppo:\n  steps: 3\n", override)
    assert error.what.startswith(message)
    assert (error.where or "").startswith(f"override {override!r}")


def test_an_override_that_hides_a_bad_nested_key_takes_its_position(tmp_path: Path) -> None:
    error = failure(tmp_path, "ppo:\n  sampling:\n    stop: [a]\n", "ppo.sampling={stop: [1]}")
    assert (error.where or "").startswith("override 'ppo.sampling=")


def test_a_file_name_that_is_no_run_name_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "my run.yaml"
    path.write_text("ppo:\n")
    with pytest.raises(ConfigError, match=r"run\.name") as caught:
        load_run_config(path, [], SECTIONS)
    assert "run.name is not given" in (caught.value.where or "")


def test_configs_are_frozen(tmp_path: Path) -> None:
    config = load(tmp_path, "ppo:\n")
    with pytest.raises(ValueError, match="frozen"):
        config.run.seed = 4  # type: ignore[misc]


texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=20),
    st.sampled_from(["1e-5", "yes", "0o17", "1:30", "null", "~", "", " a ", "#x", "a: b", "2024-01-01", "=", "<<"]),
)


@settings(max_examples=60, deadline=None)
@given(
    note=st.none() | texts,
    stop=st.lists(texts, max_size=3),
    kl_coef=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    steps=st.integers(1, 1000),
    weights=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_dump_loads_back_equal(tmp_path_factory, note, stop, kl_coef, steps, weights) -> None:
    path = tmp_path_factory.mktemp("dump") / "run.yaml"
    section = PpoConfig(
        note=note, kl_coef=kl_coef, steps=steps, weights=weights, sampling=SamplingConfig(stop=tuple(stop))
    )
    path.write_text(dump_yaml({"ppo": section.model_dump(mode="json")}), encoding="utf-8")
    first = load_run_config(path, [], SECTIONS)
    assert first.sections["ppo"] == section
    path.write_text(dump(first), encoding="utf-8")
    assert load_run_config(path, [], SECTIONS) == first


def test_special_floats_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [.inf, -.INF, .nan, 1" + "0" * 50 + "]")
    values = load_yaml(tmp_path / "a.yaml").data["a"]
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])
    assert values[3] == 1e50


def test_describe_lists_every_key() -> None:
    rows = {row.name: row for row in describe(PpoConfig, "ppo.")}
    assert rows["ppo.kl_coef"].type == "float >= 0"
    assert rows["ppo.kl_coef"].default == "0.05"
    assert rows["ppo.kl_coef"].description == "KL coefficient, nats to score units."
    assert rows["ppo.mode"].type == "replace | subtract"
    assert rows["ppo.sampling.temperature"].type == "float > 0"
    assert rows["ppo.sampling.stop"] == ("ppo.sampling.stop", "list of text", "[]", "Stop strings.")
    assert rows["ppo.note"][1:3] == ("text | null", "null")
    assert rows["ppo.weights"][1:3] == ("mapping of text to float", "{}")
    assert describe(SftConfig)[0] == ("data", "text", "", "Where.")


def test_load_object() -> None:
    assert load_object("accord.config:Config") is Config
    assert load_object("accord.config:Config.model_dump") == Config.model_dump
    with pytest.raises(ConfigError, match="did you mean 'Config'"):
        load_object("accord.config:Confg")
    with pytest.raises(ConfigError, match="cannot import 'accord_absent'"):
        load_object("accord_absent:x")
    for spec in ("accord.config", ":x", "a b:c", "accord.config:", "a..b:c"):
        with pytest.raises(ConfigError, match="does not name an object"):
            load_object(spec)


def test_load_object_explains_a_module_that_does_not_parse(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "broken_rewards.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="cannot import 'broken_rewards'"):
        load_object("broken_rewards:f")
