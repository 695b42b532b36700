"""Rules about the pages' source: nothing that turns text into elements, nothing inline, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "src" / "accord" / "collect" / "app"
SCRIPTS = sorted((APP / "static").glob("*.js"))
TEMPLATES = sorted((APP / "templates").glob("*.html"))
SINKS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
    r"|\beval\(|new Function|srcdoc"
)


def test_there_is_something_to_check() -> None:
    assert len(SCRIPTS) > 20 and len(TEMPLATES) >= 7


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_elements_only_one_by_one(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(SINKS, text) == []
    assert text.isascii()
    assert len(text.splitlines()) <= 400
    assert path.name == "theme.js" or text.startswith("// @ts-check")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_only_each_other_by_relative_path(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for pair in re.findall(r"""(?:^import .*|^\} )from "([^"]+)"|\bimport\("([^"]+)"\)""", text, re.MULTILINE):
        name = pair[0] or pair[1]
        assert name.startswith("./") and (path.parent / name).is_file(), name


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_nothing_inline_and_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", text) == []
    assert re.findall(r"(?:src|href|action)=[\"']?(?:https?:)?//", text) == []
    assert "|safe" not in text.replace(" ", ""), "text of people and models is always escaped"
    for form in re.findall(r"<form[^>]*method=.post.*?</form>", text, re.DOTALL):
        assert 'name="csrf"' in form


def test_the_stylesheet_loads_nothing_from_elsewhere() -> None:
    text = (APP / "static" / "style.css").read_text(encoding="utf-8")
    assert "@import" not in text
    names = re.findall(r"url\(\"?([^\")]+)", text)
    assert names and all((APP / "static" / name).is_file() for name in names)
