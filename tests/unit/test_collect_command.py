"""`accord collect ...`: the commands of the site, and the stage of the same name that they share it with."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from accord import cli
from accord.collect import gold, people, reading
from accord.collect.app.serve import only_server, shared_note
from accord.collect.database import Store, open_store
from accord.collect.verdicts import Verdict
from accord.errors import AccordError, ConfigError
from accord.listening import address_of, listen

ROWS = [{"prompt": f"Question {n}?", "responses": [f"Good {n}.", f"Bad {n}."]} for n in range(3)]


@pytest.fixture
def accord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `accord collect ...` in this process, in an empty directory: what it printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    def run(*arguments: str, stdin: str = "") -> str:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        cli.app(["collect", *arguments], standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_a_database_is_made_filled_looked_at_and_written_out(accord: Any, tmp_path: Path) -> None:
    made = accord("init")
    token = re.search(r"/join/(\S+)", made)
    assert token and "labels.db" in made
    assert "3 added" in accord("import", "tasks.jsonl")
    assert "0 added, 3 known" in accord("import", "tasks.jsonl")
    assert json.loads(accord("status", "--json"))["tasks"]["total"] == 3
    shown = accord("status").splitlines()
    assert shown[:3] == ["project default", "", "tasks                3  0 done, 3 open, 0 to decide, 0 closed"]
    assert "  pair               3  0 done" in shown
    # Tasks in the random slice want three labels; which ones are in it depends on the project's seed.
    wanted = [line.split()[-1] for line in shown if line.startswith("labels still wanted")]
    assert len(wanted) == 1 and int(wanted[0]) in (3, 5, 7, 9)
    (tmp_path / "rules.md").write_text("# Rules\n")
    assert accord("guidelines", "rules.md") == "version 1\n"
    assert accord("guidelines").startswith("# Rules")
    assert "the chain is whole" in accord("verify")


def test_people_and_keys(accord: Any, tmp_path: Path) -> None:
    accord("init")
    assert "ada: admin" in accord(
        "user", "add", "Ada", "--role", "admin", "--password-stdin", stdin="long enough pass\n"
    )
    accord("user", "add", "bob", "--group", "north", "--group", "young")
    secret = accord("key", "make", "bob", "--scope", "annotate", "--scope", "read").strip()
    link = accord("invite", "--role", "adjudicator", "--base-url", "https://labels.example/").strip()
    with open_store(tmp_path / "labels.db") as store:
        assert people.authenticate(store, "ada", "long enough pass") is not None
        user, scopes = people.key_user(store, secret) or (None, ())
        assert user is not None and (user.handle, user.groups) == ("bob", ("north", "young"))
        assert sorted(scopes) == ["annotate", "read"]
        assert link.startswith("https://labels.example/join/")
        invited = people.read_invitation(store, link.rsplit("/", 1)[1])
        assert invited is not None and invited.role == "adjudicator"
    listed = accord("user", "list")
    assert "bob\tannotator\tnorth,young" in listed
    prefix = accord("key", "list").split("\t")[1]
    assert secret not in accord("key", "list")
    accord("key", "revoke", prefix)
    accord("user", "password", "ada", stdin="another long one\n")
    accord("user", "disable", "bob")
    with open_store(tmp_path / "labels.db") as store:
        assert people.key_user(store, secret) is None
        assert people.authenticate(store, "ada", "long enough pass") is None
        assert people.authenticate(store, "ada", "another long one") is not None
        assert people.get_user(store, "bob").disabled
    accord("user", "disable", "bob", "--undo")
    assert "disabled" not in accord("user", "list")


def test_a_link_is_revoked_by_itself_or_by_its_id(accord: Any, tmp_path: Path) -> None:
    accord("init")
    links = accord("invite", "--count", "2", "--group", "north").split()
    accord("invitation", "revoke", links[0])
    listed = accord("invitation", "list").splitlines()
    assert sorted(row.split("\t")[3].split()[0] for row in listed) == ["ended", "until", "until"]
    (open_one,) = [row.split("\t")[0] for row in listed if "annotator\tnorth\tuntil" in row]
    accord("invitation", "revoke", open_one)
    with open_store(tmp_path / "labels.db") as store:
        assert [people.read_invitation(store, link.rsplit("/", 1)[1]) for link in links] == [None, None]


def test_a_missing_database_ends_like_any_missing_file(accord: Any) -> None:
    for arguments in (("status", "--db", "missing.db"), ("import", "missing.jsonl", "--db", "missing.db")):
        with pytest.raises(AccordError) as error:
            accord(*arguments)
        assert error.value.exit_code == 3
    with pytest.raises(AccordError) as error:
        cli.app(["agree", "missing.db"], standalone_mode=False)
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--db", "missing.db"), "no such database"),
        (("invitation", "revoke", "nothing"), "nothing"),
        (("import", "missing.jsonl"), "missing.jsonl"),
        (("user", "disable", "nobody"), "nobody"),
        (("guidelines",), "no guidelines"),
        (("guidelines", "missing.md"), "missing.md"),
        (("key", "make", "nobody", "--scope", "read"), "nobody"),
        (("key", "revoke", "nothing"), "nothing"),
        (("init", "--db", "mysql://x/y"), "mysql"),
        (("status", "--project", "other"), "other"),
        (("import", "prompts.jsonl"), "no row could be used"),
        (("import", "tasks.jsonl", "-o", "kindd=pair"), "there is no key kindd"),
        (("export", "out", "-o", "splits.train=0.9", "-o", "splits.test=0.2"), "splits are positive and sum to 1"),
        (("export", "out", "-o", "combine.agregate=soft"), "there is no key combine.agregate"),
        (("export", "labels.csv"), "not written as .csv"),
        (("quiz", "tasks.jsonl"), "no questions with a right answer"),
        (("init", "--db", "new.db", "--guidelines", "missing.md"), "no such file"),
        (("--config", "missing.yaml"), "missing.yaml"),
        (("missing.yaml",), "missing.yaml"),
    ],
)
def test_mistakes_are_named(accord: Any, arguments: tuple[str, ...], said: str) -> None:
    accord("init")
    Path("prompts.jsonl").write_text('{"prompt": "Without replies?"}\n')
    with pytest.raises(AccordError, match=re.escape(said)):
        accord(*arguments)
    assert not Path("new.db").exists()


def test_a_quiz_is_made_from_a_file_of_right_answers(accord: Any, tmp_path: Path) -> None:
    accord("init")
    pairs = [{"prompt": f"1 + {n}?", "chosen": str(n + 1), "rejected": "7", "explanation": "sum"} for n in range(3)]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    assert accord("quiz", "quiz.jsonl").startswith("3 questions added; an attempt has 3, 80% right passes")
    accord("user", "add", "ann")
    with open_store(tmp_path / "labels.db") as store:
        ann = people.get_user(store, "ann").id
        asked = gold.quiz(store, "default", ann)
        right = {
            item.id: Verdict(kind="pair", position=0 if item.candidates[0].text != "7" else 1) for item in asked.items
        }
        done = gold.answer_quiz(store, "default", ann, right)
    assert done.passed and {one.note for one in done.explain} == {"sum"}


def test_scopes_named_in_the_help_exist_and_keys_are_listed_with_their_owner(accord: Any, tmp_path: Path) -> None:
    accord("init")
    accord("user", "add", "bob")
    for scope in ("annotate", "read", "import", "export", "admin"):
        assert scope in accord("key", "make", "--help")
        accord("key", "make", "bob", "--scope", scope, "--name", f"to {scope}")
    assert "\tbob\tto read" in accord("key", "list")


def test_a_changed_database_is_noticed(accord: Any, tmp_path: Path) -> None:
    import sqlite3

    accord("init")
    with sqlite3.connect(tmp_path / "labels.db") as db:
        for (name,) in db.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            db.execute(f'drop trigger "{name}"')
        db.execute("update event set verb = 'nothing' where seq = 1")
    db.close()
    with pytest.raises(AccordError, match="changed from outside"):
        accord("verify")


def test_the_stage_of_the_same_name_is_still_there(accord: Any, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("run: {name: mine}\nsft: {dataset: 'lab:demonstrations'}\n")
    for arguments in (("--config", "run.yaml"), ("-c", "run.yaml"), ("run.yaml",)):
        with pytest.raises(AccordError, match="no section 'collect'"):
            accord(*arguments)
    with pytest.raises(AccordError, match="unknown key 'wrong'"):
        accord("run.yaml", "wrong=1")
    assert "run.yaml" in accord("--help") and "serve" in accord("--help")


def test_help_imports_no_web_framework_and_no_database() -> None:
    code = (
        "import sys\nfrom accord.cli import main\nsys.argv = ['accord', *sys.argv[1:], '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('loaded:', *sorted({'fastapi', 'sqlalchemy', 'alembic', 'httpx', 'uvicorn'} & set(sys.modules)))"
    )
    for arguments in ((), ("collect",), ("collect", "serve")):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "loaded:"


def test_the_port_is_taken_before_the_address_is_printed_and_without_nagle() -> None:
    taken = listen("127.0.0.1", 0)
    assert taken.proto == socket.IPPROTO_TCP
    port = taken.getsockname()[1]
    assert address_of(taken) == f"http://127.0.0.1:{port}"
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    with pytest.raises(ConfigError, match="cannot listen"):
        listen("127.0.0.1", port)
    taken.close()


def test_a_second_server_on_one_sqlite_file_is_refused(accord: Any) -> None:
    accord("init")
    with open_store("labels.db") as store:
        with only_server(store), pytest.raises(ConfigError, match=f"process {os.getpid()} on .* serves this database"):
            accord("serve", "--port", "0", "--tasks", "tasks.jsonl")
        assert reading.progress(store, "default").tasks.total == 0, "refused before anything is imported"
        with only_server(store):
            pass


def test_servers_that_share_a_database_say_what_they_count_alone() -> None:
    assert shared_note(cast(Store, SimpleNamespace(dialect="sqlite"))) is None
    assert "each counts requests and failed logins" in (
        shared_note(cast(Store, SimpleNamespace(dialect="postgresql"))) or ""
    )


def test_serving_needs_no_configuration_and_stops_politely(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command = [sys.executable, "-m", "accord", "collect", "serve", "--db", "labels.db", "--tasks", "samples.jsonl"]
    process = subprocess.Popen(
        [*command, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = ""
    while "labelling site:" not in said:
        line = process.stdout.readline()
        assert line, process.communicate()
        said += line
    base = re.search(r"labelling site: (http://127\.0\.0\.1:\d+)", said)
    link = re.search(r"this link works once\): (\S+)", said)
    assert base and link and "3 added" in said
    with httpx.Client(base_url=base[1], follow_redirects=True) as browser:
        page = browser.get(link[1])
        csrf = re.search(r'name="csrf" value="(\w+)"', page.text)
        assert csrf
        form = {"csrf": csrf[1], "handle": "boss", "password": "long enough pass", "consent": "yes"}
        joined = browser.post(link[1], data=form)
        assert joined.status_code == 200 and joined.url.path == "/admin"
        assert browser.get("/api/v1/admin/progress").json()["tasks"]["total"] == 3
        assert browser.get(link[1]).status_code == 404
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, ""), out


def test_a_start_that_fails_leaves_the_first_link_alone_and_a_new_project_is_named(
    accord: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    link = re.search(r"/join/(\S+)", accord("init"))
    Path("prompts.jsonl").write_text('{"prompt": "Without replies?"}\n')
    with pytest.raises(AccordError, match="no row could be used"):
        accord("serve", "--port", "0", "--project", "defualt", "--tasks", "prompts.jsonl")
    assert "project defualt is new and empty; the database has default" in capsys.readouterr().err
    with open_store("labels.db") as store:
        assert link is not None and people.read_invitation(store, link[1]) is not None
