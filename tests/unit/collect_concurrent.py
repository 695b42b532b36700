"""Many calls at the same moment."""

from __future__ import annotations

import threading
from typing import Any


def at_once(count: int, work: Any) -> list[Any]:
    """Results, or errors, of `work(i)` in `count` threads that start together."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = work(i)
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
