"""The garbage collector is held still while records are made, and left as it was found."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from accord.memory import no_collection


def interrupted() -> None:
    with no_collection():
        assert not gc.isenabled()
        raise KeyError


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_left_as_it_was_also_after_an_error(on: bool) -> None:
    was_on = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        with pytest.raises(KeyError):
            interrupted()
        assert gc.isenabled() == on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_only_what_the_first_stage_imports_is_left_out_of_the_walks() -> None:
    code = (
        "import gc\nfrom accord.stages import STAGES\n"
        "STAGES['report'].load()\nassert gc.get_freeze_count() == 0\n"  # no torch: nothing worth it
        "STAGES['sft'].load()\nfrozen = gc.get_freeze_count()\nassert frozen > 100_000 and gc.isenabled()\n"
        "data = [[] for _ in range(1000)]\nSTAGES['collect'].load()\nassert gc.get_freeze_count() <= frozen\n"
        "assert any(o is data for o in gc.get_objects())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
