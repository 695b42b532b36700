"""Mistakes in configs, commands, references and data."""

from __future__ import annotations

import gzip
from typing import Any

from bad_input_site import DEMONSTRATIONS, PAIRS, TRAIN, Case, Site, jsonl

from accord.errors import ArtifactError, ConfigError, DataError

SFT = "sft: {model_name_or_path: base, dataset: demos.jsonl}\n"


def text(content: str | bytes, *overrides: str) -> Any:
    """The config is this text."""
    return lambda site: ["run", site.file("run.yaml", content), f"run.dir={site.dir / 'runs'}", *overrides]


def key(section: str, name: str, value: Any) -> Any:
    """One value of a config is wrong."""

    def make(site: Site) -> list[str]:
        required: dict[str, Any] = {
            "sft": {"dataset": "demos.jsonl"},
            "pretrain": {"dataset": "lab:corpus"},
            "ppo": {"prompts": "lab:prompts"},
            "evaluate": {"prompts": "lab:prompts"},
            "sample": {"prompts": "lab:prompts"},
            "split": {"dataset": "demos.jsonl"},
        }
        return site.run({section: {**required[section], name: value}})

    return make


def named(name: str) -> Any:
    """The run has this name."""
    return lambda site: site.run({"sft": {"dataset": "demos.jsonl"}}, name=name)


def sections(found: dict[str, dict[str, Any]]) -> Any:
    """The run has these sections."""
    return lambda site: site.run(found)


def data(name: str, content: bytes, **keys: Any) -> Any:
    """Fine-tune on this file."""
    return lambda site: site.sft(dataset=site.file(name, content), **keys)


def pairs(*rows: Any, **keys: Any) -> Any:
    """Train a reward model on these rows."""
    return lambda site: site.reward(dataset=site.rows("bad.jsonl", *rows), **keys)


def lab(reference: str) -> Any:
    """Fine-tune on a data set of the lab."""
    return lambda site: site.sft(dataset=reference)


def occupied_run(site: Site) -> list[str]:
    site.file("runs", "a file")
    return site.sft()


def occupied_partial(site: Site) -> list[str]:
    site.file("runs/bad", "a file")
    return site.sft()


def occupied_starter(site: Site) -> list[str]:
    site.file("run.yaml", "mine: true\n")
    return ["init", str(site.dir)]


def two_shards(site: Site) -> list[str]:
    site.rows("many/train.jsonl", *DEMONSTRATIONS)
    site.rows("many/other.jsonl", *PAIRS)
    return site.sft(dataset=str(site.dir / "many"))


def damaged_index(site: Site) -> list[str]:
    site.file("runs/bad/run.json", "{")
    return ["show", str(site.dir / "runs/bad")]


def split(**keys: Any) -> Any:
    """Cut a data set in two."""

    def make(site: Site) -> list[str]:
        dataset = site.rows("demos.jsonl", *DEMONSTRATIONS)
        return site.run({"split": {"dataset": dataset, **keys}})

    return make


def missing_part(site: Site) -> list[str]:
    dataset = site.rows("pairs.jsonl", *PAIRS)
    reward = {"model_name_or_path": str(site.kit / "sft"), "dataset": "split:trian", **TRAIN}
    return site.run({"split": {"dataset": dataset, "test_fraction": 0.5}, "reward": reward})


def no_model_made(site: Site) -> list[str]:
    split = {"dataset": site.rows("demos.jsonl", *DEMONSTRATIONS), "test_fraction": 0.5}
    return site.run({"split": split, "sft": {"model_name_or_path": "split", "dataset": "split", **TRAIN}})


GOOD = jsonl(*DEMONSTRATIONS)
LONG = {"prompt": "Name a fish. " * 200, "completion": "Trout."}
KTO = [{"prompt": f"Q{i}?", "completion": "a", "label": True} for i in range(4)]
TIES = [{"prompt": f"Q{i}?", "chosen": "yes", "rejected": "no", "soft": 0.5} for i in range(4)]
CIRCLE = {
    "sft": {"model_name_or_path": "dpo", "dataset": "demos.jsonl"},
    "dpo": {"model_name_or_path": "sft", "dataset": "pairs.jsonl"},
}

CONFIGS = [
    Case("missing file", ConfigError, ("does not exist",), lambda s: ["run", str(s.dir / "no.yaml")]),
    Case("config is a directory", ConfigError, ("not a file",), lambda s: ["run", str(s.dir)]),
    Case("empty config", ConfigError, ("empty",), text("")),
    Case("no stage", ConfigError, ("no stage",), text("run: {name: bad}\n")),
    Case("a list", ConfigError, ("must be a mapping of sections", "run.yaml:1"), text("- sft\n")),
    Case("not UTF-8", ConfigError, ("not UTF-8 (byte 0xe9)", "run.yaml:2"), text(b"run:\n  name: caf\xe9\n")),
    Case("not YAML", ConfigError, ("not valid YAML", "run.yaml:2"), text("sft: {a: 1\nrun: b"), fix=False),
    Case("tabs", ConfigError, ("run.yaml:2", "indent with spaces"), text("sft:\n\tdataset: a\n")),
    Case("duplicate key", ConfigError, ("duplicate key 'sft'", "run.yaml:2"), text(SFT + SFT)),
    Case("anchor", ConfigError, ("anchors and aliases",), text("sft: &a {dataset: b}\n"), fix=False),
    Case("unknown section", ConfigError, ("did you mean 'sft'?", "run.yaml:1"), text("sfft: {}\n"), fix=False),
    Case(
        "unknown key",
        ConfigError,
        ("unknown key 'learning_rat' in section 'sft'", "did you mean 'learning_rate'?", "run.yaml:"),
        key("sft", "learning_rat", 1e-3),
        fix=False,
    ),
    Case("text for a number", ConfigError, ("learning_rate", "'fast'"), key("sft", "learning_rate", "fast"), fix=False),
    Case("number for text", ConfigError, ("sft.dataset", "17"), key("sft", "dataset", 17), fix=False),
    Case("null", ConfigError, ("sft.dataset",), text("sft:\n  dataset:\n"), fix=False),
    Case("required key", ConfigError, ("sft.dataset is required",), text("sft: {}\n"), fix=False),
    Case("section is text", ConfigError, ("must be a mapping",), text("sft: lab\n"), fix=False),
    Case("below range", ConfigError, ("greater than 0", "-1"), key("sft", "learning_rate", -1.0), fix=False),
    Case("NaN", ConfigError, ("finite number",), text("sft: {dataset: a, weight_decay: .nan}\n"), fix=False),
    Case("unknown word", ConfigError, ("'drop'", "cut"), key("sft", "overlong", "cut"), fix=False),
    Case("one-token rows", ConfigError, ("max_length",), key("sft", "max_length", 1), fix=False),
    Case("beta of 1", ConfigError, ("adam_beta1", "less than 1"), key("sft", "adam_beta1", 1.0), fix=False),
    Case("no prompts", ConfigError, ("num_prompts",), key("evaluate", "num_prompts", 0), fix=False),
    Case("no rows", ConfigError, ("num_rows",), key("split", "num_rows", 0), fix=False),
    Case("no steps", ConfigError, ("max_steps",), key("sft", "max_steps", 0), fix=False),
    Case("no models", ConfigError, ("models",), key("sample", "models", {}), fix=False),
    Case("vocabulary", ConfigError, ("vocab_size", "264"), key("pretrain", "vocab_size", 100), fix=False),
    Case("heads", ConfigError, ("hidden_size 30", "even multiple"), key("pretrain", "hidden_size", 30), fix=False),
    Case("key heads", ConfigError, ("multiple of",), key("pretrain", "num_key_value_heads", 3), fix=False),
    Case("longer than positions", ConfigError, ("2048 positions",), key("pretrain", "max_length", 4096), fix=False),
    Case("empty minibatches", ConfigError, ("larger than",), key("ppo", "num_mini_batches", 65), fix=False),
    Case("baseline", ConfigError, ("'gpt' is not one of",), key("evaluate", "baseline", "gpt"), fix=False),
    Case("path as a name", ConfigError, ("run.name", "'a/b'"), named("a/b"), fix=False),
    Case("parent as a name", ConfigError, ("run.name", "'..'"), named(".."), fix=False),
    Case("section suffix", ConfigError, ("sft_a b",), sections({"sft_a b": {"dataset": "demos.jsonl"}})),
    Case("bare override", ConfigError, ("'sft' is not an override",), text(SFT, "sft"), where=False),
    Case("override of nothing", ConfigError, ("must look like",), text(SFT, "sft.=3"), fix=False),
    Case(
        "override of an unknown key",
        ConfigError,
        ("did you mean 'max_steps'?", "override 'sft.max_step=3'"),
        text(SFT, "sft.max_step=3"),
        fix=False,
    ),
    Case("override below a value", ConfigError, ("not a mapping",), text(SFT, "sft.dataset.a=3"), fix=False),
    Case("override not YAML", ConfigError, ("not valid YAML",), text(SFT, "sft.max_steps=[3"), fix=False),
    Case("circle", ConfigError, ("in a circle: sft -> dpo -> sft",), sections(CIRCLE)),
    Case("two problems", ConfigError, ("2 problems", "sft.dataset", "'b'"), text("sft: {b: 1}\n"), fix=False),
    Case("stage not in the run", ConfigError, ("'pretrain' is neither",), lambda s: s.sft("pretrain")),
    Case(
        "missing path", ConfigError, ("neither a stage", "run.yaml: sft.dataset"), lambda s: s.sft(dataset="./no.csv")
    ),
    Case("empty reference", ConfigError, ("sft.dataset",), lambda s: s.sft(dataset=" ")),
    Case("no model in it", ConfigError, ("'split' makes no model",), no_model_made, "sft"),
    Case("no such part", ConfigError, ("trian", "test, train"), missing_part, "reward"),
]

COMMANDS = [
    Case("show nothing", ArtifactError, ("no such run",), lambda s: ["show", str(s.dir / "no")]),
    Case("show no run", ArtifactError, ("not a run",), lambda s: ["show", str(s.dir)]),
    Case("show a damaged index", ArtifactError, ("run.json is damaged",), damaged_index),
    Case("report nothing", ArtifactError, ("no such run",), lambda s: ["report", str(s.dir / "no")]),
    Case("plan nothing", ConfigError, ("does not exist",), lambda s: ["plan", str(s.dir / "no.yaml")]),
    Case("plan a circle", ConfigError, ("in a circle",), lambda s: ["plan", *s.run(CIRCLE)[1:]]),
    Case("plan a missing input", ConfigError, ("neither a stage",), lambda s: ["plan", *s.sft(dataset="./no")[1:]]),
    Case("init over a file", ConfigError, ("run.yaml", "not overwritten"), occupied_starter, where=False),
    Case("init in a file", ArtifactError, ("directory",), lambda s: ["init", s.file("a", "b")]),
    Case("unknown options", ConfigError, ("no stage 'sfft'",), lambda s: ["options", "sfft"], where=False),
    Case("section not there", ConfigError, ("no section 'ppo'",), lambda s: ["ppo", "-c", s.sft()[1]]),
    Case("runs is a file", ArtifactError, ("directory", "runs"), occupied_run),
    Case("run is a file", ArtifactError, ("directory", "bad"), occupied_partial),
]

DATA = [
    Case("truncated JSON", DataError, ("cut off", "bad.jsonl:5"), data("bad.jsonl", GOOD + GOOD[:30]), "sft"),
    Case("UTF-16", DataError, ("UTF-16", "bad.jsonl:1"), data("bad.jsonl", GOOD.decode().encode("utf-16")), "sft"),
    Case(
        "latin-1",
        DataError,
        ("byte 0xe9", "bad.jsonl:5"),
        data("bad.jsonl", GOOD + '{"prompt": "caf\u00e9"}\n'.encode("latin-1")),
        "sft",
    ),
    Case("empty file", DataError, ("empty", "bad.jsonl"), data("bad.jsonl", b""), "sft"),
    Case("header only", DataError, ("no rows", "bad.csv"), data("bad.csv", b"prompt,completion\n"), "sft"),
    Case("cut gzip", DataError, ("damaged or cut off",), data("bad.jsonl.gz", gzip.compress(GOOD)[:-4]), "sft"),
    Case("unknown columns", DataError, ("a, b", "map"), data("bad.jsonl", jsonl({"a": "x", "b": "y"})), "sft"),
    Case(
        "column missing",
        DataError,
        ("'completion' is missing", "bad.jsonl:5", "max_bad_rows"),
        data("bad.jsonl", GOOD + jsonl({"prompt": "Q?"})),
        "sft",
    ),
    Case(
        "column of another type",
        DataError,
        ("'completion' is a number", "bad.jsonl:5"),
        data("bad.jsonl", GOOD + jsonl({"prompt": "Q?", "completion": 3})),
        "sft",
    ),
    Case(
        "empty completion",
        DataError,
        ("'completion' is empty", "bad.jsonl:5"),
        data("bad.jsonl", GOOD + jsonl({"prompt": "Q?", "completion": ""})),
        "sft",
    ),
    Case("questions only", DataError, ("Demonstration", "completion"), data("q.jsonl", jsonl({"prompt": "Q?"})), "sft"),
    Case("text as preferences", DataError, ("Preference",), pairs({"text": "a"}), "reward"),
    Case("several data sets", DataError, ("many",), two_shards, "sft"),
    Case(
        "identical replies",
        DataError,
        ("identical",),
        pairs({"prompt": "Q?", "chosen": "a", "rejected": "a"}),
        "reward",
    ),
    Case("only ties", DataError, ("ties",), pairs(*TIES), "reward"),
    Case("only ties for DPO", DataError, ("ties",), lambda s: s.dpo(dataset=s.rows("t.jsonl", *TIES)), "dpo"),
    Case(
        "one label only",
        DataError,
        ("all 4 labels are true",),
        lambda s: s.run({"split": {"dataset": s.rows("k.jsonl", *KTO)}}),
        "split",
    ),
    Case(
        "row too long",
        DataError,
        ("max_length is 64", "overlong"),
        data("long.jsonl", jsonl(LONG), overlong="error"),
        "sft",
    ),
    Case(
        "all rows too long",
        DataError,
        ("longer than max_length 64", "raise max_length"),
        data("long.jsonl", jsonl(LONG)),
        "sft",
    ),
    Case(
        "all pairs too long",
        DataError,
        ("longer than max_length 64",),
        pairs({**PAIRS[0], "prompt": LONG["prompt"]}),
        "reward",
    ),
    Case("all rows held out", DataError, ("eval_fraction",), data("d.jsonl", GOOD, eval_fraction=0.999999), "sft"),
    Case(
        "all text held out",
        DataError,
        ("eval_fraction",),
        lambda s: s.run({"pretrain": {"dataset": "lab:corpus?num=3", "eval_fraction": 0.999999}}),
        "pretrain",
    ),
    Case("lab misspelt", ConfigError, ("lab:demos", "lab:demonstrations"), lab("lab:demos"), "sft"),
    Case("lab number", ConfigError, ("num and seed are integers",), lab("lab:demonstrations?num=ten"), "sft"),
    Case("lab option", ConfigError, ("nmu",), lab("lab:demonstrations?nmu=10"), "sft"),
    Case("lab blank option", ConfigError, ("num",), lab("lab:demonstrations?num="), "sft"),
    Case("lab of nothing", ConfigError, ("num",), lab("lab:demonstrations?num=0"), "sft"),
    Case("lab of less", ConfigError, ("num",), lab("lab:demonstrations?num=-3"), "sft"),
    Case("lab split", ConfigError, ("split",), lambda s: s.sample(prompts="lab:prompts?split=tests"), "sample"),
    Case("lab of another kind", DataError, ("Demonstration",), lab("lab:corpus?num=3"), "sft"),
    Case("lab as a model", ConfigError, ("lab:base",), lambda s: s.sft("lab:base"), "sft"),
    Case("unknown test model", DataError, ("gpt",), split(test_models=["gpt"]), "split"),
    Case("empty test part", DataError, ("no row is left", "test_fraction"), split(test_fraction=1e-6), "split"),
]
