"""The garbage collector is held still while records are made, and left as it was found."""

from __future__ import annotations

import gc

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
