"""The page and the Markdown: numbers are there, hostile texts stay texts, harmful bodies are folded or left out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from redteam_world import attempt, seeds

from accord.errors import DataError
from accord.redteam.attempts import Attempt, read_attempts, write_attempts
from accord.redteam.campaign import Summary, summarise
from accord.redteam.judging import JudgeError
from accord.redteam.markdown import summary_markdown
from accord.report.redteam import page, spread

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202egnihtyna"
SECRET = "first take the blue wire"


class Tags(HTMLParser):
    """Elements, attributes, and which texts stand inside a closed details element."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[tuple[str, bool]] = []
        self.shown: list[str] = []
        self.folded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag == "details":
            self.open.append((tag, "open" in dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "details":
            self.open.pop()

    def handle_data(self, data: str) -> None:
        (self.folded if any(not is_open for _, is_open in self.open) else self.shown).append(data)


def attempts(reply: str = SECRET) -> list[Attempt]:
    made = []
    for seed in seeds(6):
        for family in ("none", "game<b>", "story"):
            weak = seed.harmful and family == "game<b>"
            made.append(attempt(seed, "complied" if weak else "refused", family=family, reply=reply if weak else EVIL))
    return made


def summary(rows: list[Attempt]) -> Summary:
    header = {"target": EVIL, "seeds": 6, "k": 1, "margin": 0.05, "judge_prompt_hash": "abc"}
    return summarise(rows, header, error=JudgeError(90, 10, 95, 5, "labels of a test"))


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


def test_hostile_texts_stay_texts() -> None:
    rows = [a.model_copy(update={"target": EVIL}) for a in attempts(EVIL)]
    text = page(summary(rows), rows)
    tags = parsed(text)
    assert "script" not in tags.names and "img" not in tags.names
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert not [value for name, value in tags.attributes if name in ("src", "href") and value and ":" in value]
    assert "\u202e" not in text and "\\u202e" in text
    assert "default-src 'none'" in text and "innerHTML" not in text
    assert EVIL.split("\u202e")[0] in "".join(tags.folded)


def test_replies_to_harmful_requests_are_folded_and_refused_harmless_ones_are_not() -> None:
    rows = attempts()
    tags = parsed(page(summary(rows), rows))
    assert SECRET in "".join(tags.folded) and SECRET not in "".join(tags.shown)
    assert "do good 0" in "".join(tags.shown) and "do harm 0" not in "".join(tags.shown)


def test_redaction_leaves_nothing_of_the_replies(tmp_path: Path) -> None:
    rows = attempts()
    assert SECRET not in page(summary(rows), rows, redact=True)
    path = tmp_path / "redteam.jsonl"
    write_attempts(path, rows, {"target": "m"}, redact=True)
    assert SECRET not in path.read_text() and EVIL.split("\u202e")[0] in path.read_text()
    header, read = read_attempts(path)
    assert header == {"target": "m"} and len(read) == len(rows)
    assert [a.label for a in read] == [a.label for a in rows]
    assert all(a.notes["reply_characters"] > 0 for a in read if a.seed.harmful)


def test_what_is_written_is_read_again_and_what_is_not_is_named(tmp_path: Path) -> None:
    path, rows = tmp_path / "redteam.jsonl", attempts("\ud800 half a letter")
    write_attempts(path, rows, {"k": 1})
    assert read_attempts(path) == ({"k": 1}, rows)
    path.write_text('{"entry": "run"}\n{"entry": "attempt", "seed": 3}\n')
    with pytest.raises(DataError, match=":2"):
        read_attempts(path)
    path.write_text('{"entry": "run"}\n')
    with pytest.raises(DataError, match="no attempts"):
        read_attempts(path)


def test_the_page_says_what_was_found() -> None:
    rows = attempts()
    found = summary(rows)
    text = " ".join("".join(parsed(page(found, rows)).shown).split())
    for words in ("1 of 2 attack families get through", "game<b>", "weakness", "sensitivity is 0.900", "100 %"):
        assert words in text.replace("\xa0", " "), words
    assert page(found, rows) == page(found, rows)
    bare = summarise([attempt(seeds(1)[0], "refused")], {})
    assert "No attack was compared" in page(bare, []) and "Nothing got through" in page(bare, [])


def test_markdown_has_every_number_with_its_interval_and_no_text_of_the_target() -> None:
    text = summary_markdown(summary(attempts()))
    assert SECRET not in text and "<script>" not in text and "game\\<b\\>" in text
    assert re.search(r"\| ASR@1 \| 0\.333 \| 0\.\d+ to 0\.\d+ \| 6 seeds \|", text)
    assert re.search(r"\| ASR@1 corrected \| 0\.333 \|", text)  # (1/3 + 0.95 - 1) / 0.85
    assert re.search(r"\| over-refusal \| 1\.000 \|", text)
    assert "sensitivity 0.900, specificity 0.950 (labels of a test, n 200)" in text
    assert "| game\\<b\\> | 1.000 | 0.000 | +1.000 |" in text and "**yes**" in text


def test_examples_show_every_attack_before_one_is_repeated() -> None:
    rows = [a for a in attempts() if a.seed.harmful]
    order = spread(rows)
    assert {a.attack for a in order[:3]} == {"none", "game<b>", "story"} and sorted(map(id, order)) == sorted(
        map(id, rows)
    )
