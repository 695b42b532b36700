"""Compares pairs with a judge at an address, to be killed: `python judged_run.py URL CACHE NUMBER CONCURRENCY`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accord.judges.client import ChatClient, Limits
from accord.judges.llm import LLMJudge
from mock_model import pairs

if __name__ == "__main__":
    url, cache, number, concurrency = sys.argv[1:]
    with ChatClient(url, "judge", cache=Path(cache), limits=Limits(concurrency=int(concurrency))) as client:
        found = LLMJudge(client).compare(pairs(int(number)))
    print(json.dumps([c.p for c in found]))
