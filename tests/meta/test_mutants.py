"""The catalogue of seeded faults (`make mutants`) fits the code as it is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutants.catalogue import MUTANTS
from mutants.mutant import Mutant, StaleError, mutated

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("file", sorted({mutant.file for mutant in MUTANTS}))
def test_every_fault_can_be_seeded(file: str) -> None:
    stale = []
    for mutant in (m for m in MUTANTS if m.file == file):
        try:
            ast.parse(mutated(mutant))
        except (StaleError, SyntaxError) as error:
            stale.append(f"{mutant.fault}: {error}")
    assert stale == [], "change the catalogue in tests/mutants together with the code"


def test_the_catalogue_is_large_and_names_tests_that_exist() -> None:
    assert len(MUTANTS) >= 60
    assert len({(m.file, m.original, m.replacement) for m in MUTANTS}) == len(MUTANTS)
    missing = {test for m in MUTANTS for test in m.tests if not (TESTS / test.partition("::")[0]).is_file()}
    assert missing == set()
    assert all(m.tests for m in MUTANTS)


def test_a_text_that_is_not_there_exactly_once_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "accord" / "some.py"
    path.parent.mkdir()
    path.write_text("a = 1\nb = 1\n")
    assert mutated(Mutant("some.py", "", "a = 1", "a = 2", ()), tmp_path) == "a = 2\nb = 1\n"
    for original in (" = 1", "c = 1"):
        with pytest.raises(StaleError, match="not once"):
            mutated(Mutant("some.py", "", original, "", ()), tmp_path)
    with pytest.raises(StaleError, match="not there any more"):
        mutated(Mutant("other.py", "", "a", "b", ()), tmp_path)
    with pytest.raises(StaleError, match="nothing is changed"):
        mutated(Mutant("some.py", "", "a = 1", "a = 1", ()), tmp_path)
