"""The command line: quick to start, helpful when something is wrong, never a traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from accord import __version__, cli
from accord.stages import STAGES

COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # pyright: ignore
CONFIG = """\
run: {name: mine}
sft:
  dataset: "lab:demonstrations"
ppo:
  prompts: "lab:prompts"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def accord(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the entry point in this process: (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["accord", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        shown = capsys.readouterr()
        code = caught.value.code
        return (code if isinstance(code, int) else 0), shown.out, re.sub(r"\x1b\[[0-9;]*m", "", shown.err)

    return run


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom accord.cli import main\nsys.argv = ['accord', '--help']\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        "heavy = {'torch', 'transformers', 'peft', 'numpy', 'scipy', 'pyarrow', 'matplotlib', 'tensorboard',\n"
        "         'tokenizers', 'datasets', 'accord.lab', 'accord.train'}\n"
        "print('loaded:', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
    for command in COMMANDS:
        assert re.search(rf"^\W*{command}\b", done.stdout, re.M), command


def test_an_ending_process_looks_for_no_garbage() -> None:
    code = (
        "import atexit, gc, sys\nfrom accord.cli import main\nsys.argv = ['accord', '--version']\n"
        "atexit.register(lambda: print('frozen:', gc.get_freeze_count() > 10_000))\n"  # the first one is called last
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "frozen: True"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(accord, command: str) -> None:
    code, out, err = accord(command, "--help")
    assert (code, err) == (0, "")
    assert f"accord {command}" in out


def test_stages_have_commands() -> None:
    """All but `split`, which runs when another stage needs it."""
    named = {"evaluate": "eval"}
    assert {named.get(name, name.replace("_", "-")) for name in STAGES} - {"split"} <= set(COMMANDS)


def test_version_and_no_arguments(accord) -> None:
    assert accord("--version")[:2] == (0, f"accord {__version__}\n")
    assert "Usage" in "".join(accord()[1:])


def test_options_lists_every_key(accord) -> None:
    code, out, _ = accord("options", "ppo")
    assert code == 0
    for key in STAGES["ppo"].config.model_fields:
        assert re.search(rf"^{key}(?:\.\w+)*  \(", out, re.M), key
    assert "kl_coef  (float >= 0; default 0.05)\n    beta of the KL penalty" in out
    assert "prompts  (text; required)" in out
    assert "seed  (" in accord("options", "run")[1]


def check_error(result: tuple[int, str, str], *texts: str) -> None:
    code, out, err = result
    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in out + err
    for text in texts:
        assert text in err


def test_options_of_no_stage(accord) -> None:
    check_error(accord("options", "pppo"), "no stage 'pppo'", "choose one of run, ", " ppo, ", " dpo, ")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_key_says_where_and_what_was_meant(accord, config: Path, command: str) -> None:
    config.write_text(CONFIG + "  kl_coeff: 0.1\n")
    check_error(accord(command, str(config)), "unknown key 'kl_coeff'", "'kl_coef'", "run.yaml:6")
    assert not (config.parent / "runs").exists()


def test_an_unknown_section_and_a_wrong_type(accord, config: Path) -> None:
    config.write_text(CONFIG + "rewrad: {}\n")
    check_error(accord("run", str(config)), "unknown section 'rewrad'", "'reward'", "run.yaml:6")
    config.write_text(CONFIG + "  num_rounds: many\n")
    check_error(accord("run", str(config)), "num_rounds", "'many'", "run.yaml:6")


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("ppo.kl_coeff=0.1", "did you mean 'kl_coef'?"),
        ("rewrad.beta=1", "did you mean 'reward'?"),
        ("ppo.kl_coef", "is not an override"),
        ("ppo.kl_coef=-1", "greater than or equal to 0"),
        ("ppo.kl_coef=[", "override"),
        ("=1", "override"),
    ],
)
def test_a_wrong_override_is_quoted(accord, config: Path, override: str, text: str) -> None:
    check_error(accord("plan", str(config), override), text, override)


def test_a_good_override_counts(accord, config: Path) -> None:
    code, out, _ = accord("plan", str(config), "sft.model_name_or_path=a/b", "ppo.reward_model=a/c", "ppo.kl_coef=0.7")
    assert code == 0
    assert "  kl_coef: 0.7\n" in out


def test_files_that_are_not_there(accord, config: Path) -> None:
    check_error(accord("run", "absent.yaml"), "does not exist", "absent.yaml", "accord init")
    check_error(accord("sft", "-c", "absent.yaml"), "does not exist")
    check_error(accord("dpo", "-c", str(config)), "no section 'dpo'", "sft, ppo")
    code, _, err = accord("show", "runs/absent")
    assert code == 4 and "no such run" in err and "Traceback" not in err


def test_stage_commands_take_plain_keys(accord, config: Path) -> None:
    check_error(accord("ppo", "-c", str(config), "kl_coeff=1"), "did you mean 'kl_coef'?", "ppo.kl_coeff=1")


def test_init_and_plan(accord, tmp_path: Path) -> None:
    code, out, _ = accord("init", str(tmp_path / "new"))
    assert code == 0
    assert str(tmp_path / "new" / "run.yaml") in out.splitlines()
    code, out, _ = accord("plan", str(tmp_path / "new" / "run.yaml"))
    assert code == 0 and "20 rounds = 80 steps" in out
    check_error(accord("init", str(tmp_path / "new")), "run.yaml exists already")


def test_errors_in_a_real_process_have_no_traceback(config: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "accord", "plan", str(config), "ppo.kl_coeff=1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown key 'kl_coeff'")
