"""Every stop id of a model stops, not only the first of its list."""

from __future__ import annotations

import pytest

from accord.engines.stops import cut


@pytest.mark.parametrize("stop_ids", [(7, 9), (9, 7), (7, 8, 9)])
def test_any_stop_id_ends_a_reply_and_stays_in_it(stop_ids):
    found = cut([1, 2, 9, 3, 7], stop_ids=stop_ids, stop=(), decode=lambda ids: "".join(map(str, ids)))
    assert found == (3, "12", "stop")
